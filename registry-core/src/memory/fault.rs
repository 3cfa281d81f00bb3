//! Faults on command.

use std::{sync::Arc, time::Duration};

use super::{MemoryRegistry, Operation, call::CallFaults};
use crate::{
    Error, ErrorKind,
    backend::Change,
    model::{Instance, InstanceKey, Target},
};

/// Makes a [`MemoryRegistry`] misbehave; cheap to clone, effective at once.
///
/// The faults of calls ([`unavailable`](Self::unavailable), [`hang`](Self::hang), [`delay`](Self::delay),
/// [`answer_late`](Self::answer_late), [`lose_answers`](Self::lose_answers), [`fail_next`](Self::fail_next)) hit
/// all operations, or one: `memory.faults().on(Operation::Renew).hang(true)`. All others are about the data or
/// what watches deliver, and don't look at the operation.
#[derive(Clone, Debug)]
pub struct Faults {
    registry: MemoryRegistry,
    operation: Option<Operation>,
}

impl Faults {
    pub(super) fn new(registry: MemoryRegistry) -> Self {
        Self { registry, operation: None }
    }

    /// The same handle for the calls of one operation.
    #[must_use]
    pub fn on(&self, operation: Operation) -> Self {
        Self { registry: self.registry.clone(), operation: Some(operation) }
    }

    // === calls ===

    /// While on, calls fail with [`Unavailable`](ErrorKind::Unavailable), also those that hang, and open watches
    /// end with it.
    pub fn unavailable(&self, on: bool) {
        self.set(|calls| calls.unavailable = on);
        if on && self.operation.is_none_or(|only| only == Operation::Watch) {
            self.registry.with(|state, _| state.disconnect());
        }
    }

    /// While on, calls don't answer and open watches deliver nothing, signs of life included; when off, they go on
    /// where they stopped. Leases run out all the same.
    pub fn hang(&self, on: bool) {
        self.set(|calls| calls.hang = on);
    }

    /// Every call takes effect, and answers, this much later: the request travels slowly. Zero ends it.
    pub fn delay(&self, by: Duration) {
        self.set(|calls| calls.delay = by);
    }

    /// Every call takes effect at once and answers this much later; [`Duration::MAX`] is never. Zero ends it, for
    /// later calls.
    pub fn answer_late(&self, by: Duration) {
        self.set(|calls| calls.late = by);
    }

    /// While on, every call takes effect and then fails with [`Timeout`](ErrorKind::Timeout).
    pub fn lose_answers(&self, on: bool) {
        self.set(|calls| calls.lost = on);
    }

    /// The next `n` calls fail with an error of this kind, before they have any effect.
    pub fn fail_next(&self, n: usize, kind: ErrorKind) {
        self.fail_next_with(n, &Error::new(kind, "an injected failure"));
    }

    /// The next `n` calls fail with this error, before they have any effect.
    pub fn fail_next_with(&self, n: usize, error: &Error) {
        self.registry.with(|state, _| {
            let queue = match self.operation {
                None => &mut state.faults.fail_any,
                Some(only) => &mut state.faults.of_mut(only).fail,
            };
            queue.push_back((n, error.clone()));
        });
    }

    /// Takes back every fault that is still set, of calls and of what consumers see. What happened to leases,
    /// records and history stays.
    pub fn heal(&self) {
        self.registry.with(|state, now| {
            state.faults.heal();
            state.release_swapped(now);
            state.version += 1;
        });
    }

    // === crashes ===

    /// A restart with the data: open watches end, leases live on with their full time.
    pub fn restart(&self) {
        self.registry.with(|state, now| state.restart(now));
    }

    /// A restart without the data: open watches end, leases and records are gone, source and revision start anew.
    pub fn lose_data(&self) {
        self.registry.with(|state, _| state.lose_data());
    }

    /// Every open watch ends with [`Unavailable`](ErrorKind::Unavailable); new ones open.
    pub fn disconnect_watches(&self) {
        self.registry.with(|state, _| state.disconnect());
    }

    /// Forgets the history: an older cursor can't be resumed. Open watches go on.
    pub fn compact(&self) {
        self.registry.with(|state, _| state.compact());
    }

    // === leases and records ===

    /// Every lease ends now, as if it had expired: its records are removed.
    pub fn forget_leases(&self) {
        self.registry.with(|state, now| {
            for id in state.lease_ids() {
                state.end_lease(id, now);
            }
        });
    }

