//! What a guarded set has to tell and hasn't yet.

use std::{collections::HashSet, sync::Arc};

use tokio::time::Instant;

use crate::{
    ViewEvent,
    model::{Instance, InstanceKey, KeyMap},
};

/// Most keys told in one event.
const TOLD_KEYS: usize = 32;

/// What hasn't been published yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    /// The published version of each key touched since.
    pub(super) before: KeyMap<Option<Arc<Instance>>>,
    /// A first list, none of which has been published: all there is, in the list's order.
    pub(super) first: Vec<Arc<Instance>>,
    pub(super) suspects_changed: bool,
    pub(super) suspects: Option<Arc<HashSet<InstanceKey>>>,
    pub(super) events: Vec<ViewEvent>,
    pub(super) removed_from_hold: usize,
    pub(super) rejected: Vec<InstanceKey>,
    pub(super) next_end: Option<Instant>,
    pub(super) next_confirm: Option<Instant>,
}

impl Pending {
    /// Notes that a key is about to differ from what was published.
    pub(super) fn note(&mut self, key: InstanceKey, before: Option<Arc<Instance>>) {
        // Rare: a first list was taken in and changed before it was published.
        for new in self.first.drain(..) {
            self.before.insert(new.key(), None);
        }
        self.before.entry(key).or_insert(before);
    }

    pub(super) fn take_events(&mut self) -> Vec<ViewEvent> {
        if self.removed_from_hold > 0 {
            self.events.push(ViewEvent::ShrinkApplied { removed: self.removed_from_hold });
            self.removed_from_hold = 0;
        }
        if !self.rejected.is_empty() {
            let count = self.rejected.len();
            self.rejected.truncate(TOLD_KEYS);
            let keys = std::mem::take(&mut self.rejected).into();
            self.events.push(ViewEvent::Rejected { keys, count });
        }
        std::mem::take(&mut self.events)
    }
}
