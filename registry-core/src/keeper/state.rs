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
//! A step is: notice lost time, carry out what is overdue, react to the input ([`edits`](super::edits),
//! [`answers`](super::answers), [`outcomes`](super::outcomes)), then [`reconcile`](super::reconcile). Transitions
//! that several of these cause are in [`transitions`](super::transitions).
//!
//! `step` does no I/O and reads no clock, so the task, the property tests and a model checker run the same code.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    entry::{Belief, Entry, Want},
    input::{Action, Call, Input, KeeperConfig, LeaseNo, Moment, OpId},
    lease::{About, InFlight, LeaseState, Retired, Tenure},
    pace::Pace,
    phase::{Deregistration, LossCause, RegistrationEvent},
    times::{CALL_LIMIT, Times},
};
use crate::{Capabilities, Error, backoff::Backoff, model::InstanceKey};

/// How long a write that was never answered may still land, as a multiple of the time to live.
pub(super) const LATE: u32 = 3;

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
    /// Of leases that the registry granted and denied: apart from what failed meanwhile, as it is there again.
    pub(super) denials: Backoff,
    pub(super) throttled: Option<Throttled>,
    pub(super) rng: fastrand::Rng,
    /// This owner's place among those whose claims end together; see [`Times::last_chance`].
    pub(super) chance: f64,
    pub(super) pace: Pace,
    pub(super) last_error: Option<Error>,
    pub(super) actions: Vec<Action>,
    pub(super) touched: BTreeSet<InstanceKey>,
    /// Calls below this were sent before we slept: their answers prove nothing about now.
    pub(super) slept_over: OpId,
    last: Option<Moment>,
    woken_for: Option<Instant>,
    next_op: OpId,
    next_lease: LeaseNo,
}

/// One pause for all that a registry refused as too much without saying for how long: it has refused the client.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Throttled {
    /// When it did so last.
    pub(super) refused: Instant,
    pub(super) ends: Instant,
}

