//! How long a renewal that failed waits for the next attempt.
//!
//! | what became of the attempt | first two pauses | later ones |
//! |---|---|---|
//! | refused, cut off | 0 to L/10 | half to all of L/6 |
//! | not answered in time | 0 to 200 ms, 0 to 400 ms | 0 to 200 ms × 2ⁿ |
//! | answered for some instances, or refused as too much | half to all of L/15 | half to all of L/6 |
//! | refused for good: who we are, or what we ask | half to all of L/15 | half to all of L/3 |
//!
//! L is the time to live. While nobody is heard no pause is above 4 s, so that everybody is back 10 s after the registry,
//! as an attempt hangs for 5 s at most. A registry that answers and lacks something is asked less often: up to 30 s apart.
//!
//! One event refuses all owners at once, so that the draw alone keeps them apart; who gets no answer was let wait from an
//! instant of his own, and next tries another server. Two pauses and three attempts that hang fit before the claim ends.

use std::time::Duration;

use super::times::Times;
use crate::{Error, ErrorClass, ErrorKind};

/// Longest pause while the registry isn't heard.
pub(super) const LONGEST: Duration = Duration::from_secs(4);
/// Longest pause while it is, unless it asks for more.
const LONGEST_HEARD: Duration = Duration::from_secs(30);
/// Longest first pause after an attempt without an answer; doubles each time.
const SILENT_FIRST: Duration = Duration::from_millis(200);
/// However short a time to live a registry shortens it to, the longest pause isn't shorter.
const SHORTEST_STEP: Duration = Duration::from_millis(100);

/// What became of an attempt to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// An error came back, or the connection broke.
    Refused,
    /// Nothing came back in time.
    Silent,
    /// It was answered, for some instances only.
    Partial,
    /// It was answered: not so many.
    Throttled,
    /// It was answered: not by us, or not so. That passes when somebody changes something.
    Barred,
}

impl Attempt {
    pub(super) fn failed(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Timeout => Self::Silent,
            kind if kind.is_throttled() => Self::Throttled,
            kind if matches!(kind.class(), ErrorClass::Auth | ErrorClass::Fatal) => Self::Barred,
            _ => Self::Refused,
        }
    }
}

impl Times {
    /// Pause before the next attempt after `failures` in a row before this one.
    pub(super) fn retry(self, failures: u32, attempt: Attempt, rng: &mut fastrand::Rng) -> Duration {
        let early = failures < 2;
        // A beat of many may be the first sign that the registry goes.
        let is_away = early || matches!(attempt, Attempt::Refused | Attempt::Silent);
        let longest = if is_away { LONGEST } else { LONGEST_HEARD };
        let share = match attempt {
            Attempt::Refused if early => 10,
            _ if early => 15,
            Attempt::Barred => 3,
            _ => 6,
        };
        let step = (self.ttl / share).clamp(SHORTEST_STEP, longest);
        match attempt {
            Attempt::Refused if early => step.mul_f64(rng.f64()),
            Attempt::Silent => step.min(SILENT_FIRST * (1 << failures.min(10))).mul_f64(rng.f64()),
            _ => step.mul_f64(0.5 + 0.5 * rng.f64()),
        }
    }

    /// An attempt that would have less than this before the last chance isn't worth its request.
    pub(super) fn shortest_attempt(self) -> Duration {
        (self.ttl / 16).min(LONGEST)
    }

    /// The longest that [`retry`](Self::retry) draws while the registry isn't heard.
    pub(super) fn longest_retry(self) -> Duration {
        (self.ttl / 6).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const ALL: [Attempt; 5] =
        [Attempt::Refused, Attempt::Silent, Attempt::Partial, Attempt::Throttled, Attempt::Barred];

    fn longest(times: Times, failures: u32, attempt: Attempt) -> Duration {
        let mut rng = fastrand::Rng::with_seed(1);
        (0..200).map(|_| times.retry(failures, attempt, &mut rng)).max().unwrap()
    }

    #[test]
    fn three_attempts_fit_before_the_claim_ends_for_every_time_to_live() {
        let mut rng = fastrand::Rng::with_seed(1);
        for millis in (3_000..300_000).step_by(250) {
            let times = Times::new(Duration::from_millis(millis));
            let now = Instant::now();
            for attempt in [Attempt::Silent, Attempt::Partial] {
                let pauses = longest(times, 0, attempt) + longest(times, 1, attempt);
                let spent = times.period(&mut rng) + 3 * times.attempt() + pauses;
                assert!(now + spent <= times.safe(now), "{millis} ms, {attempt:?}");
            }
            // One that is refused takes no time itself.
            let spent = times.period(&mut rng) + 2 * times.attempt() + longest(times, 0, Attempt::Refused);
            assert!(now + spent + longest(times, 1, Attempt::Silent) <= times.safe(now), "{millis} ms");
        }
    }

    #[test]
    fn no_pause_is_longer_than_its_share_of_the_time_to_live_nor_than_everybody_can_wait() {
        for secs in [3, 5, 15, 30, 60, 90, 300, 3_600] {
            let times = Times::new(Duration::from_secs(secs));
            for (failures, attempt) in (0..40).flat_map(|n| ALL.map(|attempt| (n, attempt))) {
                let heard = !matches!(attempt, Attempt::Refused | Attempt::Silent);
                let share = if attempt == Attempt::Barred { 3.0 } else { 6.0 };
                let most = times.ttl.div_f64(share).min(Duration::from_secs(if heard { 30 } else { 4 }));
                assert!(longest(times, failures, attempt) <= most, "{secs} s, {attempt:?}");
            }
        }
    }

    /// A dead registry that refuses at once is asked by a thousand owners 533 times a second with 15 s, 333 times with
    /// 24 s or more: after their losses they ask it 400 times.
    #[test]
    fn a_thousand_owners_ask_a_dead_registry_no_more_often_than_said() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (secs, most) in [(15, 540.0), (24, 340.0), (60, 340.0), (300, 340.0)] {
            let times = Times::new(Duration::from_secs(secs));
            let pauses: Duration = (2..1_002).map(|n| times.retry(n, Attempt::Refused, &mut rng)).sum();
            let rate = 1_000_000.0 / pauses.as_secs_f64();
            assert!(rate <= most, "{rate} a second with {secs} s");
        }
    }
}
