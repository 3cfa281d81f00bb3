//! The lease keeper as a pure state machine: `step(input, now) -> actions`.
//!
//! ```text
//!            an entry wants in            granted
//!   Idle ─────────────────────> Granting ─────────> Held <────────────┐
//!    ^                            │   ^               │ attempt failed, │ renewed
//!    │                    refused │   │ 60 s          │ late wake, slip │
//!    │                            v   │               v                 │
//!    │                           Blocked            Doubt ──────────────┘
//!    │                                                │ safe deadline, or the registry denies it
//!    │ revoked                                        v
//!   Closing <──── no entry wants in ──── Held    all lost; Granting (the old lease is never renewed again)
//! ```
//!
//! Registration is level-triggered: users edit a map of desired entries, and every step reconciles what is believed
//! to stand in the registry with that map. Nothing depends on having seen an edge, and no counter ends the trying.
//!
//! `step` does no I/O and reads no clock, so the task, the property tests and a model checker run the same code.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    entry::{Belief, Entry, Policy, Want},
    phase::{Deregistration, LossCause, Phase, RegistrationEvent},
    times::Times,
};
use crate::{
    Capabilities, Error, ErrorKind,
    backend::{Lifetime, Outcome, Presence, Publish, Renewal},
    backoff::Backoff,
    model::{Incarnation, Instance, InstanceKey},
};

/// Identifies a lease across actions and replies.
pub(crate) type LeaseNo = u64;
/// When to look for late writes under a lease that doesn't expire.
const FALLBACK_LOOK: Duration = Duration::from_secs(15);

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
}

/// The answer to a call.
#[derive(Debug)]
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

/// A call in flight: what it was about, for when the answer comes.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    pub(super) sent: Instant,
    pub(super) about: About,
}

#[derive(Clone, Debug)]
pub(super) enum About {
    Grant(LeaseNo),
    Publish(LeaseNo, Vec<(InstanceKey, u64, u64)>),
    Withdraw(Vec<InstanceKey>),
    Renew(LeaseNo),
    /// Keys with the epoch and sequence believed stored when asked.
    Inspect(LeaseNo, Vec<(InstanceKey, Belief)>),
    Revoke(LeaseNo),
}

/// Where the lease stands.
#[derive(Clone, Debug)]
pub(super) enum LeaseState {
    Idle,
    Granting {
        op: Option<OpId>,
        retry_at: Instant,
    },
    Blocked {
        retry_at: Instant,
    },
    Held(Tenure),
    Doubt(Tenure),
    /// The lease is being given back; at `until` it has expired anyway.
    Closing {
        lease: LeaseNo,
        op: Option<OpId>,
        retry_at: Instant,
        until: Instant,
    },
}

/// A granted lease.
#[derive(Clone, Debug)]
pub(super) struct Tenure {
    pub(super) lease: LeaseNo,
    /// `None` where the registry keeps records without renewal.
    pub(super) times: Option<Times>,
    /// When the last successful renewal was sent.
    pub(super) sent: Instant,
    pub(super) renew_at: Option<Instant>,
    pub(super) renewing: Option<OpId>,
    pub(super) failures: u32,
    pub(super) audit_at: Option<Instant>,
    pub(super) auditing: Option<OpId>,
    /// For leases that are only looked at: how often.
    pub(super) look_every: Option<Duration>,
}

impl Tenure {
    pub(super) fn safe(&self) -> Option<Instant> {
        self.times.map(|times| times.safe(self.sent))
    }
}

/// A lease that is no longer used, waiting to be revoked once nothing hangs on it.
#[derive(Clone, Debug)]
pub(super) struct Retired {
    pub(super) lease: LeaseNo,
    pub(super) op: Option<OpId>,
    pub(super) retry_at: Instant,
    /// After this the lease has expired anyway.
    pub(super) until: Instant,
}

