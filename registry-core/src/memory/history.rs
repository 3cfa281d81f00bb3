//! Revisions: what changed when, for how long that is known, and where a watch can go on.

use std::sync::Arc;

use tokio::time::Instant;

use super::store::State;
use crate::{
    backend::{Change, Cursor, Event, Evidence},
    model::{Instance, InstanceKey, ServiceName},
};

/// How many commits the history keeps.
pub(super) const HISTORY: usize = 1024;

/// All changes of one revision.
pub(super) struct Commit {
    pub(super) revision: u64,
    pub(super) facts: Vec<Fact>,
}

pub(super) enum Fact {
    Put(Arc<Instance>),
    Gone(InstanceKey),
    /// Something that can't be decoded was written there.
    Garbage(InstanceKey),
}

impl Fact {
    pub(super) fn service(&self) -> &ServiceName {
        match self {
            Self::Put(instance) => instance.service(),
            Self::Gone(key) | Self::Garbage(key) => &key.service,
        }
    }
}

impl State {
    /// Makes all facts one revision and tells the open sessions.
    pub(super) fn commit(&mut self, facts: Vec<Fact>, now: Instant) {
        if facts.is_empty() {
            return;
        }
        self.revision += 1;
        self.version += 1;
        let commit = Commit { revision: self.revision, facts };
        self.announce(&commit, now);
        self.history.push_back(commit);
        if self.history.len() > HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.revision;
        }
    }

    /// An event at a revision of its own that is in no history.
    pub(super) fn invented(&mut self, changes: Vec<Change>) -> Event {
        self.revision += 1;
        self.event(changes)
    }

    /// An event at the current revision.
    pub(super) fn event(&self, changes: Vec<Change>) -> Event {
        Event::new(changes, Some(self.cursor(self.revision)), self.evidence(self.revision))
    }

    pub(super) fn evidence(&self, revision: u64) -> Evidence {
        Evidence { age: self.faults.age, ..Evidence::at(self.source.clone(), revision) }
    }

    pub(super) fn cursor(&self, revision: u64) -> Cursor {
        Cursor::new(format!("{}:{revision}", self.source))
    }

    /// The revision after which a watch with this cursor can go on; none for the cursor of another life of the
    /// data, of the future, or of compacted history.
    pub(super) fn resume_point(&self, cursor: &Cursor) -> Option<u64> {
        let (source, revision) = cursor.as_str().rsplit_once(':')?;
        let revision = revision.parse().ok()?;
        let honoured = source == self.source.as_str() && (self.compacted..=self.revision).contains(&revision);
        honoured.then_some(revision)
    }

    pub(super) fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.revision;
        self.version += 1;
    }
}
