//! When the reflector looks a target up beside its watch, and which answers still count.
//!
//! One lookup at a time: a *safety relist* now and then, as servers have lost watch events, or a *second opinion*
//! on held instances.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::spread;

/// Around this long after a second opinion failed it is asked for again.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The schedule of one reflector's lookups.
#[derive(Clone, Debug)]
pub(super) struct Lookups {
    every: Duration,
    pub(super) asked: Option<Asked>,
    count: u64,
    relist_at: Option<Instant>,
    confirm_not_before: Option<Instant>,
    /// Second opinions in a row that couldn't be had.
    failures: i32,
}

/// A lookup on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) id: u64,
    pub(super) at: Instant,
    /// Asked as a second opinion.
    pub(super) confirms: bool,
    /// What had been applied when it was asked.
    pub(super) generation: u64,
}

impl Lookups {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, asked: None, count: 0, relist_at: None, confirm_not_before: None, failures: 0 }
    }

    /// A whole list has just been applied: the next safety relist is a full draw away.
    pub(super) fn listed(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        self.failures = 0;
        self.relist_at = Some(now + spread(self.every, 0.5, rng));
    }

    /// An answer couldn't be had or used: ask again, but not before `at_least`. Second opinions start over with a
    /// few seconds, which grow: a hold may outlast a long outage.
    pub(super) fn retry(&mut self, asked: Asked, at_least: Duration, now: Instant, rng: &mut fastrand::Rng) {
        if asked.confirms {
            let pause = LONGEST_PAUSE.min(FIRST_PAUSE.mul_f64(1.6_f64.powi(self.failures.min(32))));
            self.failures += 1;
            self.confirm_not_before = Some(now + at_least.max(spread(pause, 0.5, rng)));
        } else {
            self.relist_at = Some(now + at_least.max(spread(self.every / 10, 0.5, rng)));
        }
    }

    /// When the next lookup is due. Without contact only second opinions are asked for: another endpoint may
    /// answer, whereas the session that comes back brings its own list.
    pub(super) fn next(&self, confirm_from: Option<Instant>, connected: bool) -> Option<Instant> {
        if self.asked.is_some() {
            return None;
        }
        let relist = self.relist_at.filter(|_| connected);
        let confirm = self.confirm_at(confirm_from);
        match (relist, confirm) {
            (Some(relist), Some(confirm)) => Some(relist.min(confirm)),
            (relist, confirm) => relist.or(confirm),
        }
    }

    /// Asks; whether as a second opinion depends on what is due.
    pub(super) fn ask(&mut self, confirm_from: Option<Instant>, generation: u64, now: Instant) -> Asked {
        self.count += 1;
        let confirms = self.confirm_at(confirm_from).is_some_and(|at| at <= now);
        let asked = Asked { id: self.count, at: now, confirms, generation };
        self.asked = Some(asked);
        asked
    }

    /// The lookup that `id` answers, unless it was given up.
    pub(super) fn answered(&mut self, id: u64) -> Option<Asked> {
        self.asked.take_if(|asked| asked.id == id)
    }

    /// All that the schedule depends on.
    #[cfg(test)]
    pub(super) fn due(&self) -> (Option<Instant>, Option<Instant>, i32) {
        (self.relist_at, self.confirm_not_before, self.failures)
    }

    fn confirm_at(&self, confirm_from: Option<Instant>) -> Option<Instant> {
        confirm_from.map(|from| self.confirm_not_before.map_or(from, |at| at.max(from)))
    }
}
