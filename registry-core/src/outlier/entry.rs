//! What is known of one instance that has failed.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    EjectionCause,
    machine::{Action, ProbeId, UNPROVEN},
};
use crate::{balance::Slot, model::InstanceKey};

/// What is known of one instance that has failed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) slot: Slot,
    pub(super) key: InstanceKey,
    state: State,
    /// Failures since the last success, by weight.
    pub(super) streak: u32,
    /// Failures in this interval.
    pub(super) failures: u32,
    /// Ejections in a row.
    pub(super) times: u32,
    /// When it was last restored.
    pub(super) restored: Instant,
    pub(super) last_failure: Instant,
    /// Probes without a verdict in a row.
    pub(super) unproven: u32,
    /// How many probes there had been, of all instances, when it was last ejected.
    pub(super) probes_before: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    Closed,
    Failing {
        since: Instant,
        cause: EjectionCause,
    },
    Ejected {
        until: Instant,
    },
    /// `answered` is when the answer to the probe began, if it did.
    HalfOpen {
        since: Instant,
        probe: ProbeId,
        answered: Option<Instant>,
    },
}

impl Entry {
    pub(super) fn new(slot: Slot, key: &InstanceKey, now: Instant) -> Self {
        Self {
            slot,
            key: key.clone(),
            state: State::Closed,
            streak: 0,
            failures: 0,
            times: 0,
            restored: now,
            last_failure: now,
            unproven: 0,
            probes_before: 0,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Goes to another state.
    pub(super) fn enter(&mut self, state: State, counts: &mut Counts) {
        counts.leave(self.state);
        self.state = state;
        counts.enter(state);
    }

    pub(super) fn restore(&mut self, counts: &mut Counts, now: Instant) -> Action {
        self.enter(State::Closed, counts);
        (self.streak, self.failures, self.unproven) = (0, 0, 0);
        self.restored = now;
        Action::Restore { key: self.key.clone() }
    }

    /// A probe ended without a verdict: the next one is due at `again`, unless there were too many of them.
    pub(super) fn unproven(&mut self, counts: &mut Counts, again: Instant, now: Instant) -> Option<Action> {
        self.unproven += 1;
        if self.unproven >= UNPROVEN {
            return Some(self.restore(counts, now));
        }
        self.enter(State::Ejected { until: again }, counts);
        None
    }

    /// Whether this is or was a probe of the present ejection.
    pub(super) fn was_tried_by(&self, slot: Slot, by: ProbeId) -> bool {
        let after = by.0.wrapping_sub(self.probes_before);
        self.slot == slot && self.state.is_out() && (1..u32::MAX / 2).contains(&after)
    }

    pub(super) fn is_tried_by(&self, slot: Slot, by: ProbeId) -> bool {
        self.slot == slot && matches!(self.state, State::HalfOpen { probe, .. } if probe == by)
    }

    /// Ejections in a row, less one for each interval that it has done well since.
    pub(super) fn times_now(&self, interval: Duration, now: Instant) -> u32 {
        let well = now.saturating_duration_since(self.restored).as_nanos() / interval.as_nanos().max(1);
        self.times.saturating_sub(u32::try_from(well).unwrap_or(u32::MAX))
    }

    /// For an order among those that are in the same state: since when, or until when, they are.
    pub(super) fn order(&self) -> (Instant, u32) {
        let at = match self.state {
            State::Closed => self.last_failure,
            State::Failing { since, .. } | State::HalfOpen { since, .. } => since,
            State::Ejected { until } => until,
        };
        (at, self.slot.index)
    }
}

impl State {
    pub(super) fn is_failing(self) -> bool {
        matches!(self, Self::Failing { .. })
    }

    pub(super) fn is_out(self) -> bool {
        matches!(self, Self::Ejected { .. } | Self::HalfOpen { .. })
    }
}

/// How many entries there are in the states that matter to all, so that no step has to walk the entries.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) failing: usize,
    /// Ejected or half open.
    pub(super) out: usize,
    /// Raised whenever an entry comes to fail or fails no more.
    pub(super) shifts: u64,
    /// Raised whenever an entry comes to be out, isn't any more, or is out in another way.
    pub(super) moves: u64,
}

impl Counts {
    pub(super) fn leave(&mut self, state: State) {
        self.failing -= usize::from(state.is_failing());
        self.shifts += u64::from(state.is_failing());
        self.out -= usize::from(state.is_out());
        self.moves += u64::from(state.is_out());
    }

    fn enter(&mut self, state: State) {
        self.failing += usize::from(state.is_failing());
        self.shifts += u64::from(state.is_failing());
        self.out += usize::from(state.is_out());
        self.moves += u64::from(state.is_out());
    }
}
