//! Where a registration stands, and what happened to it.

use std::{fmt, time::Duration};

use crate::Error;

/// Where a registration stands in one registry.
///
/// ```text
/// Registering ──> Live <──> Suspect ──> Lost ──> Live (next epoch)
///      │            │                     ↕
///      └────────────┴──────────────────> Blocked      any ──> Deregistering ──> Absent
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Not published yet; the core is trying.
    Registering,
    /// Published, and renewed recently enough that others can be claimed to see it.
    Live,
    /// The last renewal failed or is late, or the last look got no answer; others still see it.
    Suspect,
    /// Others may no longer see it; the core is publishing it again, under the next epoch.
    Lost,
    /// The registry refuses it, or its newest update; tried again every minute. An older record may still stand, and
    /// its loss is told as usual. See [`RegistrationState::cause`](super::RegistrationState::cause).
    Blocked,
    /// Being removed.
    Deregistering,
    /// Not published any more: the end.
    Absent,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Registering => "registering",
            Self::Live => "live",
            Self::Suspect => "suspect",
            Self::Lost => "lost",
            Self::Blocked => "blocked",
            Self::Deregistering => "deregistering",
            Self::Absent => "absent",
        })
    }
}

/// Why a registration was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossCause {
    /// No renewal was answered in time, or no look where the registry makes its own checks: it may have dropped it.
    Expired,
    /// The registry said that it no longer knows the lease.
    Revoked,
    /// The lease lives, but the record is gone: somebody deleted it, or the registry forgot it.
    Missing,
    /// Another process published under the same id.
    Superseded,
    /// The application's own liveness hook withheld the renewal.
    Withheld,
    /// The registry's own check of the instance fails, so that it shows the instance to nobody.
    Failing,
}

/// What happened to one registration.
///
/// `Lost` comes at most once per epoch, and `Lost` and `Recovered` strictly alternate; `Deregistered` is the last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RegistrationEvent {
    /// Published for the first time.
    Registered {
        /// Always 1.
        epoch: u64,
    },
    /// The lease is in doubt; for observability only, traffic is unaffected.
    Suspect,
    /// The doubt passed without a loss.
    Cleared,
    /// Others may no longer see the instance.
    Lost {
        /// The epoch that ended.
        epoch: u64,
        /// Why.
        cause: LossCause,
        /// How long ago the last successful renewal was sent.
        last_ok_age: Duration,
    },
    /// Published again after a loss.
    Recovered {
        /// The epoch that had ended.
        old_epoch: u64,
        /// The epoch that began.
        epoch: u64,
        /// Time from the loss to now.
        downtime: Duration,
    },
    /// A loss has lasted as long as the client's `lasting_loss` says; once per loss.
    LossLasts {
        /// Time since the loss.
        downtime: Duration,
    },
    /// The registry refuses the registration; once per entry into the phase.
    Blocked {
        /// What it said.
        cause: Error,
    },
    /// Removed, as asked; the last event.
    Deregistered {
        /// What was achieved.
        outcome: Deregistration,
    },
    /// The keeper's task had panicked and was restarted with the same desired state.
    KeeperRestarted,
    /// This reader was too slow: so many events were dropped. The state is still readable.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// What a deregistration achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deregistration {
    /// The registry confirmed that the record is gone.
    Confirmed,
    /// The registry didn't answer in time; the record vanishes when its time to live ends. The core keeps trying
    /// for as long as the client lives.
    TtlWillExpire,
}
