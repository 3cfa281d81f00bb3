//! The way of a body through the poll and a watch, without the calls around it.

use std::{fmt, sync::Arc, time::Duration};

use registry_core::{
    Incarnation, Instance, Namespace, ServiceName,
    backend::{Change, Event, Evidence, Relist},
    model::RecordVersion,
};

use super::{
    codec::{self, Marks},
    config::Address,
    discovery::Wanted,
    names::Names,
    replica::{Fetched, Replica},
    watch,
};
use crate::bench::Taken;

/// A poll and a watch of one service.
pub struct Lists {
    wanted: Wanted,
    replica: Replica,
    delta: Relist,
}

impl Lists {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(service: &ServiceName) -> Self {
        let names = Arc::new(Names::new(&Namespace::default()));
        Self {
            wanted: Wanted::service(names, Address::Host, service),
            replica: Replica::default(),
            delta: Relist::new(),
        }
    }

    /// Takes a list in, which is always told as a whole.
    ///
    /// # Panics
    /// If the body is none.
    pub fn list(&mut self, body: &[u8]) -> Taken {
        self.replica = Replica::of(fetched(body).items);
        let found = self.wanted.find(&self.replica);
        Taken { upserts: found.instances, removals: Vec::new(), is_whole: true }
    }

    /// Whether a delta is the last one over again, which is all that is asked of it.
    pub fn is_same(&mut self, body: &[u8]) -> bool {
        self.delta.is_same(body)
    }

    /// Takes a delta in; nothing for a body that is the last one over again.
    ///
    /// # Panics
    /// If the body is none.
    pub fn delta(&mut self, body: &[u8]) -> Taken {
        if self.delta.is_same(body) {
            return Taken::default();
        }
        let delta = fetched(body);
        let changes = self.replica.apply(delta.items);
        assert_eq!(delta.hash, Some(self.replica.hash()), "the delta fits the list");
        let mut event = Event::new(Vec::new(), None, Evidence::default());
        changes.iter().for_each(|change| watch::tell(&self.wanted, change, &mut event));
        let mut taken = Taken::default();
        for change in event.changes {
            match change {
                Change::Upsert(instance) => taken.upserts.push(instance),
                Change::Remove(key) => taken.removals.push(key),
                _ => {}
            }
        }
        taken
    }
}

fn fetched(body: &[u8]) -> Fetched {
    Fetched::parse(std::str::from_utf8(body).expect("UTF-8")).expect("a list")
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

/// The body that registers an instance, which is nearly what lists hold of it.
///
/// # Panics
/// If it can't be registered.
#[must_use]
pub fn registered(instance: &Instance, ttl: Duration) -> Vec<u8> {
    let version = RecordVersion { incarnation: Incarnation::from_bits(7), epoch: 1, sequence: 1 };
    let marks = Marks { version, dirty: 1_780_000_000_000, ttl };
    codec::encode(&Names::new(&Namespace::default()), instance, &marks).expect("an instance that fits")
}
