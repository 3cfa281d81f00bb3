//! A client service over an upstream: each request goes to a picked instance.

use std::{
    error::Error as StdError,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, StatusCode, request, response};
use http_body::Body;
use registry_core::{Attempt, CallError, CallOptions, Instance, OpenPick, Upstream, balance::Failure};
use tower_service::Service;

use crate::{
    BoxError,
    body::{BodyFault, End, Guard, Until},
    cache::Cache,
    classify::{Classify, ClassifyHttp, Idempotent},
    connect::{Connect, NotSent},
    replay::Replay,
};

/// How much of a request's body is kept for another attempt.
const REPLAY_LIMIT: usize = 64 * 1024;

/// A `tower` service that sends each request to a picked instance of an [`Upstream`], and to another one if that fails.
///
/// For each request it picks an instance, takes the service that a [`Connect`] made for it, puts the endpoint's
/// scheme and authority into the request's URI, and calls. A [`Classify`] judges the result: what it wants
/// retried goes to another instance, within the upstream's budget, if the request's body can be sent again. The pick
/// stays open until the *end of the response's body*; then success or failure and the time are reported.
///
/// It is always ready: backpressure is the instances' business, and an upstream without instances fails the call
/// instead of keeping it. Cheap to clone.
///
/// An instance that hangs is survived by a request that is [`Idempotent`] and a
/// [`per_try_timeout`](CallOptions::per_try_timeout), which limits the time to the response's *head*; none is set by
/// default. A request that is marked as not idempotent isn't, whatever the options say. Options for one request, such as
/// its hash key, are a [`CallOptions`] in its extensions.
///
/// A [hedge](CallOptions::hedge_after) begins if the whole body can be kept within the [`replay_limit`](Self::replay_limit): its
/// length is known, or all of it was sent by then. Else the first attempt goes on alone. A response that
/// counts as failed, such as a 429, isn't the call's answer while another attempt may have a better one.
pub struct Balanced<C: Connect> {
    upstream: Upstream,
    cache: Arc<Cache<C>>,
    classify: Arc<dyn Classify>,
    options: Arc<CallOptions>,
    replay_limit: usize,
}

/// Why a [`Balanced`] call failed: who was tried, and each one's [`Cause`].
pub type ServiceError = CallError<Cause>;

/// How one attempt failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// With a status. A status that is the last word is returned as the response, and not as an error.
    Status(StatusCode),
    /// Without a response.
    Service(BoxError),
}

/// What the body of a response holds: the pick, until the body's end.
///
/// A body that ends, or fails, ends the pick with that verdict and the time since the attempt began; one
/// that is dropped before, or fails by the [reader's own fault](BodyFault), ends it by what the head said, without a time.
#[derive(Debug)]
pub struct OpenAnswer {
    /// `None` once it is reported.
    open: Option<OpenPick>,
    failure: Option<Failure>,
    fault: BodyFault,
    classify: Arc<dyn Classify>,
}

type Answer<R> = Response<Until<R, OpenAnswer>>;

impl<C: Connect> Balanced<C> {
    /// A service over `upstream`, under the [rules for HTTP](ClassifyHttp).
    pub fn new(upstream: Upstream, connect: C) -> Self {
        Self {
            upstream,
            cache: Arc::new(Cache::new(connect)),
            classify: Arc::new(ClassifyHttp),
            options: Arc::default(),
            replay_limit: REPLAY_LIMIT,
        }
    }

    /// Other rules for what counts as failed, and what is retried.
    #[must_use]
    pub fn classify(mut self, classify: impl Classify) -> Self {
        self.classify = Arc::new(classify);
        self
    }

    #[cfg(feature = "reqwest")]
    pub(crate) fn classify_by(mut self, classify: Arc<dyn Classify>) -> Self {
        self.classify = classify;
        self
    }

    /// How calls are made: attempts, time per attempt, …
    #[must_use]
    pub fn options(mut self, options: CallOptions) -> Self {
        self.options = Arc::new(options);
        self
    }

