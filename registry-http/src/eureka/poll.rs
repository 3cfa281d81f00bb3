//! When to fetch what, as a pure transition function.
//!
//! ```text
//!            list                        delta, hash as ours: changes
//!   Blank ───────────▶ Synced ◀──────────────────────────────────────┐
//!     ▲                  │ due                                       │
//!     │                  ├── fetch a delta ──────────────────────────┘
//!     │                  │
//!     └── fetch all ◀────┴── none for 2 min, no list for 10 min; delta refused, without hash, of another server,
//!                            or its hash isn't ours
//! ```
//!
//! A delta is a window of about 3 min, not a cursor: items repeat, and are told again each time, which repairs a reader
//! who learnt otherwise from an older cache. A delta's body that is the last one over again says nothing but that all is
//! well; a list's, that all is as it was told, which is told again.

use std::{sync::Arc, time::Duration};

use registry_core::backend::{Relist, SourceId};
use tokio::time::Instant;

use super::{
    lists::Lists,
    replica::{Change, Continuity, Fetched, Replica},
};

/// A gap after which a delta may lack something: less than the window of 3 min.
pub(crate) const LONGEST_GAP: Duration = Duration::from_secs(120);
/// A list is fetched this often although the hashes agree, as they only count: equal counts can hide a difference.
const LIST_EVERY: Duration = Duration::from_secs(600);
/// After a delta was refused the next one is asked for this much later.
const DELTA_RETRY: Duration = Duration::from_secs(600);

/// What has happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// It is time to fetch.
    Due,
    List(Arc<str>, Fetched),
    /// The list was the last one over again, byte for byte, and nothing came between.
    SameList(Arc<str>),
    Delta(Arc<str>, Fetched),
    /// The delta was the last one over again, byte for byte.
    SameDelta(Arc<str>),
    /// The server offers no delta.
    NoDelta,
}

/// What is to be done, in order.
#[derive(Debug)]
pub(crate) enum Action {
    FetchList,
    FetchDelta,
    Wait(Instant),
    Tell(Round),
}

/// What one poll brought.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) news: News,
    /// Everything, once that has come about.
    pub(crate) all: Replica,
    pub(crate) source: SourceId,
    pub(crate) server: Arc<str>,
    pub(crate) at: Instant,
}

#[derive(Clone, Debug)]
pub(crate) enum News {
    Nothing,
    Changes(Vec<Change>),
    /// The whole list is new, after what was said to be gone before.
    List {
        gone: Vec<Change>,
    },
}

/// The state of one poll.
#[derive(Debug)]
pub(crate) struct Poll {
    every: Duration,
    phase: Phase,
    pub(crate) replica: Replica,
    pub(crate) continuity: Continuity,
    /// Removals of a delta that turned out not to fit.
    gone: Vec<Change>,
    /// Whether those who will be told next were told nothing yet.
    is_anew: bool,
    no_delta_until: Option<Instant>,
    rng: fastrand::Rng,
    pub(crate) lists: Lists,
    /// The last delta's body.
    pub(crate) last: Relist,
}

#[derive(Clone, Debug)]
enum Phase {
    Blank,
    Synced { server: Arc<str>, source: SourceId, listed: Instant, heard: Instant },
}

impl Poll {
    pub(crate) fn new(every: Duration, continuity: Continuity, rng: fastrand::Rng) -> Self {
        Self {
            every,
            phase: Phase::Blank,
            replica: Replica::default(),
            continuity,
            gone: Vec::new(),
            is_anew: true,
            no_delta_until: None,
            rng,
            lists: Lists::new(),
            last: Relist::new(),
        }
    }

    /// One that goes on after a failure, for others than before: the first good answer tells them everything.
    pub(crate) fn resumed(mut self) -> Self {
        self.is_anew = true;
        // A body that was compared wasn't understood yet.
        self.last.forget();
        self.lists.forget();
        self
    }

