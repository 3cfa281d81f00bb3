//! Immutable views of one service, and the differences between them.
//!
//! The writer files each instance in one of seven pools, so that filtering is choosing a list. A version costs
//! what changed, not what there is; see [`chunks`].

mod chunks;
mod diff;
mod members;
mod store;
#[cfg(test)]
mod tests;
mod warmth;
mod zone;

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

pub(crate) use self::{
    chunks::Leaf,
    members::{Member, Standing},
    store::Store,
    zone::Share,
};
pub use self::{
    diff::Diff,
    members::{Members, Slot},
    warmth::SlowStart,
};
use crate::model::{Instance, InstanceId, InstanceKey, Status};

/// Where an instance is filed, in the order in which picks use the pools: the first one that isn't empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Takes requests. If zones count, and enough instances serve: those of the client's zone.
    Serving,
    /// Serving in another zone.
    Far,
    /// Serving, but ejected as it kept failing.
    Ejected,
    /// Serving with weight 0: no traffic while any other serves; if all have weight 0, they count as equal.
    Resting,
    /// Leaves soon.
    Draining,
    /// Not ready.
    Starting,
    /// Unable to serve.
    Down,
}

/// Where the instances are that say of themselves that they serve.
const USABLE: [Pool; 4] = [Pool::Serving, Pool::Far, Pool::Ejected, Pool::Resting];
/// Where those are that take requests, or would if they weren't ejected.
pub(crate) const TAKING: [Pool; 3] = [Pool::Serving, Pool::Far, Pool::Ejected];

impl Pool {
    pub(crate) const COUNT: usize = 7;
    const ALL: [Self; Self::COUNT] =
        [Self::Serving, Self::Far, Self::Ejected, Self::Resting, Self::Draining, Self::Starting, Self::Down];

    pub(crate) fn of(instance: &Instance) -> Self {
        match instance.status() {
            Status::Serving if instance.weight().get() == 0 => Self::Resting,
            Status::Serving => Self::Serving,
            Status::Draining => Self::Draining,
            Status::Starting => Self::Starting,
            Status::Down => Self::Down,
        }
    }
}

/// A consistent view of one service that doesn't change any more. Cheap to clone and to keep.
///
/// Holds every known instance that the upstream's selector matches, whatever its status.
#[derive(Clone)]
pub struct Snapshot(Arc<Contents>);

struct Contents {
    version: u64,
    revision: Option<u64>,
    pools: [Members; Pool::COUNT],
    active: Pool,
    spill: Option<Share>,
    /// How long an instance warms up, if any does.
    warms_for: Option<Duration>,
    suspects: Option<Arc<HashSet<InstanceKey>>>,
    ejected: Option<Arc<HashSet<InstanceKey>>>,
}

impl Snapshot {
    /// The view before anything arrived: version 0, no instances.
    pub(crate) fn unfilled() -> Self {
        Store::default().snapshot(0, None)
    }

    /// Counts the versions of this upstream's view, from 1; 0 as long as nothing has arrived. Not comparable
    /// between upstreams or processes.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// The registry's own revision this view has reached, where the registry has one.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.0.revision
    }

    /// How many instances are known, whatever their status.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.pools.iter().map(Members::len).sum()
    }

    /// Whether no instance is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All known instances: the serving ones first, then the draining, the starting, and those that are down.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.0.pools.iter().flat_map(Members::iter)
    }

    /// The instance with this id. Walks the view: time in proportion to its length.
    #[must_use]
    pub fn get(&self, id: &InstanceId) -> Option<&Arc<Instance>> {
        self.iter().find(|instance| instance.id() == id)
    }

    /// How many instances are [`Serving`](Status::Serving), the ejected ones included: they come back by themselves.
    #[must_use]
    pub fn usable_len(&self) -> usize {
        USABLE.into_iter().map(|pool| self.pool(pool).len()).sum()
    }

    /// The instances that are [`Serving`](Status::Serving), the ejected ones included.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Instance>> {
        USABLE.into_iter().flat_map(|pool| self.pool(pool).iter())
    }

    /// The instances among which a pick that may only take those `accepted` would choose: the serving ones with a
    /// weight; if there are none, those of weight 0; then the draining, the starting and those that are down, as one
    /// that may refuse beats none.
    ///
    /// Says nothing of ejections. For balancers that aren't this crate's; walks the view twice.
    pub fn preferred(&self, accepted: impl Fn(&Instance) -> bool) -> impl Iterator<Item = &Arc<Instance>> {
        let rank = move |instance: &Instance| accepted(instance).then(|| Pool::of(instance) as usize);
        let best = self.iter().filter_map(|instance| rank(instance)).min();
        self.iter().filter(move |instance| best.is_some() && rank(instance) == best)
    }

    /// Whether any is [`Serving`](Status::Serving) and not kept apart as ejected; in a panic none is.
    pub(crate) fn has_usable(&self) -> bool {
        USABLE.into_iter().any(|pool| pool != Pool::Ejected && !self.pool(pool).is_empty())
    }

    /// Whether the shrink guard holds this instance: the registry's list no longer has it, which isn't
    /// believed yet. Suspects get less traffic.
    #[must_use]
    pub fn is_suspect(&self, key: &InstanceKey) -> bool {
        self.0.suspects.as_ref().is_some_and(|suspects| suspects.contains(key))
    }

    /// The instances that the shrink guard holds.
    pub(crate) fn suspects(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.0.pools.iter().flat_map(Members::suspects)
    }

    /// Whether the shrink guard holds any instance.
    pub(crate) fn has_suspects(&self) -> bool {
        self.0.suspects.is_some()
    }

    /// Whether this client keeps requests from this instance for a while, as those before failed; see
    /// [`Ejection`](crate::Ejection).
    #[must_use]
    pub fn is_ejected(&self, key: &InstanceKey) -> bool {
        self.0.ejected.as_ref().is_some_and(|ejected| ejected.contains(key))
    }

    /// The instances that are ejected. In a panic they are picked all the same.
    pub fn ejected(&self) -> impl Iterator<Item = &InstanceKey> {
        self.0.ejected.iter().flat_map(|ejected| ejected.iter())
    }

    /// The slots of the instances that take requests, or would if they weren't ejected.
    pub(crate) fn serving_slots(&self) -> impl Iterator<Item = Slot> {
        TAKING.into_iter().flat_map(|pool| self.pool(pool).members()).map(|member| member.slot)
    }

    /// What picks choose from.
    #[inline]
    pub(crate) fn active(&self) -> &Members {
        self.pool(self.0.active)
    }

    /// How long an instance warms up; nothing if none does.
    pub(crate) fn warms_for(&self) -> Duration {
        self.0.warms_for.unwrap_or_default()
    }

    /// How far the near instances can take all requests; `None` if they can, or if zones don't count.
    pub(crate) fn spill(&self) -> Option<Share> {
        self.0.spill
    }

    /// Who would be among the [active](Self::active) ones if they weren't ejected.
    pub(crate) fn passed_over(&self) -> Option<&Members> {
        matches!(self.0.active, Pool::Serving).then(|| self.pool(Pool::Ejected))
    }

    #[inline]
    pub(crate) fn pool(&self, pool: Pool) -> &Members {
        &self.0.pools[pool as usize]
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("version", &self.version())
            .field("revision", &self.revision())
            .field("len", &self.len())
            .field("usable", &self.usable_len())
            .finish_non_exhaustive()
    }
}