    /// How many bytes of a request's body are kept for another attempt; 64 KiB by default. A longer one is retried
    /// only if nothing of it was sent. 0 keeps nothing.
    #[must_use]
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.replay_limit = bytes;
        self
    }

    /// What it picks from.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// How many instances have a service at present.
    #[cfg(test)]
    pub(crate) fn cached(&self) -> usize {
        self.cache.len()
    }

    async fn send<B, R>(&self, request: Request<B>) -> Result<Answer<R>, ServiceError>
    where
        B: Body + Send + 'static,
        C::Service: Service<Request<Replay<B>>, Response = Response<R>, Error: Into<BoxError>>,
        R: Body,
    {
        let (mut head, body) = request.into_parts();
        let options = head.extensions.remove::<CallOptions>();
        let options = options.unwrap_or_else(|| CallOptions::clone(&self.options));
        let body = Replay::new(body, self.replay_limit);
        let options = suited(options, &head, &body);
        let sending = Sending { head, body, rejected: Mutex::new(None), exchanges: AtomicUsize::new(0) };
        let held = self.upstream.call_held(&options, |instance| self.attempt(&sending, instance)).await;
        match held {
            Ok(held) => {
                let ((response, failure), open) = held.into_parts();
                let (head, body) = response.into_parts();
                let guard = OpenAnswer::new(open, failure, Arc::clone(&self.classify), &head);
                Ok(Response::from_parts(head, Until::new(body, guard)))
            }
            Err(error) => match sending.rejected.into_inner().unwrap_or_else(PoisonError::into_inner) {
                Some(response) if matches!(error.cause(), Some(Cause::Status(_))) => {
                    Ok(response.map(Until::unguarded))
                }
                _ => Err(error),
            },
        }
    }

    /// One attempt, on one instance.
    async fn attempt<B, R>(
        &self,
        sending: &Sending<B, R>,
        instance: Arc<Instance>,
    ) -> Result<(Response<R>, Option<Failure>), Attempt<Cause>>
    where
        B: Body,
        C::Service: Service<Request<Replay<B>>, Response = Response<R>, Error: Into<BoxError>>,
    {
        let rejected = sending.rejected().take();
        // Gives its connection back before another one is used.
        drop(rejected);
        let Some(body) = sending.body.again() else {
            return Err(Attempt::stop(Cause::Service("the request's body can't be sent again".into())));
        };
        let exchange = sending.begin();
        let result = self.exchange(&sending.head, body, &instance).await;
        drop(exchange);
        match result {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let verdict = self.classify.response(&sending.head, &head);
                let (status, response) = (head.status, Response::from_parts(head, body));
                let cause = Cause::Status(status);
                let attempt = if verdict.is_retried() && sending.body.is_replayable() {
                    Attempt::retry(cause)
                } else if verdict.failure().is_some() && sending.is_under_way() {
                    Attempt::stop(cause).unless_another_answers()
                } else {
                    return Ok((response, verdict.failure()));
                };
                drop(sending.keep(response));
                Err(because(attempt, verdict.failure()))
            }
            Err(Fault::Unfit(error)) => Err(Attempt::retry(Cause::Service(error)).blaming_nobody()),
            // The caller's own doing, such as an upload that was broken off: the instance is none the worse for it.
            Err(Fault::Failed(error)) if sending.body.is_broken() => {
                Err(Attempt::stop(Cause::Service(error)))
            }
            Err(Fault::Failed(error)) => {
                let verdict = self.classify.error(&sending.head, &error);
                let cause = Cause::Service(error);
                let attempt = if verdict.is_retried() && sending.body.is_replayable() {
                    Attempt::retry(cause)
                } else {
                    Attempt::stop(cause).unless_another_answers()
                };
                Err(because(attempt, verdict.failure()))
            }
        }
    }

    async fn exchange<B, R>(
        &self,
        head: &request::Parts,
        body: Replay<B>,
        instance: &Instance,
    ) -> Result<Response<R>, Fault>
    where
        B: Body,
        C::Service: Service<Request<Replay<B>>, Response = Response<R>, Error: Into<BoxError>>,
    {
        let mut route = self.cache.route(&self.upstream, instance).map_err(Fault::Unfit)?;
        let mut request = Request::from_parts(head.clone(), body);
        *request.uri_mut() = route.destination.resolve(&head.uri);
        // The clone that is called is the one that became ready.
        poll_fn(|cx| route.service.poll_ready(cx))
            .await
            .map_err(|e| Fault::Failed(NotSent::new(e).into()))?;
        route.service.call(request).await.map_err(|error| Fault::Failed(error.into()))
    }
}

/// Why there is no response.
enum Fault {
    /// The [`Connect`] has no service for this instance: its own limits, which say nothing of the instance.
    Unfit(BoxError),
    Failed(BoxError),
}

