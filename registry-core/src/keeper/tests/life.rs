//! One life of one client, with clocks of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::super::{
    input::{Call, KeeperConfig, LeaseNo, OpId},
    phase::RegistrationEvent,
    state::KeeperState,
};
use crate::{
    Capabilities,
    model::{Incarnation, Instance, InstanceKey},
};

pub(super) const TTL: Duration = Duration::from_secs(15);

pub(super) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An instance of the service `orders`; `note` tells contents apart.
pub(super) fn instance(id: &str, note: &str) -> Arc<Instance> {
    let built = Instance::builder("orders").id(id).endpoint("http://10.0.0.7:8080").metadata("note", note);
    Arc::new(built.build().unwrap())
}

pub(super) fn key(id: &str) -> InstanceKey {
    instance(id, "").key()
}

/// One life of one client.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) keeper: KeeperState,
    pub(super) incarnation: Incarnation,
    pub(super) alive: bool,
    /// How far an operator or a suspend set the wall clock off, in milliseconds.
    pub(super) wall_off: i64,
    /// How long the monotonic clock stood still.
    pub(super) frozen: Duration,
    /// Since when and how long it stands still now.
    pub(super) stalled: Option<(Duration, Duration)>,
    /// The process doesn't run until then.
    pub(super) stopped_until: Option<Duration>,
    pub(super) last_step: Option<(Duration, Duration)>,
    pub(super) pending: BTreeMap<OpId, Pending>,
    pub(super) events: Vec<(Duration, InstanceKey, RegistrationEvent)>,
    pub(super) history: BTreeMap<InstanceKey, Vec<RegistrationEvent>>,
    /// How many registrations began under each key.
    pub(super) begun: BTreeMap<InstanceKey, usize>,
    /// How many instances each emission listed.
    pub(super) emissions: Vec<usize>,
    pub(super) desired: BTreeMap<InstanceKey, Arc<Instance>>,
    /// Withdrawn in this very step: what was overdue is told first.
    pub(super) leaving: Option<InstanceKey>,
    pub(super) confirmed: BTreeSet<InstanceKey>,
    /// When the last successful renewal of a lease was sent, and for how long it was granted.
    pub(super) proofs: BTreeMap<LeaseNo, (Duration, Option<Duration>)>,
    /// When the last successful beat or publication of an instance was sent.
    pub(super) beats: BTreeMap<InstanceKey, Duration>,
    pub(super) steps: Vec<Duration>,
}

impl Life {
    pub(super) fn new(config: KeeperConfig, capabilities: Capabilities) -> Self {
        Self {
            incarnation: config.incarnation,
            keeper: KeeperState::new(config, capabilities),
            alive: true,
            wall_off: 0,
            frozen: Duration::ZERO,
            stalled: None,
            stopped_until: None,
            last_step: None,
            pending: BTreeMap::new(),
            events: Vec::new(),
            history: BTreeMap::new(),
            begun: BTreeMap::new(),
            emissions: Vec::new(),
            desired: BTreeMap::new(),
            leaving: None,
            confirmed: BTreeSet::new(),
            proofs: BTreeMap::new(),
            beats: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    pub(super) fn resume(&mut self) {
        self.stopped_until = None;
        self.frozen += self.stalled.take().map_or(Duration::ZERO, |(_, long)| long);
    }
}

#[derive(Clone)]
pub(super) struct Pending {
    pub(super) sent: Duration,
    /// On the life's monotonic clock.
    pub(super) deadline: Duration,
    pub(super) call: Call,
}

pub(super) fn config(seed: u64) -> KeeperConfig {
    KeeperConfig {
        ttl: TTL,
        incarnation: Incarnation::from_bits(u128::from(seed) + 1),
        audit_every: secs(60),
        lasting_loss: None,
        seed,
    }
}