/// The keeper of one client's registrations with one time to live.
#[derive(Clone, Debug)]
pub(crate) struct KeeperState {
    pub(super) config: KeeperConfig,
    pub(super) capabilities: Capabilities,
    pub(super) lease: LeaseState,
    pub(super) retired: Vec<Retired>,
    pub(super) entries: BTreeMap<InstanceKey, Entry>,
    pub(super) in_flight: BTreeMap<OpId, InFlight>,
    pub(super) backoff: Backoff,
    pub(super) rng: fastrand::Rng,
    /// Publications after a loss are paced: tokens left, and since when.
    pub(super) tokens: (f64, Option<Instant>),
    pub(super) last_error: Option<Error>,
    actions: Vec<Action>,
    touched: BTreeSet<InstanceKey>,
    last: Option<Moment>,
    woken_for: Option<Instant>,
    next_op: OpId,
    next_lease: LeaseNo,
}

impl KeeperState {
    pub(crate) fn new(config: KeeperConfig, capabilities: Capabilities) -> Self {
        Self {
            backoff: Backoff::new((config.ttl / 2).max(Duration::from_secs(10))),
            rng: fastrand::Rng::with_seed(config.seed),
            config,
            capabilities,
            lease: LeaseState::Idle,
            retired: Vec::new(),
            entries: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            tokens: (super::reconcile::BURST, None),
            last_error: None,
            actions: Vec::new(),
            touched: BTreeSet::new(),
            last: None,
            woken_for: None,
            next_op: 1,
            next_lease: 1,
        }
    }

    /// One transition. Call again at [`next_wake`](Self::next_wake) at the latest.
    pub(crate) fn step(&mut self, input: Input, now: Moment) -> Vec<Action> {
        self.notice_time(now);
        // Deadlines first: an answer that comes after its deadline must not undo the loss.
        self.expire(now);
        match input {
            Input::Wake => {}
            Input::Restarted => self.restart(now.mono),
            Input::Want { record, policy } => self.want(record, policy),
            Input::Withdraw { key, by } => self.withdraw(&key, by, now.mono),
            Input::Reply { op, reply } => self.answer(op, reply, now),
        }
        self.reconcile(now);
        self.last = Some(now);
        self.woken_for = self.next_wake();
        std::mem::take(&mut self.actions)
    }

    /// The entries whose state changed since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<InstanceKey> {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn entry(&self, key: &InstanceKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Nothing is desired and nothing is left to clean up.
    pub(crate) fn is_idle(&self) -> bool {
        self.entries.is_empty()
            && self.in_flight.is_empty()
            && self.retired.is_empty()
            && matches!(self.lease, LeaseState::Idle)
    }

    /// The wall-clock slip that makes a claim doubtful even before the next step.
    pub(crate) fn slip_limit(&self) -> Duration {
        self.tenure().and_then(|t| t.times).unwrap_or(Times::new(self.config.ttl)).slip()
    }

    /// Whether the registry is believed to hold the newest content of this entry.
    pub(crate) fn is_current(&self, key: &InstanceKey) -> bool {
        let lease = self.tenure().map(|t| t.lease);
        self.entries.get(key).is_some_and(|e| lease.is_some_and(|lease| e.is_current(lease)))
    }

    pub(crate) fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    pub(super) fn tenure(&self) -> Option<&Tenure> {
        match &self.lease {
            LeaseState::Held(tenure) | LeaseState::Doubt(tenure) => Some(tenure),
            _ => None,
        }
    }

    pub(super) fn tenure_mut(&mut self) -> Option<&mut Tenure> {
        match &mut self.lease {
            LeaseState::Held(tenure) | LeaseState::Doubt(tenure) => Some(tenure),
            _ => None,
        }
    }

    // === time ===

    /// A late wake-up or a wall clock that ran ahead means that we slept: renew before anything else.
    fn notice_time(&mut self, now: Moment) {
        let Some(last) = self.last else { return };
        let Some(times) = self.tenure().and_then(|t| t.times) else { return };
        let slip =
            now.wall.saturating_sub(last.wall).saturating_sub(now.mono.saturating_duration_since(last.mono));
        let late = self.woken_for.is_some_and(|at| now.mono.saturating_duration_since(at) > times.ttl / 4);
        if slip > times.slip() || late {
            tracing::debug!(?slip, late, "the process slept: renewing first");
            self.doubt();
            if let Some(tenure) = self.tenure_mut()
                && tenure.renewing.is_none()
            {
                tenure.renew_at = Some(now.mono);
            }
        }
    }

