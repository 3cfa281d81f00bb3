//! The way of a body through the poll and a watch, without the calls around it.

use std::{fmt, sync::Arc, time::Duration};

use registry_core::{
    Incarnation, Instance, Namespace, ServiceName, Target,
    backend::{Change, Event, Evidence},
    model::RecordVersion,
};
use tokio::time::Instant;

use super::{
    codec::{self, Marks},
    config::Address,
    discovery::Wanted,
    names::Names,
    poll::{Action, Input, News, Poll},
    replica::{Continuity, Fetched},
    view::View,
};
use crate::bench::Taken;

/// A poll and a watch of one service.
pub struct Lists {
    poll: Poll,
    view: View,
    server: Arc<str>,
}

impl Lists {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(service: &ServiceName) -> Self {
        let names = Arc::new(Names::new(&Namespace::default()));
        let wanted = Wanted::of(&names, Address::Host, &Target::from(service));
        let poll = Poll::new(Duration::from_secs(30), Continuity::default(), fastrand::Rng::with_seed(7));
        Self { poll, view: View::new(wanted.expect("no qualifier")), server: "server:8761".into() }
    }

    /// Takes a list in, which is always told as a whole; one that is the last one over again isn't split.
    ///
    /// # Panics
    /// If the body is none.
    pub fn list(&mut self, body: &[u8]) -> Taken {
        let body = std::str::from_utf8(body).expect("UTF-8");
        let server = Arc::clone(&self.server);
        let input = match self.poll.lists.read(body).expect("a list") {
            Some(list) => Input::List(server, list),
            None => Input::SameList(server),
        };
        self.step(input)
    }

    /// Whether a delta is the last one over again, which is all that is asked of it.
    pub fn is_same(&mut self, body: &[u8]) -> bool {
        self.poll.last.is_same(body)
    }

    /// Takes a delta in; nothing for a body that is the last one over again.
    ///
    /// # Panics
    /// If the body is none, or doesn't fit the list.
    pub fn delta(&mut self, body: &[u8]) -> Taken {
        if self.poll.last.is_same(body) {
            return Taken::default();
        }
        let taken = self.step(Input::Delta(Arc::clone(&self.server), fetched(body)));
        assert!(!taken.is_whole, "the delta fits the list");
        taken
    }

    fn step(&mut self, input: Input) -> Taken {
        let mut event = Event::new(Vec::new(), None, Evidence::default());
        for action in self.poll.step(input, Instant::now()) {
            match action {
                Action::Tell(round) => match &round.news {
                    News::Nothing => {}
                    News::Changes(changes) => self.view.apply(changes, &round.all, &mut event),
                    News::List { gone } => self.view.reset(gone, &round.all, &mut event),
                },
                Action::Wait(_) => {}
                Action::FetchList | Action::FetchDelta => panic!("nothing else has to be fetched"),
            }
        }
        let mut taken = Taken::default();
        for change in event.changes {
            match change {
                Change::Reset(list) => (taken.upserts, taken.is_whole) = (list, true),
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
        f.debug_struct("Lists").field("poll", &self.poll).finish_non_exhaustive()
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
