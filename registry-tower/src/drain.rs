//! A server's side of the drain: what is in flight is counted to its last byte, and new work is refused in time.

use std::{
    borrow::Cow,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use pin_project_lite::pin_project;
use registry_core::{InFlight, InFlightGuard};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    body::{End, Guard, Until},
    classify::{GRPC_STATUS, REFUSED, UNAVAILABLE},
};

/// A layer that lets a drain know a server's requests, and refuses new ones once the drain says so.
///
/// A request is in flight from its head to the end of the *response's body*, or until that is dropped; the drain
/// waits for that. While refusing, the answer to anything new is 503 with `connection: close` (over HTTP/1), and for
/// gRPC the status `UNAVAILABLE`, both without the request being looked at: it may safely go elsewhere. A header
/// says so to [`Balanced`](crate::Balanced), which then sends even a `POST` to another instance.
///
/// ```
/// # use registry_core::{Client, MemoryRegistry};
/// # use registry_tower::DrainLayer;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), registry_core::Error> {
/// # let client = Client::from_backend(MemoryRegistry::new().backend()).await?;
/// let layer = DrainLayer::new(client.in_flight()).exempt("/health");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct DrainLayer {
    in_flight: InFlight,
    exempt: Arc<[Cow<'static, str>]>,
}

/// The service of a [`DrainLayer`].
#[derive(Clone, Debug)]
pub struct Draining<S> {
    inner: S,
    layer: DrainLayer,
}

/// One request in flight, until the end of its response's body.
#[derive(Debug)]
pub struct Counted {
    _guard: InFlightGuard,
}

impl DrainLayer {
    /// For the requests that `in_flight` counts: a client's [`in_flight`](registry_core::Client::in_flight).
    #[must_use]
    pub fn new(in_flight: InFlight) -> Self {
        Self { in_flight, exempt: Arc::default() }
    }

    /// Requests for exactly this path are neither counted nor refused: a health check, which has to be answered as
    /// long as anything is.
    #[must_use]
    pub fn exempt(mut self, path: impl Into<Cow<'static, str>>) -> Self {
        self.exempt = self.exempt.iter().cloned().chain([path.into()]).collect();
        self
    }

    fn is_exempt(&self, path: &str) -> bool {
        self.exempt.iter().any(|exempt| exempt == path)
    }
}

impl<S> Layer<S> for DrainLayer {
    type Service = Draining<S>;

    fn layer(&self, inner: S) -> Draining<S> {
        Draining { inner, layer: self.clone() }
    }
}

impl<S, A, B> Service<Request<A>> for Draining<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Body + Default,
{
    type Response = Response<Until<B, Counted>>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if self.layer.is_exempt(request.uri().path()) {
            return Answering::serving(self.inner.call(request), None);
        }
        // Counted before it is looked whether to refuse: a drain that sees no request in flight after it began to
        // refuse has seen the last one.
        let guard = self.layer.in_flight.enter();
        if self.layer.in_flight.is_refusing() {
            return Answering::refusing(refusal(&request));
        }
        Answering::serving(self.inner.call(request), Some(Counted { _guard: guard }))
    }
}

/// The answer to a request that came too late.
fn refusal<A>(request: &Request<A>) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(REFUSED, HeaderValue::from_static("draining"));
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(UNAVAILABLE)));
        headers.insert("grpc-message", HeaderValue::from_static("this instance is leaving"));
    } else {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    // HTTP/2 has GOAWAY for it and forbids the header (RFC 9113, section 8.2.2).
    if request.version() <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

pin_project! {
    /// The answer of a [`Draining`] service.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Answering<F> {
        // `None` for a refusal.
        #[pin]
        answer: Option<F>,
        guard: Option<Counted>,
        refusal: Option<Response<()>>,
    }
}

impl<F> Answering<F> {
    fn serving(answer: F, guard: Option<Counted>) -> Self {
        Self { answer: Some(answer), guard, refusal: None }
    }

    fn refusing(refusal: Response<()>) -> Self {
        Self { answer: None, guard: None, refusal: Some(refusal) }
    }
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body + Default,
{
    type Output = Result<Response<Until<B, Counted>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(answer) = this.answer.as_pin_mut() else {
            let refusal = this.refusal.take().expect("a future is not polled after its end");
            return Poll::Ready(Ok(refusal.map(|()| Until::default())));
        };
        let response = ready!(answer.poll(cx))?;
        Poll::Ready(Ok(response.map(|body| match this.guard.take() {
            Some(guard) => Until::new(body, guard),
            None => Until::unguarded(body),
        })))
    }
}

impl Guard for Counted {
    fn ended(self, _: End) {}
}

impl fmt::Debug for DrainLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainLayer")
            .field("requests", &self.in_flight.requests())
            .field("is_refusing", &self.in_flight.is_refusing())
            .field("exempt", &self.exempt)
            .finish()
    }
}

#[cfg(test)]
mod tests;