    /// Carries out everything that only time decides.
    fn expire(&mut self, now: Moment) {
        if self.tenure().and_then(Tenure::safe).is_some_and(|safe| safe <= now.mono) {
            let cause = if now.alive { LossCause::Expired } else { LossCause::Withheld };
            self.lose_lease(cause, now.mono);
        }
        if let LeaseState::Closing { lease, op: None, until, .. } = self.lease
            && until <= now.mono
        {
            self.lease = LeaseState::Idle;
            self.lease_is_gone(lease, now.mono);
        }
        let overdue: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| e.is_published() && e.safe.is_some_and(|safe| safe <= now.mono))
            .map(|(key, _)| key.clone())
            .collect();
        self.lose(&overdue, LossCause::Expired, now.mono);
        let limit = self.config.lasting_loss;
        let mut lasting = Vec::new();
        for (key, entry) in &mut self.entries {
            if let (Some(loss), Some(limit)) = (&mut entry.loss, limit)
                && !loss.lasting_told
                && loss.at + limit <= now.mono
            {
                loss.lasting_told = true;
                lasting.push((key.clone(), RegistrationEvent::LossLasts { downtime: now.mono - loss.at }));
            }
        }
        self.emit(lasting);
        let mut given_up = Vec::new();
        for (key, entry) in &mut self.entries {
            if let Want::Absent { by, told, .. } = &mut entry.want
                && !*told
                && *by <= now.mono
            {
                *told = true;
                given_up.push((key.clone(), Deregistration::TtlWillExpire));
            }
        }
        for (key, outcome) in given_up {
            self.tell_deregistered(&key, outcome);
        }
    }

    /// When the next step is due without any input.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let lease = match &self.lease {
            LeaseState::Idle => None,
            LeaseState::Granting { op: Some(_), .. } => None,
            LeaseState::Granting { op: None, retry_at } | LeaseState::Blocked { retry_at } => {
                self.wants_lease().then_some(*retry_at)
            }
            LeaseState::Closing { op, retry_at, until, .. } => {
                op.is_none().then_some((*retry_at).min(*until))
            }
            LeaseState::Held(t) | LeaseState::Doubt(t) => {
                let renew = t.renew_at.filter(|_| t.renewing.is_none());
                let audit = t.audit_at.filter(|_| t.auditing.is_none());
                [renew, audit, t.safe()].into_iter().flatten().min()
            }
        };
        let has_tenure = self.tenure().is_some();
        let lasting = self.config.lasting_loss;
        let entries = self.entries.values().flat_map(|entry| {
            let retry = entry.retry_at.filter(|_| entry.op.is_none() && has_tenure && self.has_work(entry));
            let safe = entry.safe.filter(|_| entry.is_published());
            let lasts =
                entry.loss.filter(|loss| !loss.lasting_told).and_then(|loss| Some(loss.at + lasting?));
            let by = match entry.want {
                Want::Absent { by, told: false, .. } => Some(by),
                Want::Absent { gone: Some(gone), .. } => Some(gone + 3 * self.config.ttl),
                _ => None,
            };
            [retry, safe, lasts, by].into_iter().flatten()
        });
        let moved = self.has_moved();
        let due = |r: &Retired| if moved { r.retry_at.min(r.until) } else { r.until };
        let retired = self.retired.iter().filter(|r| r.op.is_none()).map(due);
        lease.into_iter().chain(entries).chain(retired).chain(self.pace_wake()).min()
    }

    // === edits by the user ===

    fn want(&mut self, record: Arc<Instance>, policy: Policy) {
        let key = record.key();
        self.touched.insert(key.clone());
        match self.entries.get_mut(&key) {
            Some(entry) if entry.is_wanted() => {
                entry.record = record;
                entry.policy = policy;
                entry.sequence += 1;
                // New content may be what the registry accepts, and an update says that it shall be there.
                if entry.phase == Phase::Blocked || entry.refusals > 0 {
                    entry.retry_at = None;
                }
            }
            Some(tombstone) => {
                // A new registration under a withdrawn key: what still stands there is ours to replace.
                let mut entry = Entry::new(record, policy);
                entry.belief =
                    if tombstone.belief == Belief::Nothing { Belief::Nothing } else { Belief::Unknown };
                entry.op = tombstone.op;
                entry.ambiguous = tombstone.ambiguous;
                *tombstone = entry;
            }
            None => {
                self.entries.insert(key, Entry::new(record, policy));
            }
        }
    }

    fn withdraw(&mut self, key: &InstanceKey, by: Instant, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Want::Absent { by: earlier, told: false, .. } = &mut entry.want {
            *earlier = (*earlier).max(by);
            return;
        }
        if !entry.is_wanted() {
            return;
        }
        entry.want = Want::Absent { by, told: false, gone: None };
        entry.phase = Phase::Deregistering;
        entry.loss = None;
        entry.retry_at = None;
        entry.safe = None;
        self.touched.insert(key.clone());
        self.settle(key, now);
    }

    /// After a panic nothing in flight will be answered; writes among it may or may not have happened.
    fn restart(&mut self, now: Instant) {
        self.in_flight.clear();
        let mut told = Vec::new();
        for (key, entry) in &mut self.entries {
            if entry.op.take().is_some() {
                entry.belief = Belief::Unknown;
                entry.ambiguous = true;
            }
            if entry.is_wanted() {
                told.push((key.clone(), RegistrationEvent::KeeperRestarted));
            }
        }
        for retired in &mut self.retired {
            retired.op = None;
        }
        match &mut self.lease {
            LeaseState::Granting { op, .. } | LeaseState::Closing { op, .. } => *op = None,
            LeaseState::Held(tenure) | LeaseState::Doubt(tenure) => {
                tenure.renewing = None;
                tenure.auditing = None;
                tenure.renew_at = tenure.renew_at.map(|_| now);
            }
            LeaseState::Idle | LeaseState::Blocked { .. } => {}
        }
        self.emit(told);
        self.doubt();
    }

    // === transitions that several inputs cause ===

    pub(super) fn call(&mut self, call: Call, about: About, sent: Instant, deadline: Instant) -> OpId {
        let op = self.next_op;
        self.next_op += 1;
        self.in_flight.insert(op, InFlight { sent, about });
        self.actions.push(Action::Call { op, deadline, call });
        op
    }

    pub(super) fn new_lease_no(&mut self) -> LeaseNo {
        self.next_lease += 1;
        self.next_lease - 1
    }

    pub(super) fn emit(&mut self, events: Vec<(InstanceKey, RegistrationEvent)>) {
        if !events.is_empty() {
            self.touched.extend(events.iter().map(|(key, _)| key.clone()));
            self.actions.push(Action::Emit(events));
        }
    }

    pub(super) fn touch(&mut self, key: &InstanceKey) {
        self.touched.insert(key.clone());
    }

    pub(super) fn forget(&mut self, lease: LeaseNo) {
        self.actions.push(Action::Forget { lease });
    }

    /// Held → Doubt: every live instance becomes suspect.
    pub(super) fn doubt(&mut self) {
        if let LeaseState::Held(tenure) = &self.lease {
            self.lease = LeaseState::Doubt(tenure.clone());
            let mut suspects = Vec::new();
            for (key, entry) in &mut self.entries {
                if entry.phase == Phase::Live {
                    entry.phase = Phase::Suspect;
                    suspects.push((key.clone(), RegistrationEvent::Suspect));
                }
            }
            self.emit(suspects);
        }
    }

    /// The lease is gone: every published instance is lost, in the same step the next grant begins.
    pub(super) fn lose_lease(&mut self, cause: LossCause, now: Instant) {
        let Some(tenure) = self.tenure().cloned() else { return };
        let expired = matches!(cause, LossCause::Expired | LossCause::Withheld);
        // The clients of a registry that was away come back one by one; one that merely forgot us gets us at once.
        let spread = tenure.times.filter(|_| expired).map_or(Duration::ZERO, Times::spread);
        self.lease = LeaseState::Granting { op: None, retry_at: now + spread.mul_f64(self.rng.f64()) };
        if expired {
            // It may still exist at the registry; revoked once nothing hangs on it any more.
            let until =
                now + tenure.times.map_or(self.config.ttl, |t| t.ttl).mul_f64(self.capabilities.grace);
            self.retired.push(Retired { lease: tenure.lease, op: None, retry_at: now, until });
        } else {
            self.forget(tenure.lease);
        }
        let keys: Vec<_> = (self.entries.iter_mut())
            .filter_map(|(key, entry)| {
                if entry.may_hold(tenure.lease) {
                    entry.belief = if expired { Belief::Unknown } else { Belief::Nothing };
                }
                entry.is_published().then(|| key.clone())
            })
            .collect();
        self.lose(&keys, cause, now);
    }

    /// Live or Suspect → Lost, under the next epoch.
    pub(super) fn lose(&mut self, keys: &[InstanceKey], cause: LossCause, now: Instant) {
        let mut lost = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.is_published() && e.is_wanted()) else {
                continue;
            };
            let last_ok_age = entry.last_ok.map_or(Duration::ZERO, |ok| now.saturating_duration_since(ok));
            lost.push((key.clone(), RegistrationEvent::Lost { epoch: entry.epoch, cause, last_ok_age }));
            entry.phase = Phase::Lost;
            entry.epoch += 1;
            entry.safe = None;
            entry.loss = Some(super::entry::Loss { at: now, cause, lasting_told: false });
            entry.retry_at = None;
        }
        self.emit(lost);
    }

    /// Any → Blocked; told once per entry into the phase.
    pub(super) fn block(&mut self, keys: &[InstanceKey], cause: &Error, retry_at: Option<Instant>) {
        let mut blocked = Vec::new();
        for key in keys {
            let Some(entry) = self.entries.get_mut(key).filter(|e| e.is_wanted()) else { continue };
            entry.cause = Some(cause.clone());
            entry.retry_at = retry_at;
            if entry.phase != Phase::Blocked {
                entry.phase = Phase::Blocked;
                entry.safe = None;
                blocked.push((key.clone(), RegistrationEvent::Blocked { cause: cause.clone() }));
            }
        }
        self.emit(blocked);
    }

    /// The record is gone for good, as asked: tell, and keep a tombstone where a late write could bring it back.
    pub(super) fn settle(&mut self, key: &InstanceKey, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Want::Absent { told, gone, .. } = &mut entry.want else { return };
        if entry.op.is_some() || entry.belief != Belief::Nothing {
            return;
        }
        gone.get_or_insert(now);
        let first = !std::mem::replace(told, true);
        let keep = entry.ambiguous && self.tenure().is_some();
        if keep && let Some(tenure) = self.tenure_mut() {
            let look = now + tenure.times.map_or(FALLBACK_LOOK, |t| t.ttl);
            tenure.audit_at = tenure.audit_at.map(|at| at.min(look));
        }
        if first {
            self.tell_deregistered(key, Deregistration::Confirmed);
        }
        if !keep {
            self.entries.remove(key);
            self.touched.insert(key.clone());
        }
    }

    fn tell_deregistered(&mut self, key: &InstanceKey, outcome: Deregistration) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.phase = Phase::Absent;
        }
        self.emit(vec![(key.clone(), RegistrationEvent::Deregistered { outcome })]);
    }

    /// What a grant that is too short is refused with.
    pub(super) fn too_short(ttl: Duration) -> Error {
        Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "the registry granted a time to live of {ttl:?}; at least 3s are needed to renew in time"
            ),
        )
    }
}
