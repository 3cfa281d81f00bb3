//! A pool of plain HTTP connections per instance.

use std::{
    fmt, io,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri, Version, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use registry_core::{Endpoint, Instance};
use tower_service::Service;

use crate::{
    BoxError,
    connect::{Connect, NotSent},
    replay::Replay,
};

/// Longest time to open a connection. Instances are near; the next one is asked instead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time a connection is kept unused. A request that meets the server's closing of it is lost, and not repeated
/// unless it is idempotent; so this is half of what hyper's servers, [`Server`](super::Server) too, wait for a head.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a connection with requests under way that says nothing is asked whether it lives: else all requests to an
/// instance that lost its power wait for TCP's 15 min on the one connection they share.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long the answer to a ping may take.
const PING_WITHIN: Duration = Duration::from_secs(5);

/// Makes a pool of plain HTTP connections for each instance; its idle connections close when the instance leaves.
///
/// The endpoint used is the first whose scheme is `http`, `h2c` or `grpc`, else the preferred one; with the latter two
/// the pool speaks HTTP/2 from the first byte (RFC 9113, section 3.3), else HTTP/1. `https` needs a connector with TLS,
/// which this is not: an instance with nothing else fails.
///
/// A connection has 1 s to open, the resolving of a name included, and is closed when it wasn't used for 15 s: before servers close it that wait 30 s for
/// the next request, as hyper's do.
pub struct HttpConnect<B> {
    connector: Timed<HttpConnector>,
    body: PhantomData<fn(B)>,
}

/// The connections to one instance.
pub struct HttpPool<B> {
    client: Client<Timed<HttpConnector>, Replay<B>>,
    is_http2: bool,
}

/// Opens connections within a limit that covers all of it: the connector's own leaves out the resolving of a name,
/// which takes as long as the resolver likes.
#[derive(Clone, Debug)]
struct Timed<C> {
    connector: C,
    limit: Duration,
}

impl<C> Service<Uri> for Timed<C>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let opened = tokio::time::timeout(self.limit, self.connector.call(to));
        Box::pin(async move { opened.await.map_err(io::Error::from)?.map_err(Into::into) })
    }
}

impl<B> HttpConnect<B> {
    /// Pools with the defaults above.
    #[must_use]
    pub fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { connector: Timed { connector, limit: CONNECT_TIMEOUT }, body: PhantomData }
    }

    /// Another limit for the opening of a connection.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connector.limit = limit;
        self
    }
}

impl<B> Default for HttpConnect<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> Connect for HttpConnect<B>
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Service = HttpPool<B>;

    fn endpoint<'a>(&self, instance: &'a Instance) -> &'a Endpoint {
        let plain = |endpoint: &&Endpoint| matches!(endpoint.scheme(), "http" | "h2c" | "grpc");
        instance.endpoints().iter().find(plain).unwrap_or_else(|| instance.endpoint())
    }

    fn connect(&self, _: &Instance, endpoint: &Endpoint) -> Result<HttpPool<B>, BoxError> {
        if matches!(endpoint.scheme(), "https" | "grpcs" | "tls" | "wss") {
            return Err(format!("{endpoint} wants TLS, which a plain HTTP pool doesn't speak").into());
        }
        let is_http2 = matches!(endpoint.scheme(), "h2c" | "grpc");
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_only(is_http2)
            .http2_keep_alive_interval(PING_EVERY)
            .http2_keep_alive_timeout(PING_WITHIN)
            .http2_keep_alive_while_idle(false)
            .build(self.connector.clone());
        Ok(HttpPool { client, is_http2 })
    }
}

impl<B> Service<Request<Replay<B>>> for HttpPool<B>
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Replay<B>>) -> Self::Future {
        // The version of a request that is passed on is that of the connection it came by.
        *request.version_mut() = if self.is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        if self.is_http2 {
            // The authority says it, and must not be contradicted (RFC 9113, section 8.3.1).
            request.headers_mut().remove(header::HOST);
        }
        let answer = self.client.request(request);
        Box::pin(async move {
            answer.await.map_err(|error| {
                if error.is_connect() { NotSent::new(error).into() } else { BoxError::from(error) }
            })
        })
    }
}

impl<B> Clone for HttpConnect<B> {
    fn clone(&self) -> Self {
        Self { connector: self.connector.clone(), body: PhantomData }
    }
}

impl<B> Clone for HttpPool<B> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), is_http2: self.is_http2 }
    }
}

impl<B> fmt::Debug for HttpConnect<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnect").finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for HttpPool<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_never_answers_costs_no_more_than_a_connection_may() {
        let connector = tower::service_fn(|_: Uri| std::future::pending::<Result<(), BoxError>>());
        let mut timed = Timed { connector, limit: CONNECT_TIMEOUT };
        let start = tokio::time::Instant::now();
        let error = timed.call(Uri::from_static("http://orders.example")).await.unwrap_err();
        assert_eq!(start.elapsed(), CONNECT_TIMEOUT);
        assert_eq!(error.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::TimedOut);
    }
}
