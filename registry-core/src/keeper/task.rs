//! The loop around the state machine: carries actions out, feeds answers and time back in.
//!
//! It owns every call it makes: each runs in a set of its own under a hard deadline, so that a stuck socket can't
//! stop the loop. A panic inside the machine restarts the loop with the same desired state.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
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
    input::{Action, Input, KeeperConfig, LeaseNo, Reply},
    phase::{Deregistration, RegistrationEvent},
    state::KeeperState,
};
use crate::{Error, Lease, keeper::ClientEvent, metrics, model::InstanceKey};

/// A wake-up far enough away to mean never.
const NEVER: Duration = Duration::from_secs(86_400);
/// Pause before the first restart after a panic.
const FIRST_RESTART: Duration = Duration::from_millis(100);
/// How often edits that panic are tried.
const MOST_ATTEMPTS: u32 = 3;
/// Longest pause between restarts that panic again.
const LAST_RESTART: Duration = Duration::from_secs(5);

pub(super) struct Task {
    pub(super) parts: KeeperParts,
    pub(super) incarnation: crate::Incarnation,
    pub(super) ttl: Duration,
    desk: Arc<Desk>,
    /// Taken off the desk and not yet carried out; repeated after a panic.
    todo: VecDeque<Edit>,
    /// Panics since edits were last carried out.
    attempts: u32,
    heartbeat: Arc<Heartbeat>,
    state: KeeperState,
    cells: BTreeMap<InstanceKey, Arc<Cell>>,
    pub(super) leases: HashMap<LeaseNo, Arc<dyn Lease>>,
    pub(super) calls: JoinSet<Answer>,
}

impl Task {
    pub(super) fn spawn(
        config: KeeperConfig,
        mut parts: KeeperParts,
        desk: Arc<Desk>,
        heartbeat: Arc<Heartbeat>,
    ) {
        let (tasks, runtime, thread) = (parts.tasks.clone(), parts.runtime.clone(), parts.thread.take());
        let span = tracing::debug_span!("keeper", registry = parts.name);
        let (incarnation, ttl) = (config.incarnation, config.ttl);
        let state = KeeperState::new(config, parts.capabilities.clone());
        let task = Self {
            incarnation,
            ttl,
            parts,
            desk,
            todo: VecDeque::new(),
            attempts: 0,
            heartbeat,
            state,
            cells: BTreeMap::new(),
            leases: HashMap::new(),
            calls: JoinSet::new(),
        };
        let supervised = async move {
            task.supervise().await;
            drop(thread);
        };
        tasks.spawn_on(supervised.instrument(span), &runtime);
    }

    async fn supervise(mut self) {
        while AssertUnwindSafe(self.run()).catch_unwind().await.is_err() {
            tracing::error!("the keeper panicked; restarting it with the same desired state");
            metrics::keeper_restarted(self.parts.name);
            self.calls = JoinSet::new();
            self.attempts += 1;
            if self.attempts > MOST_ATTEMPTS {
                // What breaks the machine again and again must not keep everybody else from their turn.
                self.todo.drain(..).for_each(|edit| edit.abandon());
            }
            // A fault that repeats at once must not become a hot loop.
            let mut pause = FIRST_RESTART;
            loop {
                let stop = self.parts.stop.clone();
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                if std::panic::catch_unwind(AssertUnwindSafe(|| self.step(Input::Restarted))).is_ok() {
                    break;
                }
                pause = (pause * 2).min(LAST_RESTART);
                tracing::error!(?pause, "the keeper panicked while restarting; trying again");
            }
        }
        self.desk.close();
        self.cells.values().for_each(|cell| cell.abandon());
    }

    async fn run(&mut self) {
        loop {
            self.edit();
            let wake = self.state.next_wake().unwrap_or_else(|| Instant::now() + NEVER);
            let stop = self.parts.stop.clone();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.desk.wake.notified() => {}
                // Every call catches its own panic, so a join error only means that it was aborted with its set.
                Some(Ok(answer)) = self.calls.join_next() => {
                    if let Some((no, lease)) = answer.granted {
                        self.leases.insert(no, lease);
                    }
                    if let Reply::Renewed(renewed) = &answer.reply {
                        let result = renewed.as_ref().map(|_| ()).map_err(Error::kind);
                        metrics::renewed(self.parts.name, result, self.parts.clock.wall());
                    }
                    self.step(Input::Reply { op: answer.op, reply: answer.reply });
                }
                () = sleep_until(wake) => self.step(Input::Wake),
            }
        }
    }

    /// Carries out what users asked for since the last time, as one step, so that it shares batches.
    fn edit(&mut self) {
        let mut inputs = Vec::new();
        let mut begun = BTreeMap::new();
        self.todo.extend(self.desk.take());
        for edit in self.todo.clone() {
            if begun.contains_key(edit.key()) {
                // Register, withdraw and register again in one go: each has its turn.
                self.apply(std::mem::take(&mut inputs), std::mem::take(&mut begun));
            }
            match edit {
                Edit::Want { cell, .. } if cell.is_over() => {}
                Edit::Want { cell, record, policy } => {
                    if !self.cells.get(&cell.key).is_some_and(|own| Arc::ptr_eq(own, &cell)) {
                        begun.insert(cell.key.clone(), cell);
                    }
                    inputs.push(Input::Want { record, policy });
                }
                Edit::Withdraw { key, by } => {
                    if let Some(cell) = self.cells.get(&key) {
                        cell.withdrawn();
                        cell.gauge(self.parts.name);
                    }
                    inputs.push(Input::Withdraw { key, by });
                }
            }
        }
        if !inputs.is_empty() {
            self.apply(inputs, begun);
        }
        self.todo.clear();
        self.attempts = 0;
    }

    fn apply(&mut self, inputs: Vec<Input>, begun: BTreeMap<InstanceKey, Arc<Cell>>) {
        // Whoever held the key before is told its end; what the step tells of the key is not yet of the new one.
        for old in begun.keys().filter_map(|key| self.cells.remove(key)) {
            old.finish(Deregistration::TtlWillExpire);
        }
        self.step(Input::Many(inputs));
        for cell in begun.values() {
            cell.update(&self.state);
            cell.gauge(self.parts.name);
        }
        self.cells.extend(begun);
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
                cell.gauge(self.parts.name);
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
            metrics::registration(self.parts.name, key, event);
            let Some(cell) = self.cells.get(key) else { continue };
            if let RegistrationEvent::Deregistered { outcome } = event {
                cell.finish(*outcome);
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
            tracing::info!(%key, count, ?downtime, "registration recovered");
        }
        RegistrationEvent::Registered { .. } => tracing::info!(%key, count, "registered"),
        RegistrationEvent::Deregistered { outcome: Deregistration::TtlWillExpire } => {
            tracing::warn!(%key, count, "deregistration unconfirmed; the record will expire");
        }
        event => tracing::debug!(%key, count, ?event, "registration event"),
    }
}
