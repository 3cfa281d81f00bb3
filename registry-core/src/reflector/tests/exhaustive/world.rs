//! What may happen to a reflector.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::{bench::Bench, key, secs, weighted},
    Scope,
};
use crate::{
    Error, ErrorKind, ViewState,
    backend::{Capabilities, Change, Cursor, Event, Evidence, Listing, SourceId},
    explore::World,
    model::Instance,
    reflector::{ReflectorConfig, signal::Input, status::Loaded},
};

const IDS: [&str; 2] = ["a", "b"];
/// A session gives a sign of life this often.
const LIFE: Duration = Duration::from_secs(5);
/// The task gives a lookup up after this.
const LOOKUP: Duration = Duration::from_secs(3);

/// Who is there, by weight.
pub(super) type Truth = BTreeMap<&'static str, u32>;

#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// The session opens with a list.
    List,
    /// It opens where it was asked to.
    Resume,
    /// It can't, as the history is gone.
    Compacted,
    /// The next revision is delivered.
    Next,
    /// A lookup is carried out; its answer is on the way.
    Look,
    /// Its answer comes.
    Answer,
    Tick,
    Put(&'static str),
    Delete(&'static str),
    /// The session fails.
    Break(ErrorKind),
    End,
    /// The session says nothing any more.
    Silence,
    /// The session repeats an older revision.
    Repeat,
    /// The session lists nobody.
    Lie,
    /// The lookup fails.
    Fail,
    /// The lookup is carried out by a replica that is a revision behind.
    LookBehind,
    /// A caller is refused.
    Refused,
    /// The registry loses its data; whether its sessions end.
    Wipe(bool),
}

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
}

