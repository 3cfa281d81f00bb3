//! The loop around the state machine: carries actions out, feeds answers and time back in.
//!
//! It owns every call it makes: each runs in a set of its own under a hard deadline, so that a stuck socket can't
//! stop the loop. A panic inside the machine restarts the loop with the same desired state.

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use super::{
    Desk, Edit, KeeperParts,
    board::{Cell, Heartbeat},
    calls::Answer,
    input::{Action, Input, KeeperConfig, LeaseNo},
    phase::{Deregistration, RegistrationEvent},
    state::KeeperState,
};
use crate::{Lease, keeper::ClientEvent, model::InstanceKey};

/// A wake-up far enough away to mean never.
const NEVER: Duration = Duration::from_secs(86_400);

pub(super) struct Task {
    pub(super) parts: KeeperParts,
    pub(super) incarnation: crate::Incarnation,
    pub(super) ttl: Duration,
    desk: Arc<Desk>,
    heartbeat: Arc<Heartbeat>,
    state: KeeperState,
    cells: BTreeMap<InstanceKey, Arc<Cell>>,
    pub(super) leases: HashMap<LeaseNo, Arc<dyn Lease>>,
    pub(super) calls: JoinSet<Answer>,
}

impl Task {
    pub(super) fn spawn(
        config: KeeperConfig,
        parts: KeeperParts,
        desk: Arc<Desk>,
        heartbeat: Arc<Heartbeat>,
    ) {
        let tasks = parts.tasks.clone();
        let span = tracing::debug_span!("keeper", registry = parts.name);
        let state = KeeperState::new(config.clone(), parts.capabilities.clone());
        let task = Self {
            incarnation: config.incarnation,
            ttl: config.ttl,
            parts,
            desk,
            heartbeat,
            state,
            cells: BTreeMap::new(),
            leases: HashMap::new(),
            calls: JoinSet::new(),
        };
        tasks.spawn(task.supervise().instrument(span));
    }

    async fn supervise(mut self) {
        loop {
            match AssertUnwindSafe(self.run()).catch_unwind().await {
                Ok(()) => break,
                Err(_) => {
                    tracing::error!("the keeper panicked; restarting it with the same desired state");
                    self.calls = JoinSet::new();
                    // A fault that repeats at once must not become a hot loop.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    if std::panic::catch_unwind(AssertUnwindSafe(|| self.step(Input::Restarted))).is_err() {
                        tracing::error!("the keeper can't be restarted");
                        break;
                    }
                }
            }
        }
        for cell in self.cells.values() {
            cell.feed.close();
        }
    }

    async fn run(&mut self) {
        loop {
            let edits = self.desk.take();
            for edit in edits {
                let input = self.edit(edit);
                self.step(input);
            }
            let wake = self.state.next_wake().unwrap_or_else(|| Instant::now() + NEVER);
            let stop = self.parts.stop.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.desk.wake.notified() => {}
                Some(answer) = self.calls.join_next() => {
                    // A call that panicked is answered by its deadline's absence: the machine would wait for ever,
                    // so every call catches its own panic below.
                    if let Ok(answer) = answer {
                        if let Some((no, lease)) = answer.granted {
                            self.leases.insert(no, lease);
                        }
                        self.step(Input::Reply { op: answer.op, reply: answer.reply });
                    }
                }
                () = sleep_until(wake) => self.step(Input::Wake),
            }
        }
    }

    fn edit(&mut self, edit: Edit) -> Input {
        match edit {
            Edit::Want { cell, record, policy } => {
                self.cells.insert(cell.key.clone(), cell);
                Input::Want { record, policy }
            }
            Edit::Withdraw { key, by } => Input::Withdraw { key, by },
        }
    }

    fn step(&mut self, input: Input) {
        let alive = self.parts.alive.as_ref().is_none_or(|hook| {
            // A hook that panics says nothing; the process is alive enough to run it.
            std::panic::catch_unwind(AssertUnwindSafe(|| hook())).unwrap_or(true)
        });
        let now = self.heartbeat.moment(alive);
        let actions = self.state.step(input, now);
        self.heartbeat.beat(now, self.state.slip_limit());
        // State first: whoever is woken by an event reads at least what the event tells.
        for key in self.state.take_touched() {
            if let Some(cell) = self.cells.get(&key) {
                cell.update(&self.state);
            }
        }
        for action in actions {
            match action {
                Action::Call { op, deadline, call } => self.call(op, deadline, call),
                Action::Forget { lease } => drop(self.leases.remove(&lease)),
                Action::Emit(events) => self.tell(events),
            }
        }
    }

    fn tell(&mut self, events: Vec<(InstanceKey, RegistrationEvent)>) {
        log(&events);
        for (key, event) in &events {
            let Some(cell) = self.cells.get(key) else { continue };
            if let RegistrationEvent::Deregistered { outcome } = event {
                cell.finish(*outcome);
                cell.feed.send(event);
                cell.feed.close();
                self.cells.remove(key);
            } else {
                cell.feed.send(event);
            }
        }
        self.parts.events.send(&ClientEvent { registry: self.parts.name, events: events.into() });
    }
}

fn log(events: &[(InstanceKey, RegistrationEvent)]) {
    let Some((key, event)) = events.first() else { return };
    let count = events.len();
    match event {
        RegistrationEvent::Lost { cause, last_ok_age, .. } => {
            tracing::warn!(%key, count, ?cause, ?last_ok_age, "registration lost; registering again");
        }
        RegistrationEvent::Blocked { cause } => {
            tracing::warn!(%key, count, error = format!("{cause:#}"), "registration refused; retrying slowly");
        }
        RegistrationEvent::LossLasts { downtime } => {
            tracing::error!(%key, count, ?downtime, "the loss of the registration lasts");
        }
        RegistrationEvent::Recovered { downtime, .. } => {
            tracing::info!(%key, count, ?downtime, "registration recovered")
        }
        RegistrationEvent::Registered { .. } => tracing::info!(%key, count, "registered"),
        RegistrationEvent::Deregistered { outcome: Deregistration::TtlWillExpire } => {
            tracing::warn!(%key, count, "deregistration unconfirmed; the record will expire");
        }
        event => tracing::debug!(%key, count, ?event, "registration event"),
    }
}
