//! Drives the pure state machine and checks, at every step, what must always hold.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::super::{
    config::ReflectorConfig,
    signal::{Action, Input},
    state::State,
    status::Moment,
};
use crate::{
    Error, Freshness, ViewEvent, ViewState,
    backend::{Capabilities, Cursor, Event, Listing, Read, SourceId},
    disk::Stored,
    model::{Instance, InstanceKey},
    view::ViewChange,
};

#[derive(Clone)]
pub(super) struct Bench {
    pub(super) state: State,
    pub(super) now: Moment,
    /// The changes, folded.
    pub(super) view: HashMap<InstanceKey, Arc<Instance>>,
    pub(super) suspects: BTreeSet<String>,
    pub(super) events: Vec<ViewEvent>,
    /// Sessions in the order they were opened, with their cursors.
    pub(super) opened: Vec<(u64, Option<Cursor>)>,
    pub(super) opened_at: Vec<Instant>,
    pub(super) open: bool,
    pub(super) lookups: Vec<(u64, Read)>,
    pub(super) saves: Vec<Stored>,
    pub(super) loads: usize,
    applied: usize,
    last_revision: Option<(Option<SourceId>, Option<u64>)>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(ReflectorConfig::default(), &Capabilities::session(), false)
    }

    pub(super) fn with(config: ReflectorConfig, capabilities: &Capabilities, disk: bool) -> Self {
        let now = Moment {
            mono: Instant::now() + Duration::from_secs(86_400),
            wall: Duration::from_secs(1_000_000),
        };
        let config = ReflectorConfig { seed: config.seed.or(Some(7)), ..config };
        let mut bench = Self {
            state: State::new(config, capabilities, disk, now),
            now,
            view: HashMap::new(),
            suspects: BTreeSet::new(),
            events: Vec::new(),
            opened: Vec::new(),
            opened_at: Vec::new(),
            open: false,
            lookups: Vec::new(),
            saves: Vec::new(),
            loads: 0,
            applied: 0,
            last_revision: None,
        };
        bench.send(Input::Tick);
        bench
    }

    /// A bench whose first session opened with these instances at revision 10.
    pub(super) fn serving(ids: &[&str]) -> Self {
        let mut bench = Self::new();
        bench.event(super::reset(ids, 10));
        bench.events.clear();
        bench
    }

    pub(super) fn send(&mut self, input: Input) {
        for action in self.state.step(input, self.now) {
            match action {
                Action::Open { session, cursor } => {
                    self.opened.push((session, cursor));
                    self.opened_at.push(self.now.mono);
                    self.open = true;
                }
                Action::Close => self.open = false,
                Action::Lookup { id, read } => self.lookups.push((id, read)),
                Action::LoadDisk => self.loads += 1,
                Action::SaveDisk(stored) => self.saves.push(stored),
                Action::Apply(change) => self.fold(&change),
                Action::Emit(event) => self.events.push(event),
            }
        }
        let everything: HashMap<_, _> =
            self.state.everything().upserts.into_iter().map(|i| (i.key(), i)).collect();
        assert_eq!(self.view, everything, "the folded changes are the set");
    }

    fn fold(&mut self, change: &ViewChange) {
        self.applied += 1;
        for instance in &change.upserts {
            let before = self.view.insert(instance.key(), Arc::clone(instance));
            assert!(
                before.is_none_or(|b| !b.is_same_record(instance)),
                "upsert of what is there: {instance:?}"
            );
        }
        for key in &change.removals {
            assert!(self.view.remove(key).is_some(), "removal of {key}, which isn't there");
        }
        self.suspects = change.suspects.iter().flat_map(|s| s.iter()).map(|k| k.id.to_string()).collect();
        assert!(
            change
                .suspects
                .as_ref()
                .is_none_or(|s| !s.is_empty() && s.iter().all(|k| self.view.contains_key(k)))
        );
        let source = self.state.status().source.clone();
        if let Some((last_source, last_revision)) = &self.last_revision
            && *last_source == source
        {
            // Within one source only a new incarnation goes back, and tests of that change the source as well.
            assert!(change.revision >= *last_revision, "{last_revision:?} then {:?}", change.revision);
        }
        self.last_revision = Some((source, change.revision));
    }

    /// Forgets the last revision: the test is about to take the registry's history back.
    pub(super) fn allow_rollback(&mut self) {
        self.last_revision = None;
    }

    pub(super) fn applied(&self) -> usize {
        self.applied
    }

    // === the registry's side ===

    pub(super) fn session(&self) -> u64 {
        self.opened.last().expect("a session was opened").0
    }

    pub(super) fn event(&mut self, event: Event) {
        self.send(Input::Watched { session: self.session(), items: vec![Ok(event)] });
    }

    pub(super) fn fail_with(&mut self, error: Error) {
        self.send(Input::Watched { session: self.session(), items: vec![Err(error)] });
    }

    pub(super) fn end(&mut self) {
        self.send(Input::Ended { session: self.session() });
    }

    pub(super) fn answer(&mut self, answer: Result<Listing, Error>) {
        let id = self.lookups.last().expect("a lookup was asked for").0;
        self.send(Input::Listed { id, answer });
    }

    /// A sign of life each 10 s keeps the session up meanwhile.
    pub(super) fn advance_alive(&mut self, by: Duration) {
        let end = self.now.mono + by;
        while self.now.mono < end {
            self.advance(Duration::from_secs(10).min(end - self.now.mono));
            self.event(Event::default());
        }
    }

    // === time ===

    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now.mono + by;
        for _ in 0..100_000 {
            let Some(next) = self.state.next_deadline(self.now).filter(|at| *at <= end) else {
                self.jump(end - self.now.mono);
                return self.send(Input::Tick);
            };
            self.jump(next.saturating_duration_since(self.now.mono));
            self.send(Input::Tick);
        }
        panic!("the state machine spins at {:?}", self.state);
    }

    /// Time until something is due, at most `most`.
    pub(super) fn until_due(&self, most: Duration) -> Duration {
        let due = self.state.next_deadline(self.now);
        due.map_or(most, |at| at.saturating_duration_since(self.now.mono)).min(most)
    }

    pub(super) fn jump(&mut self, by: Duration) {
        self.now = Moment { mono: self.now.mono + by, wall: self.now.wall + by };
    }

    /// Lets time pass until another session is opened, and says how long that took.
    pub(super) fn until_opened(&mut self, most: Duration) -> Duration {
        let (start, count) = (self.now.mono, self.opened.len());
        while self.opened.len() == count {
            assert!(self.now.mono - start < most, "nothing was opened within {most:?}");
            self.advance(self.until_due(most));
        }
        self.now.mono - start
    }

    // === what users see ===

    pub(super) fn ids(&self) -> Vec<String> {
        let ids: BTreeSet<String> = self.view.keys().map(|key| key.id.to_string()).collect();
        ids.into_iter().collect()
    }

    pub(super) fn freshness(&self) -> Freshness {
        self.state.status().freshness(self.state.limits(), self.now)
    }

    pub(super) fn view_state(&self) -> ViewState {
        self.freshness().state
    }

    pub(super) fn count(&self, event: &ViewEvent) -> usize {
        self.events.iter().filter(|e| *e == event).count()
    }
}
