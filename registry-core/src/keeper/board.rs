//! What users see of the keeper: one cell per registration that can be read at any time, and its events.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    input::Moment,
    phase::{Deregistration, Phase, RegistrationEvent},
    state::KeeperState,
};
use crate::{
    Clock, Error,
    feed::Feed,
    metrics,
    metrics::Level,
    model::{Instance, InstanceKey},
};

/// What is known of one registration in one registry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RegistrationState {
    /// Where it stands.
    pub phase: Phase,
    /// Raised at each loss, from 1.
    pub epoch: u64,
    /// Why it isn't live, where the registry said something.
    pub cause: Option<Error>,
    /// Whether the newest update is what the registry holds.
    pub is_current: bool,
    /// What the deregistration achieved, once it is over.
    pub outcome: Option<Deregistration>,
    /// Whether the registry ever confirmed it.
    pub(crate) was_live: bool,
    /// Until when it may be claimed as registered.
    pub(crate) safe: Option<Instant>,
    /// Nothing will change any more: it is deregistered, or its keeper is gone.
    pub(crate) ended: bool,
}

/// Shared between one keeper, its cells and their readers.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    clock: Arc<dyn Clock>,
    last: Mutex<(Instant, Duration, Duration)>,
}

/// One registration's state and events.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) key: InstanceKey,
    state: watch::Sender<RegistrationState>,
    pub(crate) feed: Feed<RegistrationEvent>,
    heartbeat: Arc<Heartbeat>,
    /// Its share in the count of registrations by phase.
    pub(super) level: Level,
    /// What was asked for last, which the keeper may not have read yet.
    desired: Mutex<Option<Arc<Instance>>>,
}

impl Heartbeat {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let last = Mutex::new((Instant::now(), clock.wall(), Duration::from_secs(1)));
        Arc::new(Self { clock, last })
    }

    pub(crate) fn moment(&self, alive: bool) -> Moment {
        Moment { mono: Instant::now(), wall: self.clock.wall(), alive }
    }

    pub(crate) fn beat(&self, now: Moment, slip_limit: Duration) {
        *lock(&self.last) = (now.mono, now.wall, slip_limit);
    }

    /// Whether the wall clock ran ahead of the monotonic one since the keeper last looked: we slept.
    fn slipped(&self) -> bool {
        let (mono, wall, limit) = *lock(&self.last);
        self.clock.wall().saturating_sub(wall).saturating_sub(mono.elapsed()) > limit
    }
}

impl Cell {
    pub(crate) fn new(key: InstanceKey, heartbeat: Arc<Heartbeat>) -> Arc<Self> {
        let state = RegistrationState {
            phase: Phase::Registering,
            epoch: 1,
            cause: None,
            is_current: false,
            outcome: None,
            was_live: false,
            safe: None,
            ended: false,
        };
        Arc::new(Self {
            key,
            state: watch::Sender::new(state),
            feed: Feed::new(),
            heartbeat,
            level: Level::default(),
            desired: Mutex::new(None),
        })
    }

    /// The state as it may be claimed *now*: a keeper that is starved, or slept with the machine, can't claim life.
    pub(crate) fn read(&self) -> RegistrationState {
        let mut state = self.state.borrow().clone();
        let overdue = state.safe.is_some_and(|safe| safe <= Instant::now());
        if state.phase == Phase::Live && (overdue || self.heartbeat.slipped()) {
            state.phase = Phase::Suspect;
        }
        state
    }

    /// Waits until the state is as wanted, or can't become so any more.
    pub(crate) async fn wait_for(
        &self,
        wanted: impl Fn(&RegistrationState) -> bool + Send + Sync,
    ) -> RegistrationState {
        let mut receiver = self.state.subscribe();
        match receiver.wait_for(|state| state.ended || wanted(state)).await {
            Ok(state) => state.clone(),
            Err(_) => self.read(),
        }
    }

    /// Copies what the machine believes.
    pub(crate) fn update(&self, keeper: &KeeperState) {
        // The end comes with its outcome, by `finish`.
        let Some(entry) = keeper.entry(&self.key).filter(|e| e.phase != Phase::Absent) else {
            return;
        };
        let desired = lock(&self.desired).clone();
        let read = desired.is_none_or(|desired| Arc::ptr_eq(&desired, &entry.record));
        let current = read && keeper.is_current(&self.key);
        let cause = entry.cause.clone().or_else(|| keeper.last_error().cloned());
        self.state.send_modify(|state| {
            state.phase = entry.phase;
            state.epoch = entry.epoch;
            state.cause = (entry.phase != Phase::Live).then_some(cause).flatten();
            state.is_current = current;
            state.was_live |= entry.was_live;
            state.safe = entry.safe;
        });
    }

    /// Another content is wanted from now on.
    pub(crate) fn desire(&self, record: &Arc<Instance>) {
        *lock(&self.desired) = Some(Arc::clone(record));
        self.state.send_modify(|state| state.is_current = false);
    }

    /// Counts the registration under its phase.
    pub(crate) fn gauge(&self, registry: &'static str) {
        let state = self.state.borrow();
        if !state.ended {
            metrics::phase(&self.level, registry, &self.key.service, state.phase);
        }
    }

    /// Whether nothing will change any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.borrow().ended
    }

    /// It is about to be withdrawn.
    pub(crate) fn withdrawn(&self) {
        self.state.send_modify(|state| state.phase = Phase::Deregistering);
    }

    /// The end: state first, then the event.
    pub(crate) fn finish(&self, outcome: Deregistration) {
        self.state.send_modify(|state| {
            state.phase = Phase::Absent;
            state.outcome = Some(outcome);
            state.safe = None;
            state.ended = true;
        });
        self.level.clear();
        self.feed.send(&RegistrationEvent::Deregistered { outcome });
        self.feed.close();
    }

    /// The keeper is gone: whoever waits is told the last state, and nothing is claimed any more.
    pub(crate) fn abandon(&self) {
        self.state.send_modify(|state| {
            if matches!(state.phase, Phase::Live) {
                state.phase = Phase::Suspect;
            }
            state.ended = true;
        });
        self.level.clear();
        self.feed.close();
    }

    /// Whether it was withdrawn, or its keeper is gone: later updates come too late.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.borrow();
        state.ended || state.phase == Phase::Deregistering
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
