//! Tells worlds apart: all that the future depends on, and nothing else.
//!
//! Left out: the generator of random draws, which is set before each step, and the numbers of sessions.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use super::world::Checked;
use crate::reflector::state::Phase;

impl Checked {
    pub(super) fn print(&self) -> u64 {
        let mut hash = DefaultHasher::new();
        let state = &self.bench.state;
        self.bench.now.mono.hash(&mut hash);
        self.scope.hash(&mut hash);
        (&self.past, self.delivered(), self.silent, self.seen, self.lied, self.told).hash(&mut hash);
        (&self.held, &self.reached, self.bench.open, self.resumes).hash(&mut hash);
        match state.phase {
            Phase::Waiting { until } => (0, until).hash(&mut hash),
            Phase::Opening { until, resuming, .. } => (1, until, resuming).hash(&mut hash),
            Phase::Live { .. } => 2.hash(&mut hash),
        }
        let asked =
            state.lookups.asked.map(|asked| (asked.at, asked.confirms, state.generation - asked.generation));
        let cursor = self.bench.opened.last().and_then(|(_, cursor)| cursor.clone());
        (&state.cursor, cursor, state.heard, asked).hash(&mut hash);
        // Small, and without anything whose order is by chance.
        let status = state.status();
        let rest =
            format!("{:?} {:?} {:?}", state.lookups.due(), state.reconnect, (status.connected, status.proof));
        (rest, status.loaded as u8).hash(&mut hash);

        let guard = &state.guard;
        let held: BTreeMap<_, _> =
            guard.held.iter().map(|(key, held)| (key.id.as_str(), (held.until, held.confirm_from))).collect();
        let view: BTreeMap<_, _> =
            guard.view.iter().map(|(key, instance)| (key.id.as_str(), instance.weight().get())).collect();
        (held, view, &guard.recent, guard.burst_until, guard.settling_until).hash(&mut hash);
        (guard.source(), guard.revision).hash(&mut hash);
        hash.finish()
    }
}