impl KeeperState {
    pub(crate) fn new(config: KeeperConfig, capabilities: Capabilities) -> Self {
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let backoff = Backoff::new((config.ttl / 2).max(Duration::from_secs(10)));
        Self {
            denials: backoff.clone(),
            backoff,
            chance: rng.f64(),
            rng,
            config,
            capabilities,
            lease: LeaseState::Idle,
            retired: Vec::new(),
            entries: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            throttled: None,
            pace: Pace::new(),
            last_error: None,
            actions: Vec::new(),
            touched: BTreeSet::new(),
            slept_over: 0,
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
        self.react(input, now);
        self.reconcile(now);
        self.last = Some(now);
        self.woken_for = self.next_wake();
        std::mem::take(&mut self.actions)
    }

    fn react(&mut self, input: Input, now: Moment) {
        match input {
            Input::Wake => {}
            Input::Restarted => self.restart(now.mono),
            Input::Want { record, policy } => self.want(record, policy),
            Input::Withdraw { key, by } => self.withdraw(&key, by, now.mono),
            Input::Reply { op, reply } => self.answer(op, reply, now),
            Input::Many(inputs) => inputs.into_iter().for_each(|input| self.react(input, now)),
        }
    }

    /// The entries whose state changed since the last call.
    pub(crate) fn take_touched(&mut self) -> BTreeSet<InstanceKey> {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn entry(&self, key: &InstanceKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Nothing is desired and nothing is left to clean up.
    #[cfg(test)]
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

    // === time ===

    /// A late wake-up or a wall clock that ran ahead means that we slept: renew before anything else.
    fn notice_time(&mut self, now: Moment) {
        let Some(last) = self.last else { return };
        let slip =
            now.wall.saturating_sub(last.wall).saturating_sub(now.mono.saturating_duration_since(last.mono));
        let slept = slip > self.slip_limit();
        if slept {
            // The monotonic clock may have stood still, so deadlines of what is on its way are worthless.
            self.slept_over = self.next_op;
        }
        let Some(times) = self.tenure().and_then(|t| t.times) else { return };
        let late = self.woken_for.is_some_and(|at| now.mono.saturating_duration_since(at) > times.ttl / 4);
        if !slept && !late {
            return;
        }
        tracing::debug!(?slip, late, "the process slept: renewing first");
        self.doubt();
        if let Some(tenure) = self.tenure_mut()
            && (slept || tenure.renewing.is_none())
        {
            tenure.renewing = None;
            tenure.renew_at = Some(now.mono);
        }
    }

    /// Carries out everything that only time decides.
    fn expire(&mut self, now: Moment) {
        let cause = if now.alive { LossCause::Expired } else { LossCause::Withheld };
        if self.tenure().and_then(Tenure::safe).is_some_and(|safe| safe <= now.mono) {
            self.lose_lease(cause, now.mono);
        }
        let overdue: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| e.is_published() && e.safe.is_some_and(|safe| safe <= now.mono))
            .map(|(key, _)| key.clone())
            .collect();
        // Nobody withholds what nobody sends.
        let looks = self.tenure().is_some_and(|tenure| tenure.look_every.is_some());
        self.lose(&overdue, if looks { LossCause::Expired } else { cause }, now.mono);
        if let Some(cut) = self.tenure().filter(|tenure| tenure.was_cut && !overdue.is_empty()).cloned() {
            let back = now.mono + self.pause_after_expiry(&cut, now.mono);
            for key in &overdue {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.retry_at = Some(back);
                }
            }
        }
        self.tell_lasting_losses(now.mono);
        let given_up: Vec<_> = (self.entries.iter())
            .filter(|(_, e)| matches!(e.want, Want::Absent { by, told: false, .. } if by <= now.mono))
            .map(|(key, _)| key.clone())
            .collect();
        for key in given_up {
            self.tell_deregistered(&key, Deregistration::TtlWillExpire);
        }
    }

    fn tell_lasting_losses(&mut self, now: Instant) {
        let Some(limit) = self.config.lasting_loss else { return };
        let mut lasting = Vec::new();
        for (key, entry) in &mut self.entries {
            if let Some(loss) = &mut entry.loss
                && !loss.lasting_told
                && loss.at + limit <= now
            {
                loss.lasting_told = true;
                lasting.push((key.clone(), RegistrationEvent::LossLasts { downtime: now - loss.at }));
            }
        }
        self.emit(lasting);
    }

    /// When the next step is due without any input.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let lease = match &self.lease {
            LeaseState::Idle | LeaseState::Granting { op: Some(_), .. } => None,
            LeaseState::Granting { op: None, retry_at } | LeaseState::Blocked { retry_at } => {
                self.wants_lease().then_some(*retry_at)
            }
            LeaseState::Closing(closing) => closing.wake(true),
            LeaseState::Held(t) | LeaseState::Doubt(t) => {
                let renew = t.renew_at.filter(|_| t.renewing.is_none());
                let audit = t.audit_at.filter(|_| t.auditing.is_none());
                [renew, audit, t.safe()].into_iter().flatten().min()
            }
        };
        let entries = self.entries.values().flat_map(|entry| self.wakes(entry)).flatten();
        let moved = self.has_moved();
        let retired = self.retired.iter().filter_map(|r| r.wake(moved));
        lease.into_iter().chain(entries).chain(retired).chain(self.pace_wake()).min()
    }

    fn wakes(&self, entry: &Entry) -> [Option<Instant>; 4] {
        let retry = entry.retry_at.filter(|_| entry.op.is_none() && self.has_work(entry));
        let safe = entry.safe.filter(|_| entry.is_published());
        let lasting = self.config.lasting_loss;
        let lasts = entry.loss.filter(|loss| !loss.lasting_told).and_then(|loss| Some(loss.at + lasting?));
        let by = match entry.want {
            Want::Absent { by, told: false, .. } => Some(by),
            _ => self.grave_time(entry),
        };
        [retry, safe, lasts, by]
    }

    /// When a tombstone is given up that no look has ended; `None` while it hasn't begun its duty. By then one was sent
    /// after the last late write, as there is one per time to live: if not, the registry doesn't answer them.
    pub(super) fn grave_time(&self, entry: &Entry) -> Option<Instant> {
        let Want::Absent { gone: Some(gone), told: true, .. } = entry.want else { return None };
        let at_rest = entry.op.is_none() && entry.belief == Belief::Nothing;
        at_rest.then(|| gone + (LATE + 2) * self.config.ttl + CALL_LIMIT)
    }
}
