//! A consumer of a watch, the way the core is one: it folds events into a view.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use futures_util::StreamExt;
use registry_core::{
    InstanceKey,
    backend::{Change, Cursor, Delivery, Event, WatchStream},
};
use tokio::time::Instant;

use super::{
    DEADLINE,
    subject::{Subject, within_time},
};

pub(super) struct Watch {
    stream: WatchStream,
    /// Weights by key, which is what the cases tell records by.
    pub(super) view: BTreeMap<InstanceKey, u32>,
    /// All that was told, such as `=` `+a:1` `-a`.
    pub(super) told: Vec<String>,
    pub(super) cursor: Option<Cursor>,
}

impl Watch {
    pub(super) fn new(stream: WatchStream) -> Self {
        Self { stream, view: BTreeMap::new(), told: Vec::new(), cursor: None }
    }

    /// Carries on with what an earlier watch had learnt.
    pub(super) fn after(self, earlier: BTreeMap<InstanceKey, u32>) -> Self {
        Self { view: earlier, ..self }
    }

    /// The next event, which may be a mere sign of life.
    pub(super) async fn event(&mut self, limit: Duration) -> Event {
        let item = within_time("an event", limit, self.stream.next()).await;
        let event = item.expect("the watch goes on").expect("the watch has not failed");
        assert_eq!(event.rejected, [], "every record can be decoded");
        for change in &event.changes {
            self.fold(change);
        }
        if event.cursor.is_some() {
            self.cursor.clone_from(&event.cursor);
        }
        event
    }

    /// The next item as it comes.
    pub(super) async fn item(&mut self) -> Option<Result<Event, registry_core::Error>> {
        within_time("an item", DEADLINE, self.stream.next()).await
    }

    /// Reads up to the first change, which opens the session.
    pub(super) async fn opened(&mut self) -> Event {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let event = self.event(deadline - Instant::now()).await;
            if !event.changes.is_empty() {
                return event;
            }
        }
    }

    /// Reads the opening, and on until the view is as it has to be where a registry is polled: its answer may come from
    /// a cache that is older than what stands there.
    pub(super) async fn opened_as(&mut self, subject: &Subject, is: impl Fn(&Self) -> bool) -> Event {
        let opening = self.opened().await;
        if matches!(subject.backend.capabilities.delivery, Delivery::Poll { .. }) {
            let deadline = Instant::now() + DEADLINE;
            while !is(self) {
                self.event(deadline - Instant::now()).await;
            }
        }
        assert!(is(self), "{self:?}");
        opening
    }

    /// Reads until the view holds exactly these ids with these weights.
    pub(super) async fn shows(&mut self, expected: &[(&str, u32)]) {
        self.shows_within(expected, DEADLINE).await;
    }

    pub(super) async fn shows_within(&mut self, expected: &[(&str, u32)], limit: Duration) {
        let reading = async {
            while !self.is_showing(expected) {
                // The limit of the whole ends first, and says more.
                self.event(2 * limit).await;
            }
        };
        let shown = tokio::time::timeout(limit, reading).await.is_ok();
        assert!(shown, "{self:?} rather than {expected:?} after {limit:?}");
    }

    pub(super) fn is_showing(&self, expected: &[(&str, u32)]) -> bool {
        self.view.iter().map(|(key, weight)| (key.id.as_str(), *weight)).eq(expected.iter().copied())
    }

    fn fold(&mut self, change: &Change) {
        let mut line = String::new();
        let written = match change {
            Change::Reset(all) => {
                self.view = all.iter().map(|i| (i.key(), i.weight().get())).collect();
                assert_eq!(self.view.len(), all.len(), "a reset names each instance once");
                write!(line, "=")
            }
            Change::Resumed => write!(line, "~"),
            Change::Upsert(instance) => {
                self.view.insert(instance.key(), instance.weight().get());
                write!(line, "+{}:{}", instance.id(), instance.weight())
            }
            Change::Remove(key) => {
                self.view.remove(key);
                write!(line, "-{}", key.id)
            }
            other => panic!("a change that the suite doesn't know: {other:?}"),
        };
        written.expect("a string takes everything");
        self.told.push(line);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a view of {:?} after {:?}", self.view, self.told)
    }
}
