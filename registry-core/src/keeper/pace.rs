//! How fast publications leave after a loss: a token bucket, so that the clients of a registry that came back empty
//! don't bring it down again.

use std::time::Duration;

use tokio::time::Instant;

use super::{entry::Entry, state::KeeperState};

/// Publications after a loss that go out at once; more are paced.
const BURST: f64 = 1_000.0;
/// Publications per second beyond the burst.
const PER_SECOND: f64 = 200.0;
/// Paced publications leave in groups of at least this many, or all that are left.
const GROUP: f64 = 50.0;

#[derive(Clone, Debug)]
pub(super) struct Pace {
    tokens: f64,
    since: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { tokens: BURST, since: None }
    }

    /// How many of `wanted` publications may leave now.
    pub(super) fn take(&mut self, wanted: usize, now: Instant) -> usize {
        let idle = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let tokens = (self.tokens + idle.as_secs_f64() * PER_SECOND).min(BURST);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000")]
        let whole = tokens as usize;
        let granted = if wanted > whole && tokens < GROUP { 0 } else { wanted.min(whole) };
        #[expect(clippy::cast_precision_loss, reason = "at most 1,000")]
        let left = tokens - granted as f64;
        (self.tokens, self.since) = (left, Some(now));
        granted
    }

    /// When the next group may leave.
    fn ready_at(&self) -> Option<Instant> {
        let missing = (GROUP - self.tokens).max(1.0) / PER_SECOND;
        // A microsecond more, so that rounding never makes it a token short.
        self.since.map(|since| since + Duration::from_secs_f64(missing) + Duration::from_micros(1))
    }
}

impl KeeperState {
    /// When enough tokens are back for the publications that wait for them.
    pub(super) fn pace_wake(&self) -> Option<Instant> {
        let waits = |e: &Entry| e.op.is_none() && e.retry_at.is_none() && is_paced(e) && self.has_work(e);
        self.entries.values().any(waits).then(|| self.pace.ready_at()).flatten()
    }
}

/// Only publications after a loss are paced: a fleet that starts shall be visible at once.
pub(super) fn is_paced(entry: &Entry) -> bool {
    entry.is_wanted() && entry.epoch > 1 && !entry.is_published()
}
