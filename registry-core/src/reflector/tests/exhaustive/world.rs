//! A reflector, a registry with its whole history, and the session and the lookup between them.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    super::{bench::Bench, secs},
    Scope,
    choice::Choice,
};
use crate::{ViewState, backend::Capabilities, explore::World, reflector::ReflectorConfig};

const IDS: [&str; 2] = ["a", "b"];
/// A session gives a sign of life this often.
const LIFE: Duration = Duration::from_secs(5);
/// The task gives a lookup up after this.
const LOOKUP: Duration = Duration::from_secs(3);

/// Who is there, by weight.
pub(super) type Truth = BTreeMap<&'static str, u32>;

/// What a lookup saw: source, revision, who.
pub(super) type Seen = (usize, usize);

#[derive(Clone)]
pub(super) struct Checked {
    pub(super) bench: Bench,
    pub(super) scope: Scope,
    pub(super) start: Instant,
    /// By source and revision; the last of the last is now.
    pub(super) past: Vec<Vec<Truth>>,
    /// The session that was opened last, and the revision it has delivered.
    pub(super) live: Option<(u64, usize)>,
    pub(super) silent: bool,
    pub(super) seen: Option<Seen>,
    /// Whether the newest list was a lie.
    pub(super) lied: bool,
    /// Since when each is held, as users see it.
    pub(super) held: BTreeMap<String, Instant>,
    pub(super) reached: Option<(String, u64)>,
    /// The newest that any session has delivered.
    pub(super) told: Seen,
    pub(super) opened: usize,
    /// Whether the next session has to be resumed, where that is certain.
    pub(super) resumes: Option<bool>,
}

impl Checked {
    pub(super) fn new(scope: Scope) -> Self {
        let config = ReflectorConfig { relist_every: scope.relist_every, ..ReflectorConfig::default() };
        let bench = Bench::with(config, &Capabilities::session(), false);
        Self {
            start: bench.now.mono,
            bench,
            scope,
            past: vec![vec![IDS.into_iter().map(|id| (id, 1)).collect()]],
            live: None,
            silent: false,
            seen: None,
            lied: false,
            held: BTreeMap::new(),
            reached: None,
            told: (0, 0),
            opened: 0,
            resumes: None,
        }
    }

    pub(super) fn source(&self) -> usize {
        self.past.len() - 1
    }

    /// The newest revision; the first is 0.
    pub(super) fn revision(&self) -> usize {
        self.past[self.source()].len() - 1
    }

    pub(super) fn truth(&self) -> &Truth {
        &self.past[self.source()][self.revision()]
    }

    fn elapsed(&self) -> Duration {
        self.bench.now.mono - self.start
    }

    /// The revision that the session has delivered, if it is open and was answered.
    pub(super) fn delivered(&self) -> Option<usize> {
        self.live.filter(|(session, _)| self.bench.open && *session == self.bench.session()).map(|(_, at)| at)
    }

    fn is_opening(&self) -> bool {
        self.bench.open && self.delivered().is_none()
    }

    pub(super) fn asked(&self) -> bool {
        self.bench.state.lookups.asked.is_some()
    }

    pub(super) fn cursor(&self) -> Option<Seen> {
        let (_, cursor) = self.bench.opened.last()?;
        let (source, revision) = cursor.as_ref()?.as_str().split_once(':')?;
        Some((source.parse().unwrap(), revision.parse().unwrap()))
    }

    pub(super) fn view(&self) -> BTreeMap<String, u32> {
        self.bench.view.values().map(|i| (i.id().to_string(), i.weight().get())).collect()
    }

    fn serves_the_truth(&self) -> bool {
        self.bench.suspects.is_empty()
            && self
                .view()
                .iter()
                .map(|(id, weight)| (id.as_str(), weight))
                .eq(self.truth().iter().map(|(id, w)| (*id, w)))
    }

    fn is_calm(&self) -> bool {
        self.delivered() == Some(self.revision())
            && !self.silent
            && !self.asked()
            && !self.lied
            && self.serves_the_truth()
    }
}

impl World for Checked {
    type Choice = Choice;

    fn choices(&self) -> Vec<Choice> {
        let spent = self.elapsed() >= self.scope.open || (self.scope.faults == 0 && self.scope.edits == 0);
        if self.elapsed() >= self.scope.until || (spent && self.is_calm()) {
            return Vec::new();
        }
        let mut choices = Vec::new();
        if self.elapsed() < self.scope.open {
            if self.scope.faults > 0 {
                choices.extend(self.faults());
            }
            if self.scope.edits > 0 {
                choices.extend(self.edits());
            }
        }
        if self.scope.faults > 0 {
            choices.extend(self.lookup_faults());
        }
        let behind = self.delivered().is_some_and(|at| at < self.revision());
        let fits = self
            .bench
            .state
            .lookups
            .asked
            .is_none_or(|asked| self.bench.now.mono + self.step() <= asked.at + LOOKUP);
        let waits = (self.is_opening() || (behind && spent)) && !self.silent;
        if !waits && fits {
            choices.push(Choice::Tick);
        }
        if self.is_opening() && !self.silent {
            match self.cursor() {
                Some((source, _)) if source != self.source() => choices.push(Choice::Compacted),
                Some(_) => choices.extend([Choice::Resume, Choice::List]),
                None => choices.push(Choice::List),
            }
        }
        if behind && !self.silent {
            choices.push(Choice::Next);
        }
        if self.asked() {
            choices.push(if self.seen.is_none() { Choice::Look } else { Choice::Answer });
        }
        choices
    }

    fn take(&mut self, choice: &Choice) {
        self.bench.state.rng = fastrand::Rng::with_seed(7);
        self.bench.events.clear();
        let before = self.view();
        let asked = self.bench.state.lookups.asked.map(|asked| asked.at);
        self.expect_resumption(choice);
        let listed = self.apply(choice);
        if let (Choice::List | Choice::Next | Choice::Lie, Some((_, at))) = (choice, self.live) {
            self.told = (self.source(), at);
        }
        self.never_wiped(choice, &before, asked, listed.as_ref());
        self.doubts_nobody_without_a_word(choice);
        self.never_goes_back();
        self.is_the_truth_of_its_revision();
        self.resumes_where_it_stands();
        let now = self.bench.now.mono;
        self.held.retain(|id, _| self.bench.suspects.contains(id));
        for id in &self.bench.suspects {
            self.held.entry(id.clone()).or_insert(now);
        }
    }

    fn fingerprint(&self) -> u64 {
        self.print()
    }

    /// D2: with the faults over, what is served becomes the truth.
    fn end(mut self) {
        self.scope.faults = 0;
        self.scope.edits = 0;
        self.silent = false;
        let until = self.bench.now.mono + secs(150);
        while !self.is_calm() {
            assert!(
                self.bench.now.mono < until,
                "D2: {:?} is served instead of {:?}",
                self.view(),
                self.truth()
            );
            let next = if self.is_opening() {
                let lost = self.cursor().is_some_and(|(source, _)| source != self.source());
                if lost { Choice::Compacted } else { Choice::List }
            } else if self.delivered().is_some_and(|at| at < self.revision()) {
                Choice::Next
            } else if self.asked() {
                if self.seen.is_none() { Choice::Look } else { Choice::Answer }
            } else {
                Choice::Tick
            };
            self.take(&next);
        }
        assert_eq!(self.bench.view_state(), ViewState::Fresh, "D2");
    }
}

impl Checked {
    /// How long until the next instant.
    pub(super) fn step(&self) -> Duration {
        self.bench.until_due(LIFE).max(Duration::from_millis(1))
    }
}
