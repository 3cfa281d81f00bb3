//! One request, on another instance if the first fails, hangs or is slow.
//!
//! ```text
//!             pick ──> attempt ── answer ──────────────────────────────> the call's answer; others are dropped
//!                       │  │  └── stop ────────────────────────────────> Stopped
//!                       │  └───── retry, or timeout and idempotent ──┐
//!                       └──────── slow, and idempotent: a hedge ─────┤
//!                                                                    ▼
//!              attempts left, budget left, instance left? ── yes ──> attempt on another instance
//!                                                         └─ no ───> wait for those in flight, then Exhausted
//! ```

mod attempt;
mod course;
mod flight;
mod options;
#[cfg(test)]
mod tests;

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::Instrument;

pub use self::{attempt::Attempt, options::CallOptions};
use self::{
    course::{Course, Step},
    flight::{Racer, attempt, next_ended, until},
};
use super::{CallError, Held, Picked, Upstream};
use crate::{metrics, model::Instance};

impl Upstream {
    /// Sends one request through `f`, to up to 3 instances: an attempt that fails with [`Attempt::retry`] is
    /// made again on another one. Outcomes and latencies are reported to the policy.
    ///
    /// Retries of all calls together are at most a fifth of the calls of the last 10 s, and 3 per second
    /// besides; a call that may not retry fails with the attempts it made. The retry is immediate, as it goes
    /// elsewhere.
    ///
    /// No attempt is given up for being slow: for that see [`CallOptions`].
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
    /// Dropping the future drops the closure's; the picks then end without a verdict.
    ///
    /// # Panics
    /// As [`pick`](Self::pick).
    pub async fn call<T, E, Fut>(&self, f: impl FnMut(Arc<Instance>) -> Fut) -> Result<T, CallError<E>>
    where
        Fut: Future<Output = Result<T, Attempt<E>>>,
    {
        self.call_with(&CallOptions::default(), f).await
    }

    /// [`call`](Self::call) with options: timeouts, hedging, waiting, what the policy is to know.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    ///
    /// # Panics
    /// As [`pick`](Self::pick); with a timeout or a hedge, outside a tokio runtime with timers.
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
    /// whose body is yet to come: the pick stays open with it, counted as in flight. Timeouts and hedges are about
    /// the closure only.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As [`call`](Self::call).
    ///
    /// # Panics
    /// As [`call_with`](Self::call_with).
    pub async fn call_held<T, E, Fut>(
        &self,
        options: &CallOptions,
        f: impl FnMut(Arc<Instance>) -> Fut,
    ) -> Result<Held<T>, CallError<E>>
    where
        Fut: Future<Output = Result<T, Attempt<E>>>,
    {
        let result = self.carry_out(options, f).await;
        metrics::called(self.service(), result.as_ref().map_or_else(CallError::word, |_| "ok"));
        result
    }

    async fn carry_out<T, E, Fut>(
        &self,
        options: &CallOptions,
        mut f: impl FnMut(Arc<Instance>) -> Fut,
    ) -> Result<Held<T>, CallError<E>>
    where
        Fut: Future<Output = Result<T, Attempt<E>>>,
    {
        let mut course = Course::new(self, options);
        let first = course.first().await?;
        let is_answered = AtomicBool::new(false);
        let mut fly = |picked: Picked, course: &mut Course<'_, E>| {
            let number = course.started(&picked);
            let instance = Arc::clone(picked.instance());
            let span = tracing::debug_span!("attempt", instance = %instance.key(), number);
            let future = f(instance);
            attempt(future, Racer::new(picked, &is_answered), number, options, course.end()).instrument(span)
        };
        // One at a time needs no allocation, and is what most calls have.
        let mut main = pin!(Some(fly(first, &mut course)));
        let mut others = Vec::new();
        loop {
            let step = tokio::select! {
                biased;
                ended = next_ended(&mut main, &mut others) => course.ended(ended)?,
                () = until(course.hedge_at()) => course.hedge(),
            };
            match step {
                Step::Answer(answer) => {
                    is_answered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Step::Wait => {}
                Step::Another(picked) => {
                    let next = fly(picked, &mut course);
                    if main.is_none() { main.set(Some(next)) } else { others.push(Box::pin(next)) }
                }
            }
        }
    }
}
