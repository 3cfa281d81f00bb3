//! One request, on another instance if the first fails.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{CallError, Held, Picked, Upstream};
use crate::{
    Error,
    balance::{Failure, Outcome, PickContext},
    model::{Instance, InstanceKey},
};

/// Most attempts of one call, the first included.
const ATTEMPTS: u32 = 3;
/// Longest time a call waits for a first usable instance.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// One failed attempt, as the closure of a [`call`](Upstream::call) returns it: what went wrong, and whether
/// to try another instance.
///
/// Retry when the request certainly wasn't processed (no connection), or when it may be processed twice.
///
/// ```
/// use registry_core::{Attempt, balance::Failure};
///
/// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
/// let again: Attempt<_> = Attempt::retry(refused);
/// let slow: Attempt<_> = Attempt::retry("no answer in 2 s").because(Failure::Timeout);
/// let never: Attempt<_> = Attempt::stop("400: the order has no lines");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Attempt<E> {
    cause: E,
    retry: bool,
    failure: Option<Failure>,
}

impl<E> Attempt<E> {
    /// Try another instance. Reported as [`Failure::Connect`] unless [`because`](Self::because) says
    /// otherwise.
    pub fn retry(cause: E) -> Self {
        Self { cause, retry: true, failure: Some(Failure::Connect) }
    }

    /// Give up. Nothing is reported about the instance unless [`because`](Self::because) blames it.
    pub fn stop(cause: E) -> Self {
        Self { cause, retry: false, failure: None }
    }

    /// What failed on the instance's side.
    pub fn because(mut self, failure: Failure) -> Self {
        self.failure = Some(failure);
        self
    }
}

/// How a call is made.
#[derive(Clone, Debug)]
#[must_use]
pub struct CallOptions {
    attempts: u32,
    wait: Duration,
    hash_key: Option<u64>,
    zone: Option<String>,
}

impl Default for CallOptions {
    fn default() -> Self {
        Self { attempts: ATTEMPTS, wait: Duration::ZERO, hash_key: None, zone: None }
    }
}

impl CallOptions {
    /// Three attempts, no waiting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Most attempts, the first included; 3 by default, at least 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How long to wait for a usable instance if there is none: 0 by default, as failing fast keeps callers
    /// from piling up; at most 3 s.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait.min(MAX_WAIT);
        self
    }

    /// See [`PickContext::hash_key`].
    pub fn hash_key(mut self, key: u64) -> Self {
        self.hash_key = Some(key);
        self
    }

    /// See [`PickContext::zone`].
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    fn context<'a>(&'a self, tried: &'a [InstanceKey]) -> PickContext<'a> {
        let mut context = PickContext::new().tried(tried);
        if let Some(key) = self.hash_key {
            context = context.hash_key(key);
        }
        if let Some(zone) = &self.zone {
            context = context.zone(zone);
        }
        context
    }
}

impl Upstream {
    /// Sends one request through `f`, to up to 3 instances: an attempt that fails with [`Attempt::retry`] is
    /// made again on another one. Outcomes and latencies are reported to the policy.
    ///
    /// Retries of all calls together are at most a fifth of the calls of the last 10 s, and 3 per second
    /// besides; a call that may not retry fails with the attempts it made. The retry is immediate, as it goes
    /// elsewhere.
    ///
    /// ```
    /// # use registry_core::{Attempt, CallError, Upstream};
    /// # async fn fetch(url: String) -> std::io::Result<String> { Ok(url) }
    /// # async fn example(orders: Upstream) -> Result<(), CallError<std::io::Error>> {
    /// let answer = orders
    ///     .call(|instance| async move { fetch(instance.endpoint().to_string()).await.map_err(Attempt::retry) })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`CallError`], which has the closure's errors.
    ///
    /// # Cancel safety
    /// Dropping the future drops the closure's; the pick then ends without a verdict.
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    pub async fn call<T, E, Fut>(&self, f: impl FnMut(Arc<Instance>) -> Fut) -> Result<T, CallError<E>>
    where
        Fut: Future<Output = Result<T, Attempt<E>>>,
    {
        self.call_with(&CallOptions::default(), f).await
    }

    /// [`call`](Self::call) with options.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    pub async fn call_with<T, E, Fut>(
        &self,
        options: &CallOptions,
        f: impl FnMut(Arc<Instance>) -> Fut,
    ) -> Result<T, CallError<E>>
    where
        Fut: Future<Output = Result<T, Attempt<E>>>,
    {
        self.call_held(options, f).await.map(Held::finish)
    }

    /// [`call_with`](Self::call_with) for an answer that isn't over when the closure returns it, such as a head
    /// whose body is yet to come: the pick stays open with it, counted as in flight.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    pub async fn call_held<T, E, Fut>(
        &self,
        options: &CallOptions,
        mut f: impl FnMut(Arc<Instance>) -> Fut,
    ) -> Result<Held<T>, CallError<E>>
    where
        Fut: Future<Output = Result<T, Attempt<E>>>,
    {
        let mut picked = self.pick_or_wait(options).await.map_err(CallError::NoInstance)?;
        let budget = &self.shared.budget;
        budget.earn(Instant::now());
        let (mut attempts, mut tried) = (Vec::new(), Vec::new());
        loop {
            let begin = Instant::now();
            let result = f(Arc::clone(picked.instance())).await;
            let latency = begin.elapsed();
            let failed = match result {
                Ok(answer) => return Ok(Held::new(answer, picked, begin)),
                Err(failed) => failed,
            };
            let instance = Arc::clone(picked.instance());
            match failed.failure {
                Some(failure) => picked.report(Outcome::failure(failure).took(latency)),
                None => drop(picked),
            }
            if !failed.retry {
                return Err(CallError::Stopped { instance, cause: failed.cause });
            }
            tried.push(instance.key());
            attempts.push((instance, failed.cause));
            let may_retry = attempts.len() < options.attempts as usize && budget.spend(Instant::now());
            picked = match may_retry.then(|| self.pick_with(&options.context(&tried))) {
                Some(Ok(next)) => next,
                Some(Err(_)) | None => return Err(CallError::Exhausted { attempts }),
            };
        }
    }

    async fn pick_or_wait(&self, options: &CallOptions) -> Result<Picked, Error> {
        let picked = self.pick_with(&options.context(&[]));
        if picked.is_ok() || options.wait.is_zero() {
            return picked;
        }
        self.ready_within(1, options.wait).await?;
        self.pick_with(&options.context(&[]))
    }
}
