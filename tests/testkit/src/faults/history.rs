//! What a run has seen, in order, for validators to judge afterwards.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::observation::{Observation, Subject};

/// Entries a history keeps, 500,000: an hour of a fleet that changes all the time.
const LIMIT: usize = 500_000;

/// The observations of one run. Cheap to clone; all clones are one history.
///
/// Samples that say the same as the one before (statuses, truths, views, picks) extend its entry instead of making
/// another, so that a quiet run costs nothing. A history that is full takes no more and says so to every validator:
/// [`compact`](Self::compact) it between the rounds of a long run.
#[derive(Clone, Debug)]
pub struct History(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    /// Where the latest entry of each subject is.
    latest: HashMap<Subject, usize>,
    dropped: u64,
    compacted: bool,
}

/// One observation, or several of the same kind that said the same.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// When it was made first, since the start of the history.
    pub at: Duration,
    /// When it was made last. For an answer: when that was asked for, which may be before `at`.
    pub until: Duration,
    /// How often it was made.
    pub count: u64,
    /// The longest pause between two of them.
    pub pause: Duration,
    /// What was seen.
    pub what: Observation,
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

impl History {
    /// An empty history that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Instant::now(), Log::default())
    }

    fn of(start: Instant, log: Log) -> Self {
        Self(Arc::new(Inner { start, log: Mutex::new(log) }))
    }

    /// The time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.offset(Instant::now())
    }

    /// An instant as the time since the start; zero for earlier ones.
    #[must_use]
    pub fn offset(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.0.start)
    }

    /// Takes an observation that was made now.
    pub fn record(&self, what: Observation) {
        self.record_at(self.now(), what);
    }

    /// Takes an observation that was made at `at`; for histories written by hand, and for what is learnt late.
    pub fn record_at(&self, at: Duration, what: Observation) {
        self.record_span(at, at, what);
    }

    /// Takes an answer that came at `at` to a question of `asked`: a second one that says the same proves no more
    /// than that it was so when it was asked.
    pub fn record_answer(&self, asked: Duration, at: Duration, what: Observation) {
        self.record_span(at, asked, what);
    }

    fn record_span(&self, at: Duration, until: Duration, what: Observation) {
        let mut log = self.log();
        let subject = what.subject();
        let latest = log.latest.get(&subject).copied();
        if let Some(entry) = latest.and_then(|index| log.entries.get_mut(index))
            && entry.what.absorb(&what)
        {
            entry.pause = entry.pause.max(until.saturating_sub(entry.until));
            entry.until = entry.until.max(until);
            entry.count += 1;
            return;
        }
        if log.entries.len() >= LIMIT {
            log.dropped += 1;
            return;
        }
        let index = log.entries.len();
        log.latest.insert(subject, index);
        log.entries.push(Entry { at, until, count: 1, pause: Duration::ZERO, what });
    }

    /// Notes something for the reader of a report.
    pub fn mark(&self, text: impl AsRef<str>) {
        self.record(Observation::Mark(text.as_ref().into()));
    }

    /// From now on the registry can't be reached by who is under test.
    pub fn outage(&self, text: impl AsRef<str>) {
        self.record(Observation::Outage(text.as_ref().into()));
    }

    /// An outage is being ended: from now on somebody may get through before it is [`usable`](Self::usable) for all.
    pub fn ending(&self, text: impl AsRef<str>) {
        self.record(Observation::Ending(text.as_ref().into()));
    }

    /// From now on it can, and it works.
    pub fn usable(&self, text: impl AsRef<str>) {
        self.record(Observation::Usable(text.as_ref().into()));
    }

    /// All entries, in the order in which they began. They share their contents.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self.log().entries.clone();
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.log().entries.len()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many observations were lost as the history was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.log().dropped
    }

    /// What was seen between two moments, as a history that doesn't grow; offsets stay. What lasted longer is cut.
    #[must_use]
    pub fn between(&self, from: Duration, to: Duration) -> Self {
        let mut entries = self.entries();
        entries.retain_mut(|entry| {
            let overlaps = entry.until.max(entry.at) >= from && entry.at <= to;
            entry.at = entry.at.max(from).min(to);
            entry.until = entry.until.min(to);
            overlaps
        });
        let Log { dropped, compacted, .. } = *self.log();
        Self::of(self.0.start, Log { entries, latest: HashMap::new(), dropped, compacted })
    }

    /// What was seen until `to`; see [`between`](Self::between).
    #[must_use]
    pub fn until(&self, to: Duration) -> Self {
        self.between(Duration::ZERO, to)
    }

    /// Forgets all but the latest entry of each subject (a registration's status, its last loss or recovery, what is
    /// wanted, the truth, a reader's view), and makes room for more. What was lost to a full history stays counted.
    pub fn compact(&self) {
        let mut log = self.log();
        let mut keep: Vec<usize> = log.latest.values().copied().collect();
        keep.sort_unstable();
        let entries: Vec<Entry> = keep.into_iter().map(|index| log.entries[index].clone()).collect();
        log.latest = entries.iter().enumerate().map(|(index, entry)| (entry.what.subject(), index)).collect();
        log.entries = entries;
        log.compacted = true;
    }

    /// Whether something was forgotten: what is first may have begun before.
    #[must_use]
    pub fn is_compacted(&self) -> bool {
        self.log().compacted
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
