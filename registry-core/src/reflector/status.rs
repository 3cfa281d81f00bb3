//! Freshness as a pure function of what is known and the moment it is asked.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Error, Freshness, ViewState, backend::SourceId};

/// A limit is passed only beyond it; timers resolve milliseconds.
pub(super) const JUST_AFTER: Duration = Duration::from_millis(1);

/// One moment on both clocks: the monotonic one for deadlines, the wall to notice a suspended machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) mono: Instant,
    /// Since the Unix epoch.
    pub(crate) wall: Duration,
}

impl Moment {
    /// The moment `age` ago. Of one before the clocks began, a moment long ago: half as far back as they go, at least.
    pub(super) fn earlier(self, age: Duration) -> Self {
        let mut back = age;
        let mono = loop {
            match self.mono.checked_sub(back) {
                Some(mono) => break mono,
                None => back /= 2,
            }
        };
        Self { mono, wall: self.wall.saturating_sub(age) }
    }

    /// Time since `then`, on whichever clock saw more of it pass.
    pub(super) fn since(self, then: Self) -> Duration {
        self.mono.saturating_duration_since(then.mono).max(self.wall.saturating_sub(then.wall))
    }
}

/// Whether there is a view, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    No,
    Disk,
    Registry,
}

/// The limits that freshness is measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) proof_within: Duration,
    pub(super) max_staleness: Option<Duration>,
}

/// What the task last knew.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) loaded: Loaded,
    /// Whether changes still reach us, as far as we know.
    pub(super) connected: bool,
    /// When the registry last proved the view current; for a view from disk, when it was saved.
    pub(super) proof: Option<Moment>,
    pub(super) source: Option<SourceId>,
    pub(super) held: usize,
    pub(super) rejected: u64,
    /// Whether the last answer left out what we may not see.
    pub(super) partial: bool,
    pub(super) last_error: Option<Error>,
    /// The task has ended.
    pub(super) closed: bool,
}

impl Status {
    pub(super) fn new() -> Self {
        Self {
            loaded: Loaded::No,
            connected: false,
            proof: None,
            source: None,
            held: 0,
            rejected: 0,
            partial: false,
            last_error: None,
            closed: false,
        }
    }

    pub(super) fn state(&self, limits: Limits, now: Moment) -> ViewState {
        let age = self.age(now);
        match self.loaded {
            Loaded::No => ViewState::Loading,
            _ if limits.max_staleness.is_some_and(|max| age.is_some_and(|age| age > max)) => {
                ViewState::Expired
            }
            Loaded::Disk => ViewState::Disk,
            Loaded::Registry
                if self.connected && !self.closed && age.is_some_and(|age| age <= limits.proof_within) =>
            {
                ViewState::Fresh
            }
            Loaded::Registry => ViewState::Stale,
        }
    }

    pub(super) fn age(&self, now: Moment) -> Option<Duration> {
        self.proof.map(|proof| now.since(proof))
    }

    /// When the state changes by the mere passing of time.
    pub(super) fn next_edge(&self, limits: Limits, now: Moment) -> Option<Instant> {
        let limit = match self.state(limits, now) {
            ViewState::Fresh => {
                Some(limits.max_staleness.map_or(limits.proof_within, |max| max.min(limits.proof_within)))
            }
            ViewState::Stale | ViewState::Disk => limits.max_staleness,
            ViewState::Loading | ViewState::Expired => None,
        };
        let left = limit?.saturating_sub(self.age(now)?);
        Some(now.mono + left + JUST_AFTER)
    }

    pub(super) fn freshness(&self, limits: Limits, now: Moment) -> Freshness {
        Freshness {
            state: self.state(limits, now),
            age: self.age(now),
            source: self.source.clone(),
            held: self.held,
            rejected: self.rejected,
            partial: self.partial,
            last_error: self.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_clocks_is_old_and_not_new() {
        // A machine that doesn't know the time yet.
        let now = Moment { mono: Instant::now(), wall: Duration::ZERO };
        for age in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(i64::MAX as u64)] {
            let mut status = Status::new();
            (status.loaded, status.connected) = (Loaded::Registry, true);
            status.proof = Some(now.earlier(age));
            let limits = Limits { proof_within: Duration::from_secs(60), max_staleness: None };
            assert_eq!(status.state(limits, now), ViewState::Stale, "{age:?}");
        }
        assert_eq!(now.since(now.earlier(Duration::from_secs(5))), Duration::from_secs(5));
    }
}
