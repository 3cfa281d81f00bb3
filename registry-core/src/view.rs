//! What a reflector tells the views that are built on it.
#![cfg_attr(not(test), expect(dead_code, reason = "the views that read it follow"))]

use std::{collections::HashSet, sync::Arc};

use crate::model::{Instance, InstanceKey};

/// One step of a guarded view: apply it whole or not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct ViewChange {
    /// Added or changed instances, each key once.
    pub(crate) upserts: Vec<Arc<Instance>>,
    /// Instances that are gone; every one of them was upserted before.
    pub(crate) removals: Vec<InstanceKey>,
    /// The complete set of held instances after this change; `None` if there is none.
    pub(crate) suspects: Option<Arc<HashSet<InstanceKey>>>,
    /// The registry's revision after this change.
    pub(crate) revision: Option<u64>,
}

/// Where a reflector publishes its view.
pub(crate) trait ViewSink: Send + Sync {
    /// Publishes one snapshot. Called from the reflector's task, so it must not block.
    fn apply(&self, change: &ViewChange);
}
