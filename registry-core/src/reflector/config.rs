//! What can be chosen about a reflector, and the reasons for the defaults.

use std::time::Duration;

/// Most instances of one view; further ones are rejected and counted, so that a broken or hostile registry can't
/// exhaust the memory of its consumers.
pub(crate) const MAX_INSTANCES: usize = 50_000;

/// What becomes of instances that vanish from a list in a suspicious way: all of them, or more than half and at
/// least three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShrinkGuard {
    /// Believe every list. One broken answer can empty the view.
    Off,
    /// Keep serving them as suspects this long, unless a second opinion after half of it agrees that they are
    /// gone. The default, 30 s. Where lists are polled, at least two intervals, so that a second answer fits in.
    Hold(Duration),
    /// Keep them until they return, are deleted one by one, or refuse a connection.
    KeepLast,
}

impl Default for ShrinkGuard {
    fn default() -> Self {
        Self::Hold(Duration::from_secs(30))
    }
}

/// What becomes of a view that is older than `max_staleness`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Expiry {
    /// It still serves, flagged. The default: old addresses beat none.
    #[default]
    Serve,
    /// It serves no more.
    Refuse,
}

/// The policies of one reflector.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReflectorConfig {
    /// How long to wait for the registry before a view from disk is served.
    pub(crate) initial_timeout: Duration,
    /// Age at which the view counts as expired; `None` for never.
    pub(crate) max_staleness: Option<Duration>,
    /// What becomes of an expired view.
    pub(crate) expiry: Expiry,
    /// What becomes of instances that vanish suspiciously.
    pub(crate) shrink_guard: ShrinkGuard,
    /// Mean interval of the safety relist, drawn ± 50 %: servers have lost watch events (etcd#18089, #19179).
    pub(crate) relist_every: Duration,
    /// How long the task outlives its last user, so that a short-lived user doesn't cost a list each time.
    pub(crate) linger: Duration,
    /// The fleet's time to live: others need up to twice that to return after the registry lost its data.
    pub(crate) ttl: Duration,
    /// How long an opened session may take to its first event.
    pub(crate) open_within: Duration,
    /// Fixes all random draws, for tests.
    pub(crate) seed: Option<u64>,
}

impl Default for ReflectorConfig {
    fn default() -> Self {
        Self {
            initial_timeout: Duration::from_secs(5),
            max_staleness: None,
            expiry: Expiry::default(),
            shrink_guard: ShrinkGuard::default(),
            relist_every: Duration::from_secs(600),
            linger: Duration::from_secs(30),
            ttl: Duration::from_secs(15),
            open_within: Duration::from_secs(5),
            seed: None,
        }
    }
}