    /// Every lease is forgotten while its records stay, for ever.
    pub fn orphan_records(&self) {
        self.registry.with(|state, _| {
            for id in state.lease_ids() {
                state.orphan_lease(id);
            }
        });
    }

    /// An operator deletes a record; false if there was none.
    pub fn delete(&self, key: &InstanceKey) -> bool {
        self.registry.with(|state, now| state.delete(key.clone(), now))
    }

    /// Overwrites a record by something that can't be decoded, or creates it; a lease that ended the record before
    /// still ends it.
    pub fn corrupt(&self, key: &InstanceKey) {
        self.registry.with(|state, now| state.force(key.clone(), None, now));
    }

    /// Somebody else writes a record, over whatever stands there, without any lease; it carries the record version
    /// that the instance carries.
    pub fn put_foreign(&self, instance: Instance) {
        let instance = Arc::new(instance);
        self.registry.with(|state, now| state.force(instance.key(), Some(instance), now));
    }

    /// From now on a publication of this key is refused with [`InvalidArgument`](ErrorKind::InvalidArgument);
    /// others in its batch are not.
    pub fn reject(&self, key: &InstanceKey) {
        self.registry.with(|state, _| state.faults.rejected.insert(key.clone()));
    }

    /// Takes [`reject`](Self::reject) back.
    pub fn accept(&self, key: &InstanceKey) {
        self.registry.with(|state, _| state.faults.rejected.remove(key));
    }

    /// While on, publications are answered as successful and not stored.
    pub fn lose_publishes(&self, on: bool) {
        self.registry.with(|state, _| state.faults.lose_publishes = on);
    }

    // === what consumers see ===

    /// Open watches of the target get a complete list that is empty, at a new revision; the data stays.
    pub fn push_empty(&self, target: &Target) {
        self.push_partial(target, 0);
    }

    /// Open watches of the target get a complete list with only the first `keep` instances by id, at a new
    /// revision; the data stays.
    pub fn push_partial(&self, target: &Target, keep: usize) {
        self.registry.with(|state, now| {
            let (mut instances, _) = state.listing(target.service());
            instances.truncate(keep);
            let event = state.invented(vec![Change::Reset(instances)]);
            state.inject(target.service(), &event, now);
        });
    }

    /// Open watches of the target get the complete list as it is, at a new revision.
    pub fn push_full(&self, target: &Target) {
        self.registry.with(|state, now| {
            let (instances, rejected) = state.listing(target.service());
            let mut event = state.invented(vec![Change::Reset(instances)]);
            event.rejected = rejected;
            state.inject(target.service(), &event, now);
        });
    }

    /// Lookups of the target show only the first `keep` instances by id; `None` shows all again. So a second
    /// opinion agrees with a pushed list, or disagrees.
    pub fn drop_from_lookups(&self, target: &Target, keep: Option<usize>) {
        self.registry.with(|state, _| {
            match keep {
                Some(keep) => state.faults.shortened.insert(target.service().clone(), keep),
                None => state.faults.shortened.remove(target.service()),
            };
        });
    }

    /// While on, every event of a change is delivered twice.
    pub fn duplicate_events(&self, on: bool) {
        self.registry.with(|state, _| state.faults.delivery.double = on);
    }

    /// Every later event of a change is delivered this much later, in order. Zero ends it.
    pub fn late_events(&self, by: Duration) {
        self.registry.with(|state, _| state.faults.delivery.late = by);
    }

    /// While on, events are delivered in swapped pairs: each odd one waits for its successor and follows it.
    pub fn reorder_events(&self, on: bool) {
        self.registry.with(|state, now| {
            state.faults.delivery.swap = on;
            state.version += 1;
            if !on {
                state.release_swapped(now);
            }
        });
    }

    /// Delivers the oldest `n` events of the target that the history holds once more, with their old revisions and
    /// cursors.
    pub fn replay(&self, target: &Target, n: usize) {
        self.registry.with(|state, now| {
            for event in state.past_events(target.service()).into_iter().take(n) {
                state.inject(target.service(), &event, now);
            }
        });
    }

    /// From now on all answers and events claim to be this old.
    pub fn report_age(&self, age: Duration) {
        self.registry.with(|state, _| state.faults.age = age);
    }

    fn set(&self, change: impl Fn(&mut CallFaults)) {
        self.registry.with(|state, _| {
            for operation in Operation::ALL {
                if self.operation.is_none_or(|only| only == operation) {
                    change(state.faults.of_mut(operation));
                }
            }
            state.version += 1;
        });
    }
}
