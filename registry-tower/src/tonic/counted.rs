//! Counts calls until their last byte.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use ::tonic::body::Body;
use http::{Request, Response};
use registry_core::{InFlight, InFlightGuard};
use tower_service::Service;

use crate::{End, Guard, Until};

/// What a [`GrpcServer`](super::GrpcServer)'s layers are put around: counts each call as in flight until the end of its
/// answer's trailers.
///
/// Refuses nothing: a call that arrives while the client hasn't heard of the GOAWAY yet was promised to be served, and
/// HTTP/2 itself refuses what comes later.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    service: S,
    in_flight: InFlight,
}

/// Held by the body of an answer.
#[derive(Debug)]
struct Counting(#[expect(dead_code, reason = "held, not read")] InFlightGuard);

impl<S> Counted<S> {
    pub(super) fn new(service: S, in_flight: InFlight) -> Self {
        Self { service, in_flight }
    }
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let counting = Counting(self.in_flight.enter());
        let answer = self.service.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Body::new(Until::new(body, counting)))) })
    }
}

impl Guard for Counting {
    fn ended(self, _: End) {}
}
