//! A reqwest client that finds its services by name.

mod names;
mod read;
mod timed;

use std::{
    error::Error as StdError,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method, Request, Response};
use registry_core::{CallError, CallOptions, Client, Endpoint, Instance};
use reqwest::{Body, IntoUrl, ResponseBuilderExt, Url};
use tokio::time::Instant;
use tower_service::Service;

use self::{names::Names, read::Read, timed::timed};
use crate::{
    BoxError,
    classify::{Classify, ClassifyHttp},
    connect::{Connect, NotSent},
    replay::Replay,
    service::{Balanced, ServiceError},
};

/// How long the first request to a service waits for its first view.
const FIRST_VIEW: Duration = Duration::from_secs(5);

/// A `reqwest` client for which `http://orders/lines` goes to a picked instance of the service `orders`, at its
/// port, and to another one if that fails.
///
/// A host of one label and without a port is a service's name, except `localhost`; any other URL goes where it would
/// go without this; a port that is the scheme's own, as in `http://db:80/`, can't be told from none.
/// [`hosts`](Self::hosts) sets another rule. As URLs have them in lower case, so must the registry.
///
/// With `http://` the endpoint's scheme counts, not the URL's. With `https://` only `https` endpoints are used, whatever
/// the registry says: an instance without one is passed over, for another, and isn't blamed. An `https` endpoint must bear the certificate's name.
///
/// Each name that is asked for is watched, up to 1,024 at a time: beyond that the least recently used one gives way, before
/// others one without instances. After an hour without a request, or a minute if it has no instances, a name gives way
/// to any other one. Where URLs are somebody else's, such as those of webhooks, a rule of your own
/// ([`hosts`](Self::hosts)) keeps their hosts apart from services.
///
/// Requests are retried as by [`Balanced`], and a pick is held until the response's body ends. Timeouts of `reqwest` hold
/// for each attempt; one that runs out while the body is read counts against the instance only if at least half of the
/// time went into waiting for it.
///
/// Redirects are followed by `reqwest` and aren't balanced: 307 and 308 only for requests without a body, and the
/// response's `url()` is that of the request, not where redirects led to. A connection that fails after a redirect is no
/// reason to repeat the request, unless that is [`Idempotent`](crate::Idempotent), by its method or by an `idempotency-key`.
///
/// ```
/// # use registry_tower::ServiceClient;
/// # async fn example(client: registry_core::Client) -> Result<(), registry_tower::BoxError> {
/// // Before the servers close them: a `POST` that meets the end of a connection isn't repeated.
/// let http = reqwest::Client::builder().pool_idle_timeout(std::time::Duration::from_secs(15)).build()?;
/// let http = ServiceClient::new(&client, http);
/// let lines = http.get("http://orders/lines?of=7").send().await?.error_for_status()?.text().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ServiceClient {
    http: reqwest::Client,
    names: Arc<Names>,
    hosts: Arc<HostRule>,
    classify: Arc<dyn Classify>,
    options: CallOptions,
}

type HostRule = dyn Fn(&Url) -> Option<String> + Send + Sync;

/// One request of a [`ServiceClient`].
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct ServiceRequest {
    client: ServiceClient,
    builder: reqwest::RequestBuilder,
}

/// Why a [`ServiceClient`]'s request failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum RequestError {
    /// No instance answered.
    Call(ServiceError),
    /// The request is malformed, or went to no service and failed.
    Http(reqwest::Error),
}

impl ServiceClient {
    /// Finds services through `client` and talks to them through `http`.
    #[must_use]
    pub fn new(client: &Client, http: reqwest::Client) -> Self {
        Self {
            http,
            names: Arc::new(Names::new(client)),
            hosts: Arc::new(single_label),
            classify: Arc::new(ClassifyHttp),
            options: CallOptions::new(),
        }
    }

    /// Another rule for which URLs mean a service, and which.
    #[must_use]
    pub fn hosts(mut self, rule: impl Fn(&Url) -> Option<String> + Send + Sync + 'static) -> Self {
        self.hosts = Arc::new(rule);
        self
    }

    /// Other rules for what counts as failed, and what is retried. For services not asked for yet.
    #[must_use]
    pub fn classify(mut self, classify: impl Classify) -> Self {
        self.classify = Arc::new(classify);
        self
    }

    /// How calls are made. For services not asked for yet.
    #[must_use]
    pub fn options(mut self, options: CallOptions) -> Self {
        self.options = options;
        self
    }

    /// Starts a `GET`.
    pub fn get(&self, url: impl IntoUrl) -> ServiceRequest {
        self.request(Method::GET, url)
    }

    /// Starts a `POST`.
    pub fn post(&self, url: impl IntoUrl) -> ServiceRequest {
        self.request(Method::POST, url)
    }

    /// Starts a `PUT`.
    pub fn put(&self, url: impl IntoUrl) -> ServiceRequest {
        self.request(Method::PUT, url)
    }

    /// Starts a `DELETE`.
    pub fn delete(&self, url: impl IntoUrl) -> ServiceRequest {
        self.request(Method::DELETE, url)
    }

    /// Starts a request.
    pub fn request(&self, method: Method, url: impl IntoUrl) -> ServiceRequest {
        ServiceRequest { client: self.clone(), builder: self.http.request(method, url) }
    }

