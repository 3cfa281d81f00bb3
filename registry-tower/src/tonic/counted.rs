//! Counts calls until their last byte.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use ::tonic::body::Body;
use http::{Request, Response};
use registry_core::InFlight;
use tower::Layer;
use tower_service::Service;

use crate::{Until, drain::Counted as Counting};

/// The outermost layer of a [`GrpcServer`](super::GrpcServer).
#[derive(Clone, Debug)]
pub struct CountLayer(pub(super) InFlight);

/// The service of a [`CountLayer`]: counts each call as in flight from its arrival, also while it waits for the layers
/// inside to be ready, to the end of its answer's trailers.
///
/// Refuses nothing: a call that arrives while the client hasn't heard of the GOAWAY yet was promised to be served, and
/// HTTP/2 itself refuses what comes later.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    service: S,
    in_flight: InFlight,
}

impl<S> Layer<S> for CountLayer {
    type Service = Counted<S>;

    fn layer(&self, service: S) -> Counted<S> {
        Counted { service, in_flight: self.0.clone() }
    }
}

impl<S, R> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<R>, Future: Send, Error: Send> + Clone + Send + 'static,
    R: http_body::Body,
{
    type Response = Response<Until<R, Counting>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    /// Always ready: the answer waits for the inner service.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let counting = Counting::enter(&self.in_flight);
        let mut service = self.service.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            let answer = service.call(request).await?;
            Ok(answer.map(|body| Until::new(body, counting)))
        })
    }
}
