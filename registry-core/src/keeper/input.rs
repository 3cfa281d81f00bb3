//! What goes into the machine and what comes out of it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{entry::Policy, phase::RegistrationEvent};
use crate::{
    Error,
    backend::{Lifetime, Outcome, Presence, Publish, Renewal},
    model::{Incarnation, Instance, InstanceKey},
};

/// Identifies a lease across actions and replies.
pub(crate) type LeaseNo = u64;
/// Identifies one call.
pub(crate) type OpId = u64;

/// How a keeper behaves.
#[derive(Clone, Debug)]
pub(crate) struct KeeperConfig {
    pub(crate) ttl: Duration,
    pub(crate) incarnation: Incarnation,
    /// Mean time between audits; jittered by 20 %.
    pub(crate) audit_every: Duration,
    /// When a loss counts as lasting, if anybody wants to know.
    pub(crate) lasting_loss: Option<Duration>,
    pub(crate) seed: u64,
}

/// When a step happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) mono: Instant,
    /// Wall time since the epoch; only differences count.
    pub(crate) wall: Duration,
    /// What the application's liveness hook says.
    pub(crate) alive: bool,
}

/// What a step reacts to.
#[derive(Debug)]
pub(crate) enum Input {
    /// A timer fired, or there is nothing special.
    Wake,
    /// The task was restarted after a panic: nothing that was in flight will be answered.
    Restarted,
    /// The user registers or updates.
    Want { record: Arc<Instance>, policy: Policy },
    /// The user withdraws, and waits until `by`.
    Withdraw { key: InstanceKey, by: Instant },
    /// A call was answered, or timed out.
    Reply { op: OpId, reply: Reply },
    /// Several inputs at once, reconciled once: so that they share batches.
    Many(Vec<Input>),
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Granted(Result<Lifetime, Error>),
    Published(Vec<Outcome>),
    Withdrawn(Vec<Outcome>),
    Renewed(Result<Renewal, Error>),
    Inspected(Result<Vec<Presence>, Error>),
    Revoked(Result<(), Error>),
}

/// What the task has to do.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Call {
        op: OpId,
        deadline: Instant,
        call: Call,
    },
    /// Nobody will use the lease again.
    Forget {
        lease: LeaseNo,
    },
    /// One transition, and all the instances it hit.
    Emit(Vec<(InstanceKey, RegistrationEvent)>),
}

/// A call on the registry or on a lease.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Grant { lease: LeaseNo },
    Publish { lease: LeaseNo, records: Vec<Publish> },
    Withdraw { lease: LeaseNo, instances: Vec<Arc<Instance>> },
    Renew { lease: LeaseNo },
    Inspect { lease: LeaseNo, keys: Vec<InstanceKey> },
    Revoke { lease: LeaseNo },
}
