//! Instances that are known, and why none of them is to be used.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::{
    model::{Instance, ServiceName, Status},
    snapshot::Snapshot,
};

/// All instances of a service were unusable, and why each.
#[derive(Clone, Debug)]
pub struct NoneUsable {
    service: ServiceName,
    snapshot: Snapshot,
    standing: String,
}

/// Why an instance isn't usable; in the order in which picks would use them all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unusable {
    /// It failed too often, and sits out a while.
    Ejected,
    /// It leaves soon.
    Draining,
    /// It isn't ready.
    Starting,
    /// It says that it can't serve.
    Down,
}

impl Unusable {
    const ALL: [Self; 4] = [Self::Ejected, Self::Draining, Self::Starting, Self::Down];

    /// Why this instance isn't usable; `None` if it is.
    fn of(instance: &Instance, snapshot: &Snapshot) -> Option<Self> {
        match instance.status() {
            Status::Draining => Some(Self::Draining),
            Status::Starting => Some(Self::Starting),
            Status::Down => Some(Self::Down),
            Status::Serving if snapshot.is_ejected(&instance.key()) => Some(Self::Ejected),
            Status::Serving => None,
        }
    }
}

impl NoneUsable {
    /// What to say if no instance of `snapshot` is usable; `None` if one is.
    pub(super) fn find(
        service: &ServiceName,
        snapshot: &Snapshot,
        standing: impl FnOnce() -> String,
    ) -> Option<Self> {
        if snapshot.is_empty() || snapshot.has_usable() {
            return None;
        }
        Some(Self { service: service.clone(), snapshot: snapshot.clone(), standing: standing() })
    }

    /// Each known instance and what is wrong with it, as of the call.
    pub fn instances(&self) -> impl Iterator<Item = (&Arc<Instance>, Unusable)> {
        self.snapshot.iter().filter_map(|instance| {
            Unusable::of(instance, &self.snapshot).map(|unusable| (instance, unusable))
        })
    }

    /// How many instances are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.snapshot.len()
    }

    /// How many of them are unusable for this reason.
    #[must_use]
    pub fn count(&self, reason: Unusable) -> usize {
        self.instances().filter(|(_, why)| *why == reason).count()
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ejected => "ejected",
            Self::Draining => "draining",
            Self::Starting => "starting",
            Self::Down => "down",
        })
    }
}

impl fmt::Display for NoneUsable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of {} instances of {} is usable:", self.known(), self.service)?;
        let counts = Unusable::ALL.into_iter().map(|why| (why, self.count(why))).filter(|(_, n)| *n > 0);
        for (at, (why, count)) in counts.enumerate() {
            write!(f, "{} {count} {why}", if at == 0 { "" } else { "," })?;
        }
        write!(f, "; {}", self.standing)
    }
}

impl StdError for NoneUsable {}