impl Checked {
    pub(super) fn new(scope: Scope) -> Self {
        let config = ReflectorConfig { relist_every: secs(20), ..ReflectorConfig::default() };
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
        }
    }

    fn source(&self) -> usize {
        self.past.len() - 1
    }

    /// The newest revision; the first is 0.
    fn revision(&self) -> usize {
        self.past[self.source()].len() - 1
    }

    pub(super) fn truth(&self) -> &Truth {
        &self.past[self.source()][self.revision()]
    }

    fn evidence((source, revision): Seen) -> Evidence {
        Evidence::at(SourceId::new(source.to_string()), revision as u64)
    }

    fn event(changes: Vec<Change>, at: Seen) -> Event {
        Event::new(changes, Some(Cursor::new(format!("{}:{}", at.0, at.1))), Self::evidence(at))
    }

    fn all(truth: &Truth) -> Vec<Arc<Instance>> {
        truth.iter().map(|(id, weight)| weighted(id, *weight)).collect()
    }

    /// What a revision of the present source changed.
    fn change(&self, revision: usize) -> Change {
        let (before, after) = (&self.past[self.source()][revision - 1], &self.past[self.source()][revision]);
        let put = after.iter().find(|(id, weight)| before.get(*id) != Some(weight));
        match put {
            Some((id, weight)) => Change::Upsert(weighted(id, *weight)),
            None => Change::Remove(key(before.keys().find(|id| !after.contains_key(*id)).unwrap())),
        }
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

    fn asked(&self) -> bool {
        self.bench.state.lookups.asked.is_some()
    }

    fn cursor(&self) -> Option<Seen> {
        let (_, cursor) = self.bench.opened.last()?;
        let (source, revision) = cursor.as_ref()?.as_str().split_once(':')?;
        Some((source.parse().unwrap(), revision.parse().unwrap()))
    }

    fn view(&self) -> BTreeMap<String, u32> {
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

    fn faults(&self) -> Vec<Choice> {
        let mut faults = vec![Choice::Wipe(true), Choice::Wipe(false)];
        if self.bench.open {
            faults.extend([
                Choice::Break(ErrorKind::Unavailable),
                Choice::Break(ErrorKind::Compacted),
                Choice::End,
            ]);
            faults.extend((!self.silent).then_some(Choice::Silence));
        }
        if let Some(delivered) = self.delivered() {
            faults.push(Choice::Lie);
            faults.extend((delivered > 1).then_some(Choice::Repeat));
        }
        if self.asked() {
            faults.push(Choice::Fail);
            faults.extend((self.seen.is_none() && self.revision() > 0).then_some(Choice::LookBehind));
        }
        faults.extend(self.bench.suspects.contains("a").then_some(Choice::Refused));
        faults
    }

    fn edits(&self) -> Vec<Choice> {
        let mut edits = vec![Choice::Put("a")];
        edits.extend(self.truth().keys().map(|id| Choice::Delete(id)));
        edits
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
        let listed = self.apply(choice);
        if let (Choice::List | Choice::Next | Choice::Lie, Some((_, at))) = (choice, self.live) {
            self.told = (self.source(), at);
        }
        self.never_wiped(choice, &before, asked, listed.as_ref());
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
    fn step(&self) -> Duration {
        self.bench.until_due(LIFE).max(Duration::from_millis(1))
    }

    /// Lets it happen; what a list that came with it held.
    fn apply(&mut self, choice: &Choice) -> Option<Truth> {
        let now = (self.source(), self.revision());
        let fault = !matches!(
            choice,
            Choice::List
                | Choice::Resume
                | Choice::Compacted
                | Choice::Next
                | Choice::Look
                | Choice::Answer
                | Choice::Tick
                | Choice::Put(_)
                | Choice::Delete(_)
        );
        self.scope.faults -= u8::from(fault);
        self.scope.edits -= u8::from(matches!(choice, Choice::Put(_) | Choice::Delete(_)));
        match choice {
            Choice::List => {
                self.live = Some((self.bench.session(), now.1));
                self.lied = false;
                let truth = self.truth().clone();
                self.bench.event(Self::event(vec![Change::Reset(Self::all(&truth))], now));
                return Some(truth);
            }
            Choice::Resume => {
                let at = self.cursor().expect("a cursor");
                self.live = Some((self.bench.session(), at.1));
                self.bench.event(Self::event(vec![Change::Resumed], at));
            }
            Choice::Compacted => self.bench.fail_with(Error::new(ErrorKind::Compacted, "gone")),
            Choice::Next => {
                let at = self.delivered().expect("a live session") + 1;
                self.live = Some((self.bench.session(), at));
                self.bench.event(Self::event(vec![self.change(at)], (now.0, at)));
            }
            Choice::Look => self.seen = Some(now),
            Choice::LookBehind => self.seen = Some((now.0, now.1 - 1)),
            Choice::Answer | Choice::Fail => {
                let id = self.bench.state.lookups.asked.expect("a lookup").id;
                let seen = self.seen.take().filter(|_| matches!(choice, Choice::Answer));
                let Some(at) = seen else {
                    self.bench
                        .send(Input::Listed { id, answer: Err(Error::new(ErrorKind::Timeout, "late")) });
                    return None;
                };
                let truth = self.past[at.0][at.1].clone();
                let listing = Listing::new(Self::all(&truth), Self::evidence(at));
                self.lied &= at != now;
                self.bench.send(Input::Listed { id, answer: Ok(listing) });
                return Some(truth);
            }
            Choice::Tick => {
                let step = self.step();
                self.bench.jump(step);
                self.bench.send(Input::Tick);
                if let Some(at) = self.delivered().filter(|_| !self.silent) {
                    self.bench.event(Self::event(Vec::new(), (now.0, at)));
                }
            }
            Choice::Put(id) => {
                let mut truth = self.truth().clone();
                *truth.entry(id).or_default() += 1;
                self.past[now.0].push(truth);
            }
            Choice::Delete(id) => {
                let mut truth = self.truth().clone();
                truth.remove(id);
                self.past[now.0].push(truth);
            }
            Choice::Break(kind) => self.bench.fail_with(Error::new(*kind, "broken")),
            Choice::End => self.bench.end(),
            Choice::Silence => self.silent = true,
            Choice::Repeat => {
                let at = self.delivered().expect("a live session") - 1;
                self.bench.event(Self::event(vec![self.change(at)], (now.0, at)));
            }
            Choice::Lie => {
                self.lied = true;
                let at = self.delivered().expect("a live session");
                self.bench.event(Self::event(vec![Change::Reset(Vec::new())], (now.0, at)));
                return Some(Truth::new());
            }
            Choice::Refused => self.bench.send(Input::Failed(key("a"))),
            Choice::Wipe(ends) => {
                self.past.push(vec![Truth::new()]);
                if *ends && self.bench.open {
                    self.bench.end();
                } else if let Some((session, _)) = self.live {
                    // The session goes on with the new data.
                    self.live = Some((session, 0));
                }
            }
        }
        // A session that is gone takes its silence along.
        self.silent &= self.bench.open;
        None
    }

    /// D1: what leaves the view was deleted, or lacked by a list that didn't lack all, or held for long enough.
    fn never_wiped(
        &self,
        choice: &Choice,
        before: &BTreeMap<String, u32>,
        asked: Option<Instant>,
        listed: Option<&Truth>,
    ) {
        let after = self.view();
        let now = self.bench.now.mono;
        let deleted: BTreeSet<_> = match (choice, self.delivered()) {
            (Choice::Next, Some(at)) => match self.change(at) {
                Change::Remove(key) => [key.id.to_string()].into(),
                _ => BTreeSet::new(),
            },
            _ => BTreeSet::new(),
        };
        for id in before.keys().filter(|id| !after.contains_key(*id)) {
            let since = self.held.get(id).copied();
            let over = since.is_some_and(|since| since + secs(30) <= now);
            let agreed = since.zip(asked).is_some_and(|(since, asked)| since + secs(15) <= asked);
            let small = listed.is_some_and(|list| !list.is_empty() && !list.contains_key(id.as_str()));
            let refused = matches!(choice, Choice::Refused) && since.is_some();
            let why = deleted.contains(id) || over || (agreed && listed.is_some()) || small || refused;
            assert!(why, "D1: {id} left the view by {choice:?}, held since {:?}", since.map(|s| now - s));
        }
    }

    /// D3: within a source revisions only grow.
    fn never_goes_back(&mut self) {
        let guard = &self.bench.state.guard;
        let Some((source, revision)) = guard.source().zip(guard.revision()) else { return };
        if let Some((known, reached)) = &self.reached
            && *known == source.as_str()
        {
            assert!(*reached <= revision, "D3: from revision {reached} back to {revision}");
        }
        self.reached = Some((source.as_str().to_owned(), revision));
    }

    /// D5: what isn't held is what the registry held at the revision that the view is said to be of.
    fn is_the_truth_of_its_revision(&self) {
        let Some((source, revision)) = &self.reached else { return };
        if self.lied || self.bench.state.status().loaded != Loaded::Registry {
            return;
        }
        let source: usize = source.parse().unwrap();
        let truth = &self.past[source][usize::try_from(*revision).unwrap()];
        let mut view = self.view();
        view.retain(|id, _| !self.bench.suspects.contains(id));
        let told: BTreeMap<_, _> = truth.iter().map(|(id, weight)| ((*id).to_owned(), *weight)).collect();
        assert_eq!(view, told, "D5: the view is not what the registry held at {:?}", self.reached);
    }

    /// D5: a session goes on where the last one came to, which the view has reached.
    fn resumes_where_it_stands(&mut self) {
        if self.opened == self.bench.opened.len() {
            return;
        }
        self.opened = self.bench.opened.len();
        if let Some(cursor) = self.cursor() {
            assert_eq!(cursor, self.told, "D5: resumed elsewhere than the last session came to");
            let stands = self.reached.as_ref().map(|(source, revision)| (source.as_str(), *revision));
            let (source, revision) = (cursor.0.to_string(), cursor.1 as u64);
            assert!(stands.is_some_and(|s| s.0 == source && s.1 >= revision), "D5: resumed beyond the view");
        }
    }
}
