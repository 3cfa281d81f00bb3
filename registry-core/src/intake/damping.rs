//! Damping: an instance that comes and goes is published twice per epoch.
//!
//! After the stabilizer of Finagle (`LoadBalancerFactory`, "stabilized addresses"), but per instance, and never in the
//! way of news: only the *return* to a state that the instance was in before counts as flapping. An appearance, a
//! removal, and each step of a life (starting, serving, draining, gone) are published at once.
//!
//! And never so that a view lacks who serves: the return to serving isn't held back, but the return to anything else is,
//! until nothing of the instance was published for an epoch. So between two returns from serving there is an epoch, and
//! in each there are two publications: one such return, and the one to serving.

use std::{
    collections::{BTreeSet, HashMap},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Error,
    client::FAR,
    model::{Instance, InstanceKey, Status},
    view::ViewChange,
};

/// Whether instances that flap (appear and disappear, or go back and forth between statuses) are held still.
///
/// What an instance does for the first time is never delayed: an appearance, a removal, a status it hasn't had within the
/// epoch. Nor is its return to [`Serving`](Status::Serving) while the view shows anything else, or nothing. All other
/// returns wait until nothing of it was published for an epoch; then its newest state is. So of an instance that flaps
/// two changes are published per epoch, and at first one more if it wasn't there before. An instance is forgiven once it
/// hasn't moved for an epoch.
///
/// As text: `off`, `on` (10 s) or the epoch, such as `10s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Damping {
    /// Every change is published. The default: a view then follows its registry at once.
    #[default]
    Off,
    /// With an epoch of this length; `on` is 10 s, as in Finagle.
    Epoch(Duration),
}

impl Damping {
    /// What [`FromStr`] takes.
    pub(crate) const EXPECTS: &str = "off, on (10s) or a duration such as 10s";

    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for an epoch of nothing, or beyond a year.
    pub(crate) fn check(self) -> Result<(), Error> {
        match self {
            Self::Epoch(epoch) if epoch.is_zero() || epoch > FAR => {
                Err(Error::invalid(format!("damping is {epoch:?}; it must be above 0 and at most one year")))
            }
            Self::Off | Self::Epoch(_) => Ok(()),
        }
    }

    pub(super) fn epoch(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Epoch(epoch) => Some(epoch),
        }
    }
}

impl FromStr for Damping {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) that says what is valid.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::Epoch(Duration::from_secs(10))),
            _ => humantime::parse_duration(text)
                .map(Self::Epoch)
                .map_err(|_| Error::invalid(format!("damping is {}", Self::EXPECTS))),
        }
    }
}

/// How long after its epoch what is held back is published: whatever comes in the instant in which the epoch ends still
/// counts, or else an instance that flaps in step with it would leave and return at once, which is an update that says
/// nothing. As fine as tokio's timers are.
const AFTER: Duration = Duration::from_millis(1);

/// The damping of one view.
#[derive(Debug)]
pub(super) struct Damper {
    epoch: Duration,
    /// What is published.
    shown: HashMap<InstanceKey, Arc<Instance>>,
    /// Instances that moved lately.
    tracks: HashMap<InstanceKey, Track>,
    /// When what is held back may be published.
    due: BTreeSet<(Instant, InstanceKey)>,
    /// When `tracks` was last tidied; nothing was taken yet if there is none.
    tidied: Option<Instant>,
}

/// One instance that moved lately.
#[derive(Debug)]
struct Track {
    /// One bit for each state it has been in.
    visited: u8,
    moved: Instant,
    /// When it was published last.
    published: Option<Instant>,
    /// Its newest state, if that is held back.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    /// `None` if it is gone.
    newest: Option<Arc<Instance>>,
    due: Instant,
}

impl Track {
    fn new(now: Instant) -> Self {
        Self { visited: 0, moved: now, published: None, held: None }
    }

    fn is_over(&self, epoch: Duration, now: Instant) -> bool {
        self.held.is_none() && now - self.moved >= epoch
    }
}

impl Damper {
    pub(super) fn new(epoch: Duration) -> Self {
        Self { epoch, shown: HashMap::new(), tracks: HashMap::new(), due: BTreeSet::new(), tidied: None }
    }