    /// Sends a request. While nothing is known of the service it waits for that, up to 5 s or its own timeout.
    ///
    /// # Errors
    /// [`RequestError`]. A status is no error: see [`error_for_status`](reqwest::Response::error_for_status).
    ///
    /// # Cancel safety
    /// Dropped, the attempt under way is given up.
    pub async fn execute(&self, request: reqwest::Request) -> Result<reqwest::Response, RequestError> {
        let Some(service) = (self.hosts)(request.url()) else {
            return self.http.execute(request).await.map_err(RequestError::Http);
        };
        let url = request.url().clone();
        let within = request.timeout().map_or(FIRST_VIEW, |timeout| FIRST_VIEW.min(*timeout));
        let balanced = self.balanced(&service, url.scheme() == "https", within).await;
        let mut balanced = balanced.map_err(RequestError::Call)?;
        let request: Request<Body> = request.try_into().map_err(RequestError::Http)?;
        let answer = balanced.call(request).await.map_err(RequestError::Call)?;
        let (mut head, body) = answer.into_parts();
        // A response of reqwest's knows its URL by an extension that only this builder makes.
        if let Ok(with_url) = Response::builder().url(url).body(()) {
            head.extensions.extend(with_url.into_parts().0.extensions);
        }
        Ok(Response::from_parts(head, Body::wrap(body)).into())
    }

    /// The service of this name, once something is known of it.
    async fn balanced(
        &self,
        service: &str,
        is_tls: bool,
        within: Duration,
    ) -> Result<Balanced<Pool>, ServiceError> {
        let balanced = self.names.get(service, is_tls, |upstream| {
            Balanced::new(upstream, Pool { http: self.http.clone(), is_tls })
                .classify_by(Arc::clone(&self.classify))
                .options(self.options.clone())
        });
        let balanced = balanced.map_err(CallError::NoInstance)?;
        let upstream = balanced.upstream();
        if upstream.snapshot().version() == 0 {
            upstream.ready_within(0, within).await.map_err(CallError::NoInstance)?;
        }
        Ok(balanced)
    }
}

impl ServiceRequest {
    /// Adds a header.
    pub fn header(
        self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Self {
        self.with(|builder| match (name.try_into(), value.try_into()) {
            (Ok(name), Ok(value)) => builder.header(name, value),
            // reqwest keeps the fault until it is sent.
            _ => builder.header("", ""),
        })
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.with(|builder| builder.body(body))
    }

    /// Limits each attempt.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|builder| builder.timeout(timeout))
    }

    /// Whatever else reqwest's own builder can do: `with(|request| request.json(&order))`.
    pub fn with(mut self, edit: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder) -> Self {
        self.builder = edit(self.builder);
        self
    }

    /// Sends it.
    ///
    /// # Errors
    /// As for [`ServiceClient::execute`].
    ///
    /// # Cancel safety
    /// As for [`ServiceClient::execute`].
    pub async fn send(self) -> Result<reqwest::Response, RequestError> {
        let request = self.builder.build().map_err(RequestError::Http)?;
        self.client.execute(request).await
    }
}

/// The service that a URL means: its host, if that is a single label.
fn single_label(url: &Url) -> Option<String> {
    let host = url.domain()?;
    let is_service = !host.contains('.') && host != "localhost" && url.port().is_none();
    is_service.then(|| host.to_owned())
}

/// All instances share reqwest's own pool, which is by host and port.
#[derive(Clone, Debug)]
struct Pool {
    http: reqwest::Client,
    /// Whether the caller wants TLS: a record can't turn it off.
    is_tls: bool,
}

impl Connect for Pool {
    type Service = Self;

    fn endpoint<'a>(&self, instance: &'a Instance) -> &'a Endpoint {
        let spoken = |endpoint: &&Endpoint| match endpoint.scheme() {
            "https" => true,
            "http" => !self.is_tls,
            _ => false,
        };
        instance.endpoints().iter().find(spoken).unwrap_or_else(|| instance.endpoint())
    }

    fn connect(&self, _: &Instance, endpoint: &Endpoint) -> Result<Self, BoxError> {
        if self.is_tls && endpoint.scheme() != "https" {
            return Err(format!("the instance has no https endpoint, but {endpoint}").into());
        }
        Ok(self.clone())
    }
}

impl Service<Request<Replay<Body>>> for Pool {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Replay<Body>>) -> Self::Future {
        let client = self.http.clone();
        let (head, body) = request.into_parts();
        Box::pin(async move {
            let (read, body) = Read::watch(body);
            let request = Request::from_parts(head, Body::wrap(body));
            let request = reqwest::Request::try_from(request)?;
            let began = Instant::now();
            let answer = client.execute(request).await;
            let answer = answer.map_err(|error| marked(error, read.is_untouched()))?;
            Ok(timed(answer.into(), began))
        })
    }
}

/// The error, so that a [`Classify`] that knows nothing of reqwest can tell what it is.
///
/// No connection may mean that of a redirect, which came after the request was processed; reqwest doesn't tell, so the
/// body has to.
fn marked(error: reqwest::Error, is_untouched: bool) -> BoxError {
    if error.is_connect() && is_untouched {
        return NotSent::new(error).into();
    }
    if error.is_timeout() {
        return io::Error::new(io::ErrorKind::TimedOut, error).into();
    }
    error.into()
}

impl fmt::Debug for ServiceClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceClient")
            .field("names", &self.names)
            .field("classify", &self.classify)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
        }
    }
}

impl StdError for RequestError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // Their messages are this error's own.
        match self {
            Self::Call(error) => error.source(),
            Self::Http(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests;
