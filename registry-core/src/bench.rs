//! A door for the benchmarks of this repository, which measure what isn't public. Not part of the API.

use std::{fmt, sync::Arc};

use crate::{
    balance::{Balance, Dice, Failure, Members, PickContext, Rule},
    model::{Instance, InstanceKey, Selector},
    snapshot::Snapshot,
    view::{View, ViewChange, ViewSink},
};

/// A view that is fed by hand.
pub struct Published(View);

impl Published {
    /// An empty view.
    #[must_use]
    pub fn new(balance: &Balance) -> Self {
        Self(View::new(Selector::new(), balance))
    }

    /// Applies a batch and publishes it.
    pub fn apply(&self, upserts: Vec<Arc<Instance>>, removals: Vec<InstanceKey>) {
        self.0.apply(&ViewChange { upserts, removals, ..ViewChange::default() });
    }

    /// Picks, and reports a refused connection, until somebody is ejected who wasn't; at most a thousand times.
    pub fn eject(&self) {
        let ejected = || self.snapshot().ejected().count();
        let Some(outliers) = self.0.outliers() else { return };
        let before = ejected();
        for _ in 0..1_000 {
            let picked = self.0.pick(self.0.seat(), &PickContext::new(), |member| {
                member.map(|member| (Arc::clone(&member.instance), member.slot))
            });
            let Some((instance, slot)) = picked else { return };
            outliers.report(&self.0, &instance, slot, Some(Failure::Connect), None);
            if ejected() > before {
                return;
            }
        }
    }

    /// What is published.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.0.live().snapshot.clone()
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&self.0).finish()
    }
}

/// The choice of a policy, without the pick around it.
pub struct LookUp {
    members: Members,
    rule: Rule,
}

impl LookUp {
    /// The rule for these instances, whose positions are their order here.
    #[must_use]
    pub fn new(balance: &Balance, instances: Vec<Arc<Instance>>) -> Self {
        let published = Published::new(balance);
        published.apply(instances, Vec::new());
        let snapshot = published.snapshot();
        let rule = balance.balancing().rule(snapshot.active(), None);
        let members = snapshot.active().clone();
        Self { members, rule }
    }

    /// The position that a key belongs to.
    #[must_use]
    pub fn position(&self, key: u64) -> usize {
        let context = PickContext::new().hash_key(key);
        self.rule.pick(&self.members, &context, 0, &Dice::still()).0
    }
}

impl fmt::Debug for LookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookUp").field("members", &self.members).field("rule", &self.rule).finish()
    }
}
