//! Asking a suspect over HTTP whether it is well.

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode, uri::PathAndQuery};
use http_body::{Body, Frame, SizeHint};
use registry_core::{Instance, Probe, balance::Failure};
use tower_service::Service;

use super::HttpConnect;
use crate::{
    BoxError,
    connect::{Connect, Destination, NotSent},
    replay::Replay,
};

/// A `GET` over a new connection: well is who answers with a status below 400.
///
/// For [`Ejection::probe`](registry_core::Ejection::probe). Speaks plain HTTP, as [`HttpConnect`] does. A server that
/// refuses requests because it leaves isn't well.
///
/// ```
/// use registry_core::Ejection;
/// use registry_tower::HttpProbe;
///
/// let ejection = Ejection::default().probe(HttpProbe::new("/health"));
/// ```
#[derive(Clone, Debug)]
pub struct HttpProbe {
    path: PathAndQuery,
    connect: HttpConnect<Nothing>,
}

impl HttpProbe {
    /// Asks for this path, with a query if it has one; a leading `/` may be left out.
    ///
    /// # Panics
    /// If it is no path of a URI (RFC 3986), for one if it has a blank: no instance would ever be well.
    #[must_use]
    pub fn new(path: impl AsRef<str>) -> Self {
        let path = path.as_ref();
        let slash = if path.starts_with('/') { "" } else { "/" };
        let parsed = format!("{slash}{path}").parse();
        let path = parsed.unwrap_or_else(|error| panic!("{path:?} is no path: {error}"));
        Self { path, connect: HttpConnect::new() }
    }

    async fn ask(&self, instance: &Instance) -> Result<StatusCode, BoxError> {
        let endpoint = self.connect.endpoint(instance);
        // A pool of its own: a connection that was kept from better days would say less.
        let mut pool = self.connect.connect(instance, endpoint)?;
        let uri = Destination::of(endpoint)?.resolve(&self.path.clone().into());
        let request = Request::get(uri).body(Replay::new(Nothing, 0))?;
        Ok(pool.call(request).await?.status())
    }
}

#[async_trait]
impl Probe for HttpProbe {
    async fn probe(&self, instance: &Instance) -> Result<(), Failure> {
        match self.ask(instance).await {
            Ok(StatusCode::TOO_MANY_REQUESTS) => Err(Failure::Throttled),
            Ok(status) if status.is_client_error() || status.is_server_error() => Err(Failure::Server),
            Ok(_) => Ok(()),
            Err(error) if NotSent::is_in(&*error) => Err(Failure::Connect),
            Err(_) => Err(Failure::Server),
        }
    }
}

/// The body of a request without one.
#[derive(Debug)]
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}
