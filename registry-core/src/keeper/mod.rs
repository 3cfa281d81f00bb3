//! Keeps what the user wants registered, registered: leases, renewal, loss, recovery, withdrawal.
//!
//! One keeper per client, registry and time to live. [`state`] is the machine, [`task`] the loop around it,
//! [`board`] what users read. Users only edit a map of desired entries and wake the task.

mod answers;
mod board;
mod calls;
mod dedicated;
mod edits;
mod entry;
mod input;
mod lease;
mod outcomes;
mod pace;
mod phase;
mod reconcile;
mod retry;
mod state;
mod task;
mod times;
mod transitions;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

pub(crate) use self::{board::Cell, dedicated::Dedicated, entry::Policy, input::KeeperConfig};
use self::{board::Heartbeat, task::Task};
pub use self::{
    board::RegistrationState,
    dedicated::KeeperThread,
    entry::OnMissing,
    phase::{Deregistration, LossCause, Phase, RegistrationEvent},
};
use crate::{Capabilities, Clock, Registry, feed::Feed, model::Instance, model::InstanceKey};

/// Asked before each renewal whether the application is alive; must not block.
pub(crate) type AliveHook = Arc<dyn Fn() -> bool + Send + Sync>;

/// One transition of one registry, and every registration it hit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientEvent {
    /// The registry's short name.
    pub registry: &'static str,
    /// What happened to whom.
    pub events: Arc<[(InstanceKey, RegistrationEvent)]>,
}

/// What a keeper is made of.
pub(crate) struct KeeperParts {
    pub(crate) name: &'static str,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) alive: Option<AliveHook>,
    /// The client's stream of batched events.
    pub(crate) events: Arc<Feed<ClientEvent>>,
    pub(crate) tasks: TaskTracker,
    /// Where the task and its calls run.
    pub(crate) runtime: Handle,
    /// Keeps a thread of its own alive while the task runs.
    pub(crate) thread: Option<TaskTrackerToken>,
    /// Ends the task at once, whatever is left.
    pub(crate) stop: CancellationToken,
}

/// The handle of a keeper's task.
#[derive(Debug)]
pub(crate) struct Keeper {
    desk: Arc<Desk>,
    heartbeat: Arc<Heartbeat>,
}

/// What users have asked for and the task hasn't read yet. Edits of one key coalesce, so it holds at most a few per
/// registration.
#[derive(Debug, Default)]
struct Desk {
    edits: Mutex<Edits>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Edits {
    queue: VecDeque<Edit>,
    closed: bool,
}

#[derive(Clone, Debug)]
enum Edit {
    Want { cell: Arc<Cell>, record: Arc<Instance>, policy: Policy },
    Withdraw { key: InstanceKey, by: Instant },
}

impl Keeper {
    /// Starts the task.
    pub(crate) fn spawn(config: KeeperConfig, parts: KeeperParts) -> Self {
        let desk = Arc::new(Desk::default());
        let heartbeat = Heartbeat::new(Arc::clone(&parts.clock));
        Task::spawn(config, parts, Arc::clone(&desk), Arc::clone(&heartbeat));
        Self { desk, heartbeat }
    }

    /// Wants an instance registered; returns its cell.
    pub(crate) fn register(&self, record: Arc<Instance>, policy: Policy) -> Arc<Cell> {
        let cell = Cell::new(record.key(), Arc::clone(&self.heartbeat));
        self.desk.put(Edit::Want { cell: Arc::clone(&cell), record, policy });
        cell
    }

    /// Replaces the desired record of a registered instance.
    pub(crate) fn update(&self, cell: &Arc<Cell>, record: Arc<Instance>, policy: Policy) {
        cell.desire(&record);
        self.desk.put(Edit::Want { cell: Arc::clone(cell), record, policy });
    }

    /// Wants an instance gone; `within` is how long somebody waits for the registry's word.
    pub(crate) fn withdraw(&self, key: &InstanceKey, within: Duration) {
        self.desk
            .put(Edit::Withdraw { key: key.clone(), by: Instant::now() + within.min(crate::client::FAR) });
    }
}

impl Desk {
    fn put(&self, edit: Edit) {
        let mut edits = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        if edits.closed {
            drop(edits);
            edit.abandon();
            return;
        }
        // Only the newest content matters, unless a withdrawal or another registration stands between.
        let earlier = edits.queue.iter().rposition(|e| e.key() == edit.key());
        if let Some(at) = earlier
            && edits.queue[at].is_replaced_by(&edit)
        {
            edits.queue.remove(at);
        }
        edits.queue.push_back(edit);
        drop(edits);
        self.wake.notify_one();
    }

    fn take(&self) -> VecDeque<Edit> {
        std::mem::take(&mut self.edits.lock().unwrap_or_else(PoisonError::into_inner).queue)
    }

    /// Nobody will read any more: whoever asks is told at once.
    fn close(&self) {
        let mut edits = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        edits.closed = true;
        let left = std::mem::take(&mut edits.queue);
        drop(edits);
        left.iter().for_each(Edit::abandon);
    }
}

impl Edit {
    fn key(&self) -> &InstanceKey {
        match self {
            Self::Want { cell, .. } => &cell.key,
            Self::Withdraw { key, .. } => key,
        }
    }

    fn is_replaced_by(&self, newer: &Self) -> bool {
        match (self, newer) {
            (Self::Want { cell, .. }, Self::Want { cell: newer, .. }) => Arc::ptr_eq(cell, newer),
            (Self::Withdraw { by, .. }, Self::Withdraw { by: newer, .. }) => by <= newer,
            _ => false,
        }
    }

    fn abandon(&self) {
        if let Self::Want { cell, .. } = self {
            cell.abandon();
        }
    }
}

#[cfg(test)]
mod tests;
