//! What a readiness probe wants to know.

use std::collections::BTreeMap;

use super::Lifecycle;
use crate::{
    ViewState,
    keeper::Phase,
    model::{InstanceKey, ServiceName},
};

/// A client's health at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// Where each registration stands.
    pub registrations: BTreeMap<InstanceKey, Phase>,
    /// How fresh the view of each watched service is.
    pub services: BTreeMap<ServiceName, ViewState>,
    /// Whether the client is running, draining or closed.
    pub lifecycle: Lifecycle,
    pub(super) never_live: usize,
}

impl Health {
    /// Whether this process should get traffic: it isn't leaving, and everything it registers has been visible once.
    ///
    /// Deliberately *not* whether the registry can be reached: a process that runs keeps serving while the registry
    /// is away, and taking all of them out because of it would make an outage of it. See
    /// [`is_registered`](Self::is_registered) for the strict form.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lifecycle == Lifecycle::Running && self.never_live == 0
    }

    /// Whether everything is registered at this moment.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.lifecycle == Lifecycle::Running && self.registrations.values().all(|phase| *phase == Phase::Live)
    }

    /// Whether every watched service has a fresh view.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.services.values().all(|state| *state == ViewState::Fresh)
    }
}
