//! When to renew, how long one attempt may take, and until when a registration may be claimed.
//!
//! All instants count from when a request was *sent*, with the time to live that the registry *granted*: an answer
//! may have travelled for long, and the registry's own clock started before it left.

use std::time::Duration;

use tokio::time::Instant;

/// Shortest granted time to live that can be kept alive with three attempts in time.
pub(crate) const MIN_TTL: Duration = Duration::from_secs(3);
/// Shortest pause between two renewals that succeed.
const SHORTEST_PERIOD: Duration = Duration::from_millis(500);
/// Shortest mean pause between two looks, however short a registry wants it or its silence is.
pub(super) const SHORTEST_LOOK: Duration = Duration::from_millis(500);
/// Hard limit on any call but a renewal.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(3);

/// The intervals that follow from a granted time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// The time to live as granted.
    pub(crate) ttl: Duration,
}

impl Times {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl }
    }

    /// Time from one sent renewal to the next, drawn 0 to 10 % early so that processes drift apart.
    pub(crate) fn period(self, rng: &mut fastrand::Rng) -> Duration {
        self.longest_period().mul_f64(1.0 - 0.1 * rng.f64())
    }

    /// The same when the registry says when it wants the next one: kept as long as three attempts still fit.
    pub(crate) fn wished_period(self, wish: Duration) -> Duration {
        wish.clamp(SHORTEST_PERIOD, self.longest_period())
    }

    fn longest_period(self) -> Duration {
        // Total for any time to live: a registry may shorten it at each renewal, below what we would accept as new.
        let most = self.ttl.saturating_sub(Duration::from_secs(1)).max(SHORTEST_PERIOD);
        (self.ttl / 3).clamp(SHORTEST_PERIOD, most)
    }

    /// How long one renewal attempt may take: three fit before the claim ends, for every time to live.
    pub(crate) fn attempt(self) -> Duration {
        (self.ttl / 6).clamp(Duration::from_millis(250), Duration::from_secs(5))
    }

    /// The last instant at which a registration renewed at `sent` may be claimed.
    pub(crate) fn safe(self, sent: Instant) -> Instant {
        sent + self.ttl.mul_f64(0.98)
    }

    /// When the last attempt begins at the latest, whatever the earlier ones wait for: after any outage of half the
    /// time to live that began with the first attempt, and early enough to be answered before the claim ends. `share`, from
    /// 0 to 1, says how late in what is between those: owners whose claims end together draw their own.
    pub(crate) fn last_chance(self, safe: Instant, share: f64) -> Instant {
        // From an eighth of the time to live before the end to a twelfth.
        safe.checked_sub((self.ttl / 8).mul_f64(1.0 - share / 3.0)).unwrap_or(safe)
    }

    /// The widest one-off spread of a reconnect, so that the clients of a restarted registry come one by one.
    pub(crate) fn spread(self) -> Duration {
        (self.ttl / 6).min(Duration::from_secs(3))
    }

    /// The same for whoever learns by a renewal that it was forgotten meanwhile. With a long time to live an attempt that
    /// hangs and the pause after it take most of the ten seconds in which everybody is to be back, and pauses are drawn
    /// from seconds already: from 30 s on nothing is left to spread.
    pub(crate) fn spread_after_retries(self) -> Duration {
        let spent = self.attempt() + self.longest_retry();
        self.spread().min(Duration::from_secs(9).saturating_sub(spent))
    }

    /// The slip between wall and monotonic time, or the lateness of a timer, that casts doubt on the lease.
    pub(crate) fn slip(self) -> Duration {
        (self.ttl / 4).max(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chance_comes_after_an_outage_of_half_the_time_to_live() {
        for millis in (3_000..120_000).step_by(250) {
            let times = Times::new(Duration::from_millis(millis));
            let sent = Instant::now();
            let over = sent + times.longest_period() + times.ttl / 2;
            assert!(over + times.ttl / 50 <= times.last_chance(times.safe(sent), 0.0), "{millis} ms");
        }
    }

    #[test]
    fn the_last_chance_leaves_time_for_an_answer_whoever_draws_it() {
        for millis in (3_000..120_000).step_by(250) {
            let times = Times::new(Duration::from_millis(millis));
            let safe = times.safe(Instant::now());
            let left = safe - times.last_chance(safe, 1.0);
            assert!(left >= Duration::from_millis(250) && left >= times.ttl / 13, "{millis} ms: {left:?}");
        }
    }
}
