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
/// waits for that. It counts, and has been let in, also while it waits for the service inside to be ready, such as for
/// a concurrency limit; what waits in layers *outside* of this one is not seen: make it the outermost. While refusing, the answer to anything new is 503 with `connection: close` (over HTTP/1), and for
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
    S: Service<Request<A>, Response = Response<B>> + Clone,
    B: Body + Default,
{
    type Response = Response<Until<B, Counted>>;
    type Error = S::Error;
    type Future = Answering<S, Request<A>, S::Future>;

    /// Always ready: the answer waits for the inner service, so that a request that has come counts from then on.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if self.layer.is_exempt(request.uri().path()) {
            return Answering::serving(self.inner.clone(), request, None);
        }
        // Counted before it is looked whether to refuse: a drain that sees no request in flight after it began to
        // refuse has seen the last one.
        let counted = Counted::enter(&self.layer.in_flight);
        if self.layer.in_flight.is_refusing() {
            return Answering { step: Step::Refused { refusal: Some(refusal(&request)) }, counted: None };
        }
        Answering::serving(self.inner.clone(), request, Some(counted))
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
    pub struct Answering<S, A, F> {
        #[pin]
        step: Step<S, A, F>,
        counted: Option<Counted>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = At]
    enum Step<S, A, F> {
        /// Until the service is ready for it.
        Waiting { service: S, request: Option<A> },
        Serving { #[pin] answer: F },
        Refused { refusal: Option<Response<()>> },
    }
}

impl<S, A, F> Answering<S, A, F> {
    fn serving(service: S, request: A, counted: Option<Counted>) -> Self {
        Self { step: Step::Waiting { service, request: Some(request) }, counted }
    }
}

impl<S, A, B> Future for Answering<S, A, S::Future>
where
    S: Service<A, Response = Response<B>>,
    B: Body + Default,
{
    type Output = Result<Response<Until<B, Counted>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        const AFTER_ITS_END: &str = "a future is not polled after its end";
        let mut this = self.project();
        loop {
            let answer = match this.step.as_mut().project() {
                At::Waiting { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    service.call(request.take().expect(AFTER_ITS_END))
                }
                At::Serving { answer } => {
                    let response = ready!(answer.poll(cx))?;
                    return Poll::Ready(Ok(response.map(|body| match this.counted.take() {
                        Some(counted) => Until::new(body, counted),
                        None => Until::unguarded(body),
                    })));
                }
                At::Refused { refusal } => {
                    let refusal = refusal.take().expect(AFTER_ITS_END);
                    return Poll::Ready(Ok(refusal.map(|()| Until::default())));
                }
            };
            this.step.set(Step::Serving { answer });
        }
    }
}

impl Counted {
    /// Counts a request in.
    pub(crate) fn enter(in_flight: &InFlight) -> Self {
        Self { _guard: in_flight.enter() }
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
