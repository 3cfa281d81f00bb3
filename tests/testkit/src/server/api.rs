//! HTTP as tests speak it to a server, beside the client under test.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::ServerError;

/// Long enough for a server that is just starting, short enough for one that has no leader and never answers.
const CALL: Duration = Duration::from_secs(5);
/// What is read of an answer.
const ANSWER: usize = 16 * 1024 * 1024;

/// A server's HTTP API, for what a test does behind the back of the client under test.
///
/// A call is a connection of its own, so that it never meets one that a fault has left behind. It fails when there is
/// no answer within 5 s, or as [`within`](Self::within) says; an answer with any status is an answer.
#[derive(Clone, Debug)]
pub struct HttpApi {
    address: SocketAddr,
    headers: Vec<(String, String)>,
    within: Duration,
}

impl HttpApi {
    /// The API at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, headers: Vec::new(), within: CALL }
    }

    /// The same through another address, such as a [`Proxy`](crate::Proxy)'s.
    #[must_use]
    pub fn via(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// The same with a header on every request; it replaces one of the same name.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let mut api = self.without_header(name);
        api.headers.push((name.to_owned(), value.to_owned()));
        self = api;
        self
    }

    /// The same without a header.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    /// The same with another bound on each call.
    #[must_use]
    pub fn within(mut self, bound: Duration) -> Self {
        self.within = bound;
        self
    }

    /// Asks for `path`, which begins with a slash and may have a query.
    ///
    /// # Errors
    ///
    /// When there is no answer in time.
    pub async fn get(&self, path: &str) -> Result<HttpAnswer, ServerError> {
        self.call("GET", path, "").await
    }

    /// Sends `body`: JSON when it begins like JSON, else a form; none when it is empty.
    ///
    /// # Errors
    ///
    /// When there is no answer in time.
    pub async fn put(&self, path: &str, body: impl Into<String> + Send) -> Result<HttpAnswer, ServerError> {
        self.call("PUT", path, body).await
    }

    /// As [`put`](Self::put).
    ///
    /// # Errors
    ///
    /// When there is no answer in time.
    pub async fn post(&self, path: &str, body: impl Into<String> + Send) -> Result<HttpAnswer, ServerError> {
        self.call("POST", path, body).await
    }

    /// Deletes `path`.
    ///
    /// # Errors
    ///
    /// When there is no answer in time.
    pub async fn delete(&self, path: &str) -> Result<HttpAnswer, ServerError> {
        self.call("DELETE", path, "").await
    }

    /// Any method; the body as in [`put`](Self::put).
    ///
    /// # Errors
    ///
    /// When there is no answer in time.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        body: impl Into<String> + Send,
    ) -> Result<HttpAnswer, ServerError> {
        let failed = || ServerError::new(format!("{method} {path} at {}", self.address));
        match timeout(self.within, self.exchange(method, path, body.into())).await {
            Ok(exchanged) => exchanged.map_err(|error| failed().with_source(error)),
            Err(_) => Err(failed().with_source(format!("no answer within {:?}", self.within))),
        }
    }

    async fn exchange(&self, method: &str, path: &str, body: String) -> Result<HttpAnswer, Failure> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes())?)
            .uri(path)
            .header("host", self.address.to_string())
            .header("connection", "close");
        if !body.is_empty() {
            request = request.header("content-type", media_type(&body));
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;

        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        let exchange = async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER).collect().await?.to_bytes();
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let headers =
                head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
            Ok(HttpAnswer { status: head.status.as_u16(), headers, body: text(&body) })
        };
        // Driven here and not in a task: it ends with the call, whatever becomes of that.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            ended = connection => {
                ended?;
                exchange.await
            }
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn media_type(body: &str) -> &'static str {
    if body.starts_with(['{', '[', '"']) { "application/json" } else { "application/x-www-form-urlencoded" }
}

/// What a server answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// All headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; bytes that are no UTF-8 are replaced.
    pub body: String,
}

impl HttpAnswer {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// The answer itself when it is a success.
    ///
    /// # Errors
    ///
    /// When the status is not 2xx, with the body as output.
    pub fn success(self) -> Result<Self, ServerError> {
        if self.is_success() {
            Ok(self)
        } else {
            Err(ServerError::new(format!("the server answered {}", self.status)).with_output(self.body))
        }
    }
}