    pub(crate) fn step(&mut self, input: Input, now: Instant) -> Vec<Action> {
        match input {
            Input::Due if self.may_ask_for_delta(now) => vec![Action::FetchDelta],
            Input::Due => vec![Action::FetchList],
            Input::NoDelta => {
                self.no_delta_until = Some(now + DELTA_RETRY);
                vec![Action::FetchList]
            }
            Input::List(server, list) => self.list(server, list, now),
            Input::SameList(server) => self.same_list(&server, now),
            Input::SameDelta(server) => match self.hear(&server, now) {
                true => self.tell(News::Nothing, now),
                false => vec![Action::FetchList],
            },
            Input::Delta(server, delta) => self.delta(&server, delta, now),
        }
    }

    fn may_ask_for_delta(&self, now: Instant) -> bool {
        let refused = self.no_delta_until.is_some_and(|until| now < until);
        match self.phase {
            Phase::Blank => false,
            Phase::Synced { listed, heard, .. } => {
                !refused && now < listed + LIST_EVERY && now <= heard + LONGEST_GAP
            }
        }
    }

    fn list(&mut self, server: Arc<str>, list: Fetched, now: Instant) -> Vec<Action> {
        self.replica = self.replica.next(list.items);
        if let Some(theirs) = list.hash
            && theirs != self.replica.hash()
        {
            tracing::debug!(%server, theirs, ours = self.replica.hash(), "a list doesn't have its own hash");
        }
        let source = self.continuity.judge(&server, &self.replica);
        if !self.is_of(&server) {
            // This one may offer deltas.
            self.no_delta_until = None;
        }
        self.phase = Phase::Synced { server, source, listed: now, heard: now };
        // What comes next was not told to anybody yet.
        self.last.forget();
        let gone = std::mem::take(&mut self.gone);
        self.tell(News::List { gone }, now)
    }

    fn same_list(&mut self, from: &Arc<str>, now: Instant) -> Vec<Action> {
        let Phase::Synced { server, listed, heard, .. } = &mut self.phase else {
            return vec![Action::FetchList];
        };
        if server != from {
            return vec![Action::FetchList];
        }
        (*listed, *heard) = (now, now);
        self.last.forget();
        self.tell(News::List { gone: Vec::new() }, now)
    }

    /// Whether the replica is this server's.
    pub(crate) fn is_of(&self, from: &Arc<str>) -> bool {
        matches!(&self.phase, Phase::Synced { server, .. } if server == from)
    }

    fn delta(&mut self, server: &Arc<str>, delta: Fetched, now: Instant) -> Vec<Action> {
        if !self.hear(server, now) {
            return vec![Action::FetchList];
        }
        // The list as it was told would take this back.
        self.lists.forget();
        let changes = self.replica.apply(delta.items);
        let ours = self.replica.hash();
        if delta.hash.as_ref() == Some(&ours) {
            return self.tell(News::Changes(changes), now);
        }
        tracing::debug!(%server, theirs = delta.hash, ours, "a delta doesn't fit; fetching the list");
        // What was deleted was deleted, whatever else was missed.
        self.gone = changes.into_iter().filter(|change| matches!(change, Change::Gone(_))).collect();
        vec![Action::FetchList]
    }

    /// Notes that a delta came; whether it belongs to the list.
    fn hear(&mut self, from: &Arc<str>, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Synced { server, heard, .. } if server == from => {
                *heard = now;
                true
            }
            Phase::Synced { .. } | Phase::Blank => false,
        }
    }

    fn tell(&mut self, news: News, now: Instant) -> Vec<Action> {
        let Phase::Synced { server, source, .. } = &self.phase else { return vec![Action::FetchList] };
        let all = self.replica.clone();
        let is_gone = |change: &Change| matches!(change, Change::Gone(_));
        let news = match (std::mem::take(&mut self.is_anew), news) {
            (true, News::Nothing) => News::List { gone: Vec::new() },
            (true, News::Changes(changes)) => {
                News::List { gone: changes.into_iter().filter(is_gone).collect() }
            }
            (_, news) => news,
        };
        let round = Round { news, all, source: source.clone(), server: Arc::clone(server), at: now };
        // A little early, so that clients drift apart.
        let pause = self.every.mul_f64(1.0 - 0.1 * self.rng.f64());
        vec![Action::Tell(round), Action::Wait(now + pause)]
    }
}

#[cfg(test)]
mod tests;
