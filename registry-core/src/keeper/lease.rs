//! The states of a lease, and what is remembered of calls on their way.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    entry::Belief,
    input::{LeaseNo, OpId},
    times::Times,
};
use crate::{backend::Proof, model::InstanceKey};

/// Where the lease stands; the diagram is in [`state`](super::state).
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
    /// The lease is being given back.
    Closing(Retired),
}

/// A granted lease.
#[derive(Clone, Debug)]
pub(super) struct Tenure {
    pub(super) lease: LeaseNo,
    /// `None` where the registry keeps records without renewal.
    pub(super) times: Option<Times>,
    pub(super) proof: Proof,
    /// When the last successful renewal was sent.
    pub(super) sent: Instant,
    pub(super) renew_at: Option<Instant>,
    pub(super) renewing: Option<OpId>,
    /// In a row, also of those that were answered for some instances only.
    pub(super) failures: u32,
    /// Whether any renewal got no answer at all since the last one that did.
    pub(super) was_cut: bool,
    pub(super) audit_at: Option<Instant>,
    pub(super) auditing: Option<OpId>,
    /// For leases that are only looked at: how often.
    pub(super) look_every: Option<Duration>,
    /// When the last look was sent that the registry refused, which is an answer for all; at first, when the lease was asked
    /// for. What a look finds is each record's own proof.
    pub(super) looked: Instant,
}

impl Tenure {
    /// Until when the lease as a whole may be claimed. Where each record has beats of its own the lease is virtual,
    /// and only records run out.
    pub(super) fn safe(&self) -> Option<Instant> {
        self.times.filter(|_| self.proof == Proof::Session).map(|times| times.safe(self.sent))
    }

    /// Until when a record that was last proven at `last_ok` may be claimed, now that a look got no answer about it; `None`
    /// where nobody looks.
    ///
    /// Looks are all that tells, so two in a row that are missing count like a time to live: a registry that keeps a
    /// record by its own checks hides it once the one who checks is gone, and says so to nobody. A later look than
    /// usual, as after a pause, leaves time for another.
    pub(super) fn unseen_until(&self, last_ok: Option<Instant>, now: Instant) -> Option<Instant> {
        let every = self.look_every?;
        let heard = last_ok.map_or(self.looked, |ok| ok.max(self.looked));
        Some((heard + 2 * every).max(now + every / 2))
    }
}

/// A lease that is no longer used, waiting to be revoked once nothing wanted hangs on it.
#[derive(Clone, Debug)]
pub(super) struct Retired {
    pub(super) lease: LeaseNo,
    pub(super) op: Option<OpId>,
    pub(super) retry_at: Instant,
    /// How long it may outlive us at the registry; `None` if its records stay until they are removed.
    pub(super) lasts: Option<Duration>,
    /// After this it has expired anyway; `None` also while the registry can't be reached: without a quorum leases
    /// stand still, and a new leader lets each run anew.
    pub(super) until: Option<Instant>,
}

impl Retired {
    /// When it needs a step.
    pub(super) fn wake(&self, may_revoke: bool) -> Option<Instant> {
        let retry = may_revoke.then_some(self.retry_at);
        retry.into_iter().chain(self.until).min().filter(|_| self.op.is_none())
    }

    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.op.is_none() && self.until.is_some_and(|until| until <= now)
    }

    /// The registry can't be reached: its time may stand still.
    pub(super) fn stands_still(&mut self) {
        self.until = None;
    }

    /// The registry has answered: if its time stood still, it runs again, from the beginning at worst.
    pub(super) fn runs(&mut self, now: Instant) {
        if self.until.is_none() {
            self.until = self.lasts.map(|lasts| now + lasts);
        }
    }
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
    /// Keys with the epoch and sequence that were sent.
    Publish(LeaseNo, Vec<(InstanceKey, u64, u64)>),
    Withdraw(Vec<InstanceKey>),
    Renew(LeaseNo),
    /// Keys with what was believed when asked.
    Inspect(LeaseNo, Vec<(InstanceKey, Belief)>),
    Revoke(LeaseNo),
}
