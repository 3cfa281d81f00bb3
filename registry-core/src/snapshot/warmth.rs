//! Who is warming up, and since when.

use std::{collections::VecDeque, str::FromStr, time::Duration};

use tokio::time::Instant;

use crate::{
    Error,
    client::FAR,
    model::{InstanceKey, KeyMap},
};

/// Whether an instance that is new to this client gets its share of requests little by little: with caches that are
/// cold and code that isn't compiled yet, its full share would be slow at first, or too much.
///
/// Within the window, its share is the elapsed part of the window, at least a tenth, as by default in Envoy. The time
/// counts from when *this client* first saw it serve, on its own monotonic clock; nobody's wall clock matters. What is
/// there when the client arrives counts as warm, and so does whoever is merely registered anew, restored or no longer
/// in doubt; a restarted process doesn't. If all are new, all are picked alike.
///
/// A request with a hash key goes where it belongs at once: policies that hash ignore this.
///
/// As text: `off`, `on` (30 s) or the window, such as `30s`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SlowStart {
    /// Everybody gets a full share at once. The default.
    #[default]
    Off,
    /// With a window of this length; `on` is 30 s.
    Window(Duration),
}

impl SlowStart {
    /// What [`FromStr`] takes.
    pub(crate) const EXPECTS: &str = "off, on (30s) or a duration such as 30s";

    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a window of nothing, or beyond a year.
    pub(crate) fn check(self) -> Result<(), Error> {
        match self {
            Self::Window(window) if window.is_zero() || window > FAR => Err(Error::invalid(format!(
                "slow_start is {window:?}; it must be above 0 and at most one year"
            ))),
            Self::Off | Self::Window(_) => Ok(()),
        }
    }

    pub(crate) fn window(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Window(window) => Some(window),
        }
    }
}

impl FromStr for SlowStart {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) that says what is valid.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::Window(Duration::from_secs(30))),
            _ => humantime::parse_duration(text)
                .map(Self::Window)
                .map_err(|_| Error::invalid(format!("slow_start is {}", Self::EXPECTS))),
        }
    }
}

/// The instances that this client first saw serving less than a window ago.
#[derive(Debug)]
pub(crate) struct Warmth {
    window: Duration,
    since: KeyMap<Instant>,
    /// The same in order, and what has been overtaken, though never at the front.
    queue: VecDeque<(Instant, InstanceKey)>,
}

impl Warmth {
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, since: KeyMap::default(), queue: VecDeque::new() }
    }

    pub(super) fn window(&self) -> Duration {
        self.window
    }

    pub(super) fn since(&self, key: &InstanceKey) -> Option<Instant> {
        self.since.get(key).copied()
    }

    pub(super) fn begin(&mut self, key: &InstanceKey, now: Instant) {
        self.since.insert(key.clone(), now);
        self.queue.push_back((now, key.clone()));
        self.skip_overtaken();
    }

    pub(super) fn forget(&mut self, key: &InstanceKey) {
        self.since.remove(key);
        self.skip_overtaken();
    }

    fn skip_overtaken(&mut self) {
        while self.queue.front().is_some_and(|(since, key)| self.since.get(key) != Some(since)) {
            self.queue.pop_front();
        }
    }

    /// Those whose time is over.
    pub(super) fn cool(&mut self, now: Instant) -> Vec<InstanceKey> {
        let mut warm = Vec::new();
        while self.deadline().is_some_and(|end| end <= now) {
            let Some((_, key)) = self.queue.pop_front() else { break };
            self.since.remove(&key);
            warm.push(key);
            self.skip_overtaken();
        }
        warm
    }

    /// When the time of the first one is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(since, _)| *since + self.window)
    }
}
