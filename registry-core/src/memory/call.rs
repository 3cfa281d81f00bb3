//! What a registry can be called for, and the faults that are set on it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Error, ErrorKind,
    model::{InstanceKey, ServiceName},
};

/// How many calls the log keeps.
const LOG: usize = 4096;

/// What a registry can be called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Registry::grant`](crate::Registry::grant).
    Grant,
    /// [`Lease::publish`](crate::Lease::publish).
    Publish,
    /// [`Lease::withdraw`](crate::Lease::withdraw).
    Withdraw,
    /// [`Lease::renew`](crate::Lease::renew).
    Renew,
    /// [`Lease::inspect`](crate::Lease::inspect).
    Inspect,
    /// [`Lease::revoke`](crate::Lease::revoke).
    Revoke,
    /// [`Discovery::lookup`](crate::Discovery::lookup) and [`Catalogue::services`](crate::Catalogue::services).
    Lookup,
    /// [`Discovery::watch`](crate::Discovery::watch) and
    /// [`Catalogue::watch_services`](crate::Catalogue::watch_services).
    Watch,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Grant,
        Self::Publish,
        Self::Withdraw,
        Self::Renew,
        Self::Inspect,
        Self::Revoke,
        Self::Lookup,
        Self::Watch,
    ];

    /// The word in errors: `grant`, `publish`, ….
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grant => "grant",
            Self::Publish => "publish",
            Self::Withdraw => "withdraw",
            Self::Renew => "renew",
            Self::Inspect => "inspect",
            Self::Revoke => "revoke",
            Self::Lookup => "lookup",
            Self::Watch => "watch",
        }
    }
}

/// One call in [`MemoryRegistry::call_log`](super::MemoryRegistry::call_log).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// When it began.
    pub at: Instant,
    /// What it was.
    pub operation: Operation,
}

/// All faults that are set, and the count of calls.
#[derive(Default)]
pub(super) struct FaultState {
    calls: [CallFaults; Operation::ALL.len()],
    pub(super) fail_any: FailNext,
    log: VecDeque<Call>,
    pub(super) rejected: BTreeSet<InstanceKey>,
    pub(super) lose_publishes: bool,
    pub(super) shortened: BTreeMap<ServiceName, usize>,
    pub(super) delivery: Delivery,
    pub(super) age: Duration,
}

/// The faults of one operation's calls.
#[derive(Default)]
pub(super) struct CallFaults {
    pub(super) unavailable: bool,
    pub(super) hang: bool,
    pub(super) delay: Duration,
    pub(super) late: Duration,
    pub(super) lost: bool,
    pub(super) fail: FailNext,
    count: u64,
}

/// Errors in the order they are due, each with how often.
pub(super) type FailNext = VecDeque<(usize, Error)>;

fn pop_failure(queue: &mut FailNext) -> Option<Error> {
    loop {
        let (left, error) = queue.front_mut()?;
        if *left > 0 {
            *left -= 1;
            return Some(error.clone());
        }
        queue.pop_front();
    }
}

/// The faults of what watches deliver.
#[derive(Default)]
pub(super) struct Delivery {
    pub(super) double: bool,
    pub(super) late: Duration,
    pub(super) swap: bool,
}

impl FaultState {
    fn of(&self, operation: Operation) -> &CallFaults {
        &self.calls[operation as usize]
    }

    pub(super) fn of_mut(&mut self, operation: Operation) -> &mut CallFaults {
        &mut self.calls[operation as usize]
    }

    pub(super) fn heal(&mut self) {
        let healthy = |calls: &mut CallFaults| {
            let count = calls.count;
            *calls = CallFaults { count, ..CallFaults::default() };
        };
        self.calls.iter_mut().for_each(healthy);
        *self = Self {
            calls: std::mem::take(&mut self.calls),
            log: std::mem::take(&mut self.log),
            ..Self::default()
        };
    }

    /// Counts a call and tells how long it travels.
    pub(super) fn note(&mut self, operation: Operation, now: Instant) -> Duration {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back(Call { at: now, operation });
        let faults = self.of_mut(operation);
        faults.count += 1;
        faults.delay
    }

    pub(super) fn calls(&self, operation: Operation) -> u64 {
        self.of(operation).count
    }

    pub(super) fn log(&self) -> Vec<Call> {
        self.log.iter().copied().collect()
    }

    /// Whether calls of the operation must wait.
    pub(super) fn holds(&self, operation: Operation) -> bool {
        let faults = self.of(operation);
        faults.hang && !faults.unavailable
    }

    /// The error that a call fails with before it acts.
    pub(super) fn refusal(&mut self, operation: Operation) -> Option<Error> {
        let faults = self.of_mut(operation);
        if faults.unavailable {
            return Some(Error::new(ErrorKind::Unavailable, "the registry is down"));
        }
        pop_failure(&mut faults.fail).or_else(|| pop_failure(&mut self.fail_any))
    }

    /// How late the answer to a call that acted comes, and the error it comes as.
    pub(super) fn answer(&self, operation: Operation) -> (Duration, Option<Error>) {
        let faults = self.of(operation);
        let lost = faults.lost.then(|| Error::new(ErrorKind::Timeout, "no answer came"));
        (faults.late, lost)
    }
}
