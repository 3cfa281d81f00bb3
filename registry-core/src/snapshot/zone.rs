//! Near and far: which instances run in the client's zone, and when those are too few for all requests.
//!
//! The rule is that of Envoy's priority levels: a level takes all as long as its healthy part × 1.4 is the whole;
//! below that it takes what it can, and the rest spills over.

use super::Pool;
use crate::model::Instance;

/// With fewer instances than this, zones don't count: one more or less would shift too much (Envoy's minimum cluster
/// size).
pub(super) const ENOUGH: usize = 6;
/// The healthy part of a zone, in tenths, that stands for ten tenths (Envoy's overprovisioning factor, 1.4).
const OVERPROVISIONED: usize = 14;

/// The client's zone, and how many instances of each pool are in it.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    name: Box<str>,
    near: [usize; Pool::COUNT],
    /// How many of those that serve and aren't in doubt fail, and aren't ejected as there is no room.
    pub(super) failing: usize,
    /// Whether near and far are kept apart.
    pub(super) split: bool,
}

/// The part of all requests that the near instances take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) near: usize,
    pub(crate) of: usize,
}

impl Zone {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), near: [0; Pool::COUNT], failing: 0, split: false }
    }

    pub(super) fn is_near(&self, instance: &Instance) -> bool {
        instance.zone() == Some(&*self.name)
    }

    /// The pool of one that takes requests.
    pub(super) fn pool(&self, instance: &Instance) -> Pool {
        if self.split && !self.is_near(instance) { Pool::Far } else { Pool::Serving }
    }

    pub(super) fn filed(&mut self, pool: Pool, instance: &Instance) {
        self.near[pool as usize] += usize::from(self.is_near(instance));
    }

    pub(super) fn unfiled(&mut self, pool: Pool, instance: &Instance) {
        self.near[pool as usize] -= usize::from(self.is_near(instance));
    }

    /// What the near ones take, if that isn't everything; `healthy` of them serve, aren't in doubt and don't fail, and
    /// there are others.
    ///
    /// The whole is what the zone could do if all were well: those that fail, ejected or not, are in doubt or down are missing, and
    /// so are those that drain. Those that start were never there, and those of weight 0 aren't to be.
    pub(super) fn share(&self, healthy: usize) -> Option<Share> {
        let whole: usize = [Pool::Serving, Pool::Ejected, Pool::Draining, Pool::Down]
            .into_iter()
            .map(|pool| self.near[pool as usize])
            .sum();
        let share = Share { near: healthy * OVERPROVISIONED, of: whole * 10 };
        (share.near < share.of).then_some(share)
    }
}
