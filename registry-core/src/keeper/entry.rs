//! What the user wants of one instance, and what we believe the registry holds.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    input::{LeaseNo, OpId},
    phase::{LossCause, Phase},
};
use crate::{Error, OnDuplicate, model::Instance};

/// One desired registration.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) record: Arc<Instance>,
    /// Raised with each change of `record`.
    pub(crate) sequence: u64,
    /// The first sequence of this registration: what is older belongs to one that was withdrawn.
    pub(crate) first_sequence: u64,
    pub(crate) policy: Policy,
    pub(crate) want: Want,
    pub(crate) phase: Phase,
    /// Whether others are claimed to see it, be it in doubt or an older record than the desired one.
    pub(crate) published: bool,
    /// Whether it waits for an update by the user, as a deletion is respected.
    pub(crate) parked: bool,
    /// Raised at each loss.
    pub(crate) epoch: u64,
    pub(crate) belief: Belief,
    /// The one operation in flight.
    pub(crate) op: Option<OpId>,
    /// Not tried before this instant.
    pub(crate) retry_at: Option<Instant>,
    /// Refusals in a row, for the slow retry.
    pub(crate) refusals: u32,
    /// Until when it may be claimed as registered.
    pub(crate) safe: Option<Instant>,
    /// When the last proof that it is registered was sent for.
    pub(crate) last_ok: Option<Instant>,
    /// When the last publication that went well was answered.
    pub(crate) answered: Option<Instant>,
    /// Set from a loss to the recovery.
    pub(crate) loss: Option<Loss>,
    /// Whether it was ever live: then a foreign record means that we were superseded.
    pub(crate) was_live: bool,
    /// Until when a write that was never answered may still land: a tombstone stays, and audits come sooner.
    pub(crate) late_until: Option<Instant>,
    /// Until when another copy of a publication that was answered may still land: a backend may have asked a second
    /// endpoint when the first was silent. Only matters once it is withdrawn.
    pub(crate) copies_until: Option<Instant>,
    pub(crate) cause: Option<Error>,
}

/// How one registration reacts to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) on_duplicate: OnDuplicate,
    pub(crate) on_missing: OnMissing,
}

/// What to do when the record vanished although the lease lives: an operator deleted it, or the registry lost it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnMissing {
    /// Publish it again. The default: visible while alive.
    #[default]
    Reassert,
    /// Leave it, for fleets whose operators take instances out by deleting them; the registration is `Blocked`
    /// until it is updated.
    Respect,
}

/// Whether the record shall be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Want {
    Present,
    /// Withdrawn. `by` is when the caller stops waiting; `told` whether the final event went out; `gone` since
    /// when the registry has confirmed.
    Absent {
        by: Instant,
        told: bool,
        gone: Option<Instant>,
    },
}

/// What we believe the registry holds under the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Belief {
    /// Nothing of ours.
    Nothing,
    /// Our record, under a lease, in this epoch and sequence.
    Stored { lease: LeaseNo, epoch: u64, sequence: u64 },
    /// Perhaps a record of ours: a write wasn't answered, or its lease is gone.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) at: Instant,
    pub(crate) cause: LossCause,
    /// Whether `LossLasts` was told.
    pub(crate) lasting_told: bool,
}

impl Entry {
    pub(crate) fn new(record: Arc<Instance>, policy: Policy) -> Self {
        Self {
            record,
            sequence: 1,
            first_sequence: 1,
            policy,
            want: Want::Present,
            phase: Phase::Registering,
            published: false,
            parked: false,
            epoch: 1,
            belief: Belief::Nothing,
            op: None,
            retry_at: None,
            refusals: 0,
            safe: None,
            last_ok: None,
            answered: None,
            loss: None,
            was_live: false,
            late_until: None,
            copies_until: None,
            cause: None,
        }
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.want == Want::Present
    }

    /// Whether the registry holds the desired record under this lease.
    pub(crate) fn is_current(&self, lease: LeaseNo) -> bool {
        self.belief == (Belief::Stored { lease, epoch: self.epoch, sequence: self.sequence })
    }

    /// Whether a record of ours may hang on this lease, or on an unknown one.
    pub(crate) fn may_hold(&self, lease: LeaseNo) -> bool {
        match self.belief {
            Belief::Nothing => false,
            Belief::Stored { lease: stored, .. } => stored == lease,
            Belief::Unknown => true,
        }
    }

    /// Whether others are claimed to see it.
    pub(crate) fn is_published(&self) -> bool {
        self.published && self.is_wanted()
    }

    /// Where nobody renews: whether anything is open that a look shall settle.
    pub(crate) fn is_doubted(&self) -> bool {
        self.safe.is_some() || self.phase == Phase::Suspect
    }

    /// Whether a write of ours may still land.
    pub(crate) fn awaits_late_write(&self, now: Instant) -> bool {
        self.late_until.is_some_and(|until| until > now)
    }

    /// Whether a write of ours may land on what is withdrawn.
    pub(crate) fn may_return(&self, now: Instant) -> bool {
        self.awaits_late_write(now) || self.copies_until.is_some_and(|until| until > now)
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.op.is_none() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// A foreign record is only replaced before we were ever seen: afterwards the other one is our successor, and
    /// fighting over the key would make both flap.
    pub(crate) fn on_duplicate(&self) -> OnDuplicate {
        if self.was_live { OnDuplicate::Reject } else { self.policy.on_duplicate }
    }
}
