//! What becomes of a change on its way from the reflector into one view: selected, damped, narrowed to a subset.
//!
//! ```text
//!   ViewChange ─► selector ─► damping ─► subset ─► store ─► snapshot
//! ```
//!
//! Each step turns one change into another, before the store, so that picks know nothing of it. What is off costs
//! nothing: a change then passes as it is.

mod damping;
mod subset;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use tokio::time::Instant;

use self::{damping::Damper, subset::Ring};
pub use self::{damping::Damping, subset::Subset};
use crate::{
    model::{InstanceKey, Selector},
    view::ViewChange,
};

/// The steps of one view.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    selector: Option<Selector>,
    damper: Option<Damper>,
    ring: Option<Ring>,
    /// Of the last change; what is published later than it came says the same.
    suspects: Option<Arc<HashSet<InstanceKey>>>,
}

impl Intake {
    /// `seed` is the client's: two views of one target then have the same subset.
    pub(crate) fn new(selector: Selector, damping: Damping, subset: Subset, seed: u64) -> Self {
        Self {
            selector: (selector != Selector::new()).then_some(selector),
            damper: damping.epoch().map(Damper::new),
            ring: Ring::new(subset, seed),
            suspects: None,
        }
    }

    /// Whether anything ever falls due.
    pub(crate) fn has_deadlines(&self) -> bool {
        self.damper.is_some()
    }

    /// What the store gets to see of a change.
    pub(crate) fn take<'a>(&mut self, change: &'a ViewChange, now: Instant) -> Cow<'a, ViewChange> {
        let mut change = Cow::Borrowed(change);
        if let Some(selector) = &self.selector {
            change = Cow::Owned(select(selector, &change));
        }
        if let Some(damper) = &mut self.damper {
            self.suspects.clone_from(&change.suspects);
            change = Cow::Owned(damper.take(&change, now));
        }
        if let Some(ring) = &mut self.ring {
            change = Cow::Owned(ring.take(&change));
        }
        change
    }

    /// What has fallen due by now, if anything has.
    pub(crate) fn due(&mut self, now: Instant) -> Option<ViewChange> {
        let due = self.damper.as_mut()?.due(now)?;
        Some(self.late(due))
    }

    /// Everything that is still held back, as nothing more will come.
    pub(crate) fn rest(&mut self) -> Option<ViewChange> {
        let rest = self.damper.as_mut()?.rest()?;
        Some(self.late(rest))
    }

    /// When [`due`](Self::due) is to be asked next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.damper.as_ref()?.deadline()
    }

    fn late(&mut self, change: ViewChange) -> ViewChange {
        let change = ViewChange { suspects: self.suspects.clone(), ..change };
        match &mut self.ring {
            Some(ring) => ring.take(&change),
            None => change,
        }
    }
}

/// An instance that doesn't match is one that isn't there.
fn select(selector: &Selector, change: &ViewChange) -> ViewChange {
    let (upserts, others): (Vec<_>, Vec<_>) =
        change.upserts.iter().cloned().partition(|instance| selector.matches(instance));
    let removals = change.removals.iter().cloned().chain(others.iter().map(|other| other.key())).collect();
    ViewChange { upserts, removals, suspects: change.suspects.clone(), revision: change.revision }
}
