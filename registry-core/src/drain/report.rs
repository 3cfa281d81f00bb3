//! What a drain achieved.

use std::time::Duration;

use crate::{Error, keeper::Deregistration, model::InstanceKey};

/// What a drain achieved, stage by stage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DrainReport {
    /// Each registration, and whether the registry confirmed its removal.
    pub deregistered: Vec<(InstanceKey, Deregistration)>,
    /// Requests that were still in flight at the end.
    pub in_flight_aborted: usize,
    /// Background tasks that were still running at the end.
    pub tasks_aborted: usize,
    /// Time from the call to the end.
    pub elapsed: Duration,
    /// The stage in which the drain was cut short, by its budget or by a second signal; `None` if it was not.
    pub cut_in: Option<DrainStage>,
    /// What was wrong with the configuration; the drain then did the best it could.
    pub fault: Option<Error>,
}

impl DrainReport {
    /// Whether everything was confirmed and finished, by a drain that was configured well.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.fault.is_none()
            && self.cut_in.is_none()
            && self.in_flight_aborted == 0
            && self.tasks_aborted == 0
            && self.deregistered.iter().all(|(_, outcome)| *outcome == Deregistration::Confirmed)
    }
}

/// The stages of a drain, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DrainStage {
    /// Status `Draining` is published, peers are told.
    Announce,
    /// All records are withdrawn.
    Deregister,
    /// Serving on while consumers learn of it.
    Propagate,
    /// New work is refused.
    Refuse,
    /// Requests and tasks in flight finish.
    Wait,
    /// The client's own tasks end.
    Stop,
}