    pub(super) fn take(&mut self, change: &ViewChange, now: Instant) -> ViewChange {
        let is_first = self.tidied.is_none();
        let mut out = ViewChange {
            suspects: change.suspects.clone(),
            revision: change.revision,
            ..ViewChange::default()
        };
        if is_first || self.tidied.is_some_and(|tidied| now - tidied >= self.epoch) {
            self.tracks.retain(|_, track| !track.is_over(self.epoch, now));
            self.tidied = Some(now);
        }
        for key in &change.removals {
            if self.moves(key, None, now) {
                self.show(key.clone(), None, &mut out);
            }
        }
        for instance in &change.upserts {
            let key = instance.key();
            // Whatever the first list has was there before, for all we know.
            if is_first || self.moves(&key, Some(instance), now) {
                self.show(key, Some(Arc::clone(instance)), &mut out);
            }
        }
        out
    }

    pub(super) fn due(&mut self, now: Instant) -> Option<ViewChange> {
        let mut keys = Vec::new();
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            keys.extend(self.due.pop_first().map(|(_, key)| key));
        }
        self.release(keys, Some(now))
    }

    pub(super) fn rest(&mut self) -> Option<ViewChange> {
        let keys = std::mem::take(&mut self.due).into_iter().map(|(_, key)| key).collect();
        self.release(keys, None)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    #[cfg(test)]
    pub(super) fn tracked(&self) -> usize {
        self.tracks.len()
    }

    /// Takes note of what an instance does; whether to publish that now.
    fn moves(&mut self, key: &InstanceKey, newest: Option<&Arc<Instance>>, now: Instant) -> bool {
        let shown = self.shown.get(key);
        if self.tracks.get(key).is_some_and(|track| track.is_over(self.epoch, now)) {
            self.tracks.remove(key);
        }
        let held = self.tracks.get(key).and_then(|track| track.held.as_ref());
        let latest = held.map_or(shown, |held| held.newest.as_ref());
        let (before, after) = (state(latest), state(newest));
        // That it wasn't there before it appeared is no state to return to.
        let visited = if latest.is_some() { before } else { 0 };
        if before == after && held.is_none() {
            return newest.is_some();
        }
        let track = self.tracks.entry(key.clone()).or_insert_with(|| Track { visited, ..Track::new(now) });
        let comes_back = after == SERVING && state(shown) != SERVING;
        let is_return = track.visited & after != 0 && !comes_back;
        if before != after {
            (track.visited, track.moved) = (track.visited | after, now);
        }
        if let Some(held) = track.held.take() {
            self.due.remove(&(held.due, key.clone()));
            if is_same(shown, newest) {
                // Nobody was told that it was away: no news, and no publication either.
                return false;
            }
        }
        match track.published.map(|published| published + self.epoch).filter(|free| *free > now) {
            Some(free) if is_return => {
                if !is_same(shown, newest) {
                    let due = free + AFTER;
                    track.held = Some(Held { newest: newest.cloned(), due });
                    self.due.insert((due, key.clone()));
                }
                false
            }
            _ => {
                track.published = Some(now);
                true
            }
        }
    }

    fn release(&mut self, keys: Vec<InstanceKey>, now: Option<Instant>) -> Option<ViewChange> {
        let mut out = ViewChange::default();
        for key in keys {
            let Some(track) = self.tracks.get_mut(&key) else { continue };
            let Some(held) = track.held.take() else { continue };
            track.published = now.or(track.published);
            self.show(key, held.newest, &mut out);
        }
        (!out.upserts.is_empty() || !out.removals.is_empty()).then_some(out)
    }

    fn show(&mut self, key: InstanceKey, newest: Option<Arc<Instance>>, out: &mut ViewChange) {
        match newest {
            Some(instance) => {
                out.upserts.push(Arc::clone(&instance));
                self.shown.insert(key, instance);
            }
            None => {
                self.shown.remove(&key);
                out.removals.push(key);
            }
        }
    }
}

/// The bit of an instance that serves.
const SERVING: u8 = 4;

/// The bit of the state an instance is in.
fn state(instance: Option<&Arc<Instance>>) -> u8 {
    match instance.map(|instance| instance.status()) {
        None => 1,
        Some(Status::Starting) => 2,
        Some(Status::Serving) => SERVING,
        Some(Status::Draining) => 8,
        Some(Status::Down) => 16,
    }
}

fn is_same(a: Option<&Arc<Instance>>, b: Option<&Arc<Instance>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.is_same_record(b),
        (None, Some(_)) | (Some(_), None) => false,
    }
}