/// One request, over all its attempts.
struct Sending<B, R> {
    head: request::Parts,
    body: Replay<B>,
    /// A response that another attempt was to better.
    rejected: Mutex<Option<Response<R>>>,
    /// How many attempts are under way.
    exchanges: AtomicUsize,
}

/// An attempt that is under way.
struct Exchange<'a>(&'a AtomicUsize);

impl<B, R> Sending<B, R> {
    fn rejected(&self) -> MutexGuard<'_, Option<Response<R>>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the response until the call's end, unless there is one already: then that is the one the call ends with.
    /// The one that isn't kept, to be dropped without the lock.
    fn keep(&self, response: Response<R>) -> Option<Response<R>> {
        let mut rejected = self.rejected();
        if rejected.is_some() {
            return Some(response);
        }
        *rejected = Some(response);
        None
    }

    fn begin(&self) -> Exchange<'_> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        Exchange(&self.exchanges)
    }

    fn is_under_way(&self) -> bool {
        self.exchanges.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the request itself says about how it may be called.
fn suited<B>(mut options: CallOptions, head: &request::Parts, body: &Replay<B>) -> CallOptions
where
    B: Body + Send + 'static,
{
    if let Some(Idempotent(marked)) = head.extensions.get() {
        options = options.idempotent(*marked);
    } else if Idempotent::is(head) {
        options = options.idempotent(true);
    }
    if options.is_hedged()
        && let Some(body) = body.again()
    {
        // The first attempt may be sending it still.
        options = options.hedge_if(move || body.can_be_shared());
    }
    options
}

fn because(attempt: Attempt<Cause>, failure: Option<Failure>) -> Attempt<Cause> {
    match failure {
        Some(failure) => attempt.because(failure),
        None => attempt,
    }
}

impl<C, B, R> Service<Request<B>> for Balanced<C>
where
    C: Connect,
    C::Service: Service<Request<Replay<B>>, Response = Response<R>, Error: Into<BoxError>, Future: Send>,
    B: Body + Send + 'static,
    R: Body + Send + 'static,
{
    type Response = Answer<R>;
    type Error = ServiceError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    /// Sends one request.
    ///
    /// # Panics
    /// On a lazily started upstream's first use, outside a tokio runtime.
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.send(request).await })
    }
}

impl<C: Connect> Clone for Balanced<C> {
    fn clone(&self) -> Self {
        Self {
            upstream: self.upstream.clone(),
            cache: Arc::clone(&self.cache),
            classify: Arc::clone(&self.classify),
            options: Arc::clone(&self.options),
            replay_limit: self.replay_limit,
        }
    }
}

impl<C: Connect> fmt::Debug for Balanced<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balanced")
            .field("upstream", &self.upstream)
            .field("cache", &self.cache)
            .field("classify", &self.classify)
            .field("options", &self.options)
            .field("replay_limit", &self.replay_limit)
            .finish()
    }
}

impl OpenAnswer {
    /// The pick of a response whose head was judged.
    pub(crate) fn new(
        open: OpenPick,
        failure: Option<Failure>,
        classify: Arc<dyn Classify>,
        head: &response::Parts,
    ) -> Self {
        if failure.is_none() {
            open.picked().answered();
        }
        let fault = head.extensions.get::<BodyFault>().cloned().unwrap_or_default();
        Self { open: Some(open), failure, fault, classify }
    }
}

impl Guard for OpenAnswer {
    fn trailers(&mut self, trailers: &HeaderMap) {
        self.failure = self.failure.or_else(|| self.classify.trailers(trailers));
    }

    fn ended(mut self, how: End) {
        let Some(open) = self.open.take() else { return };
        match (how, self.failure) {
            (End::Complete, None) => open.succeed(),
            (End::Complete, Some(failure)) => open.fail(failure),
            (End::Failed, failure) => match failure.or(self.fault.failure()) {
                None => open.cut_off(),
                Some(failure) => open.fail(failure),
            },
        }
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        match self.failure {
            None => open.cut_off(),
            Some(failure) => open.fail(failure),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the answer was {status}"),
            Self::Service(_) => f.write_str("there was no answer"),
        }
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Status(_) => None,
            Self::Service(error) => Some(&**error),
        }
    }
}

#[cfg(test)]
mod tests;
