//! The gauges of one view.

use std::time::Duration;

use super::{
    Level,
    emit::{Value, count, set},
    table as t,
};
use crate::{
    ViewState,
    model::{ServiceName, Status},
};

const STATUSES: [Status; 4] = [Status::Starting, Status::Serving, Status::Draining, Status::Down];

/// What one reflector adds to the gauges of its service.
#[derive(Debug, Default)]
pub(crate) struct ViewLevels {
    state: Level,
    instances: [Level; STATUSES.len()],
    held: Level,
    last: Option<ViewFigures>,
}

/// How a view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ViewFigures {
    pub(crate) state: ViewState,
    /// Instances by status, in the order of [`Status`].
    pub(crate) instances: [usize; STATUSES.len()],
    pub(crate) held: usize,
    /// Records left out since the start.
    pub(crate) rejected: u64,
    /// When the registry last proved the view current, since the Unix epoch.
    pub(crate) proof: Option<Duration>,
}

impl ViewLevels {
    /// Tells how the view is now.
    pub(crate) fn tell(&mut self, service: &ServiceName, now: ViewFigures) {
        let last = self.last.replace(now);
        if last == Some(now) {
            return;
        }
        let label = ("service", Value::Service(service));
        let state = match now.state {
            ViewState::Loading => "loading",
            ViewState::Disk => "disk",
            ViewState::Fresh => "fresh",
            ViewState::Stale => "stale",
            ViewState::Expired => "expired",
        };
        self.state.set(&t::VIEWS, &[label, ("state", Value::Word(state))], 1);
        for ((level, status), instances) in self.instances.iter().zip(STATUSES).zip(now.instances) {
            level.set(&t::VIEW_INSTANCES, &[label, ("status", Value::Word(status.as_str()))], instances);
        }
        self.held.set(&t::VIEW_HELD_INSTANCES, &[label], now.held);
        if let Some(proof) = now.proof {
            set(&t::VIEW_LAST_PROOF, &[label], proof.as_secs_f64());
        }
        let rejected = now.rejected - last.map_or(0, |last| last.rejected);
        count(&t::VIEW_REJECTED_RECORDS, &[label], rejected);
    }
}
