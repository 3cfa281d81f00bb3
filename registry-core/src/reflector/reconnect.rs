//! How long to wait before the next watch session, by what ended the last one.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Error, ErrorClass, ErrorKind,
    backoff::{BLOCKED_RETRY, Backoff, GROWTH, spread},
};

/// Longest spread of the first reconnect after a loss of contact.
const SPREAD_CAP: Duration = Duration::from_secs(3);
/// Spread of a relist that the registry asked for: compaction hits every consumer at once.
const RELIST_SPREAD: Duration = Duration::from_secs(1);
/// How long "no such service" is believed: at least, and how much longer at most.
const NOT_FOUND_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));
/// First wait after a refused credential, which grows like a backoff.
const REFUSED_FIRST: Duration = Duration::from_secs(1);

/// The pauses of one reflector.
#[derive(Clone, Debug)]
pub(super) struct Reconnect {
    backoff: Backoff,
    refusals: i32,
    /// Contact was lost and is not back: what we wait for, all others wait for too.
    lost: bool,
    /// Spread of the first reconnect, so that the consumers of a restarted registry don't come back as one.
    spread: Duration,
}

/// How far the session had come that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// It was opening afresh.
    Opening,
    /// It was asked to resume.
    Resuming,
    /// It was delivering.
    Live,
}

impl Reconnect {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            backoff: Backoff::new((ttl / 2).max(Duration::from_secs(10))),
            refusals: 0,
            lost: false,
            spread: SPREAD_CAP.min(ttl / 6),
        }
    }

    /// Notes that a session opened.
    pub(super) fn succeed(&mut self, now: Instant) {
        self.backoff.succeed(now);
        self.refusals = 0;
        self.lost = false;
    }

    /// Notes a failure and draws the pause.
    pub(super) fn fail(
        &mut self,
        error: &Error,
        reached: Reached,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        let kind = error.kind();
        match kind.class() {
            ErrorClass::Data if kind == ErrorKind::NotFound => {
                let (least, more) = NOT_FOUND_RETRY;
                least + more.mul_f64(rng.f64())
            }
            ErrorClass::Data if kind == ErrorKind::Compacted && reached != Reached::Opening => {
                RELIST_SPREAD.mul_f64(rng.f64())
            }
            ErrorClass::Fatal => spread(BLOCKED_RETRY, 0.2, rng),
            // The backend refreshed the credential once already; equal jitter, as full jitter may draw nothing.
            ErrorClass::Auth => {
                let step = BLOCKED_RETRY.min(REFUSED_FIRST.mul_f64(1.6_f64.powi(self.refusals.min(32))));
                self.refusals += 1;
                step / 2 + (step / 2).mul_f64(rng.f64())
            }
            ErrorClass::Transient | ErrorClass::Data => {
                let throttled = kind.is_throttled();
                let pause = self.backoff.fail(now, throttled, error.retry_after(), rng);
                if reached != Reached::Live && !self.lost {
                    return pause;
                }
                let once = self.spread.mul_f64(rng.f64());
                if reached != Reached::Live {
                    // Of those who lost a registry for some seconds, most are at their first, short steps when it
                    // returns, and a quarter of them came in the same 100 ms: here the spread is the first step.
                    return pause.max(once.mul_f64(GROWTH));
                }
                self.lost = true;
                if throttled || self.backoff.failures() > 1 { once + pause } else { once }
            }
        }
    }
}

/// Whether the next session may go on where one ended that failed like this: only after a mere loss of contact.
pub(super) fn can_resume(error: &Error) -> bool {
    error.is_retryable() && error.kind() != ErrorKind::Protocol
}
