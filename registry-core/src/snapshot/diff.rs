//! The difference between two snapshots.

use std::{collections::HashMap, sync::Arc};

use super::{Member, Snapshot, chunks::Chunks};
use crate::model::{Instance, InstanceId, ServiceName};

/// What turns one snapshot into another. Each instance occurs at most once; applying the differences of an
/// upstream in order, from nothing, gives its snapshot at every point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Diff {
    /// The version it starts from.
    pub from: u64,
    /// The version it leads to.
    pub to: u64,
    /// Instances that only the newer one has.
    pub added: Vec<Arc<Instance>>,
    /// Instances that only the older one has.
    pub removed: Vec<Arc<Instance>>,
    /// Instances that both have, as another record (see [`Instance::is_same_record`]): old, new.
    pub changed: Vec<(Arc<Instance>, Arc<Instance>)>,
}

impl Diff {
    /// Compares two snapshots. Between versions of one upstream, the work is in proportion to what differs.
    #[must_use]
    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let mut diff = Self { from: old.version(), to: new.version(), ..Self::default() };
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for (old, new) in old.0.pools.iter().zip(&new.0.pools) {
            for (old, new) in old.lists().into_iter().zip(new.lists()) {
                // By the pointer: a look into each neighbour of what changed would cost more than all the rest.
                let same = |a: &Member, b: &Member| Arc::ptr_eq(&a.instance, &b.instance);
                Chunks::unshared(old, new, same, |m| before.push(&m.instance), |m| after.push(&m.instance));
            }
        }
        // Whatever moved is in both lists, as its old place now holds another entry or none, and its new place did.
        let mut gone: HashMap<(&ServiceName, &InstanceId), &Arc<Instance>> =
            before.iter().map(|old| ((old.service(), old.id()), *old)).collect();
        for new in after {
            match gone.remove(&(new.service(), new.id())) {
                None => diff.added.push(Arc::clone(new)),
                Some(old) if Arc::ptr_eq(old, new) || old.is_same_record(new) => {}
                Some(old) => diff.changed.push((Arc::clone(old), Arc::clone(new))),
            }
        }
        let gone = |old: &&Arc<Instance>| gone.contains_key(&(old.service(), old.id()));
        diff.removed = before.into_iter().filter(gone).cloned().collect();
        diff
    }

    /// Whether the records are the same. The versions may still differ: which instances are suspect, for
    /// example.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}
