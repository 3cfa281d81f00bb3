//! Attempts in flight: their time, their verdict about the instance, and which one ends first.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Attempt, CallOptions, attempt::Blame};
use crate::{
    balance::{Failure, Outcome},
    model::Instance,
    upstream::{Held, Picked},
};

/// An attempt that is over; its instance's policy knows.
pub(super) struct Ended<T, E> {
    /// Which attempt of the call it was, from 1.
    pub(super) number: u32,
    pub(super) instance: Arc<Instance>,
    pub(super) latency: Duration,
    pub(super) verdict: Verdict<T, E>,
}

pub(super) enum Verdict<T, E> {
    Answer(T),
    /// The closure says that another attempt may be made.
    Retry(E),
    /// The closure says that no other attempt is to be made.
    Stop(E),
    /// The same, but those in flight may still answer.
    Yield(E),
    /// The attempt's own time was over.
    TimedOut,
    /// The call's time was over.
    OutOfTime,
}

impl<T, E> Verdict<T, E> {
    /// What became of the attempt, for counting.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Answer(_) => "ok",
            Self::Retry(_) => "retry",
            Self::Stop(_) | Self::Yield(_) => "stop",
            Self::TimedOut | Self::OutOfTime => "timeout",
        }
    }
}

/// The pick of an attempt in flight.
///
/// Dropping it ends the pick without a verdict, as a slow attempt may be slow by chance. A probe that is dropped because
/// another attempt of its call has answered has failed: it began before that one and longer than the hedge's delay ago, and
/// hardly any other would ever have a verdict where all calls are hedged.
pub(super) struct Racer<'a> {
    /// None only after the end of the attempt.
    picked: Option<Picked>,
    began: Instant,
    is_answered: &'a AtomicBool,
}

impl<'a> Racer<'a> {
    pub(super) fn new(picked: Picked, is_answered: &'a AtomicBool) -> Self {
        Self { picked: Some(picked), began: Instant::now(), is_answered }
    }
}

impl Drop for Racer<'_> {
    fn drop(&mut self) {
        if self.is_answered.load(Ordering::Relaxed)
            && let Some(probe) = self.picked.take().filter(Picked::is_probe)
        {
            probe.report(Outcome::failure(Failure::Timeout).took(self.began.elapsed()));
        }
    }
}

/// Carries one attempt out, and reports how it failed; the pick of one that didn't stays open with its answer.
pub(super) async fn attempt<T, E>(
    future: impl Future<Output = Result<T, Attempt<E>>>,
    mut racer: Racer<'_>,
    number: u32,
    options: &CallOptions,
    end: Option<Instant>,
) -> Ended<Held<T>, E> {
    let began = racer.began;
    let own = options.per_try_timeout.map(|limit| later(began, limit));
    let result = match own.into_iter().chain(end).min() {
        None => Some(future.await),
        Some(limit) => timeout_at(limit, future).await.ok(),
    };
    let latency = began.elapsed();
    let picked = racer.picked.take().expect("it is taken here only");
    let instance = Arc::clone(picked.instance());
    let verdict = match result {
        Some(Ok(answer)) => Verdict::Answer(Held::new(answer, picked, began)),
        Some(Err(Attempt { cause, retry, blame, yields })) => {
            match blame {
                Blame::It(failure) => picked.report(Outcome::failure(failure).took(latency)),
                Blame::Unclear => drop(picked),
                Blame::Nobody => picked.unused(),
            }
            match (retry, yields) {
                (true, _) => Verdict::Retry(cause),
                (false, false) => Verdict::Stop(cause),
                (false, true) => Verdict::Yield(cause),
            }
        }
        None => {
            let is_over = end.is_some_and(|end| Instant::now() >= end);
            // One that the call's end met early had no fair chance.
            let had_its_chance = !is_over || options.timeout.is_some_and(|all| latency >= all / 2);
            if had_its_chance {
                picked.report(Outcome::failure(Failure::Timeout).took(latency));
            }
            if is_over { Verdict::OutOfTime } else { Verdict::TimedOut }
        }
    };
    Ended { number, instance, latency, verdict }
}

/// The next attempt that ends; for ever pending if none is in flight.
pub(super) async fn next_ended<F: Future>(
    main: &mut Pin<&mut Option<F>>,
    others: &mut Vec<Pin<Box<F>>>,
) -> F::Output {
    poll_fn(|context| {
        if let Some(flight) = main.as_mut().as_pin_mut()
            && let Poll::Ready(ended) = flight.poll(context)
        {
            main.set(None);
            return Poll::Ready(ended);
        }
        for at in 0..others.len() {
            if let Poll::Ready(ended) = others[at].as_mut().poll(context) {
                drop(others.swap_remove(at));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits until then, or for ever. Needs no timer in the latter case.
pub(super) async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

/// A wait that no clock can express is for ever long.
pub(super) fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(crate::client::FAR)
}
