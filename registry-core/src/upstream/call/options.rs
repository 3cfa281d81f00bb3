//! How a call is made.

use std::{fmt, sync::Arc, time::Duration};

use crate::{balance::PickContext, model::InstanceKey};

/// Most attempts of one call, the first included.
const ATTEMPTS: u32 = 3;
/// Longest time a call waits for a first usable instance.
const MAX_WAIT: Duration = Duration::from_secs(3);

/// How a call is made.
///
/// | option | default | why |
/// |---|---|---|
/// | [`attempts`](Self::attempts) | 3 | two more find a healthy instance, unless nearly all are ill |
/// | [`wait`](Self::wait) | 0 | failing fast keeps callers from piling up |
/// | [`per_try_timeout`](Self::per_try_timeout) | none | only the caller knows what is long: a search, an upload, a long poll |
/// | [`timeout`](Self::timeout) | none | as above; most callers have one around the call already |
/// | [`idempotent`](Self::idempotent) | no | a request without an answer may have been processed |
/// | [`hedge_after`](Self::hedge_after) | never | it adds load; a good value is the 95th percentile of the latency |
///
/// An instance that hangs (a stopped process, a lost packet) answers nothing, not even an error. So a call survives it only
/// with `per_try_timeout` or `hedge_after`, and with `idempotent`:
///
/// ```
/// # use std::time::Duration;
/// # use registry_core::CallOptions;
/// let read = CallOptions::new()
///     .idempotent(true)
///     .per_try_timeout(Duration::from_millis(500))
///     .timeout(Duration::from_secs(2));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct CallOptions {
    pub(super) attempts: u32,
    pub(super) wait: Duration,
    pub(super) per_try_timeout: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) idempotent: bool,
    pub(super) hedge_after: Option<Duration>,
    pub(super) hedges: u32,
    pub(super) usable_only: bool,
    hedge_if: Option<Condition>,
    hash_key: Option<u64>,
    zone: Option<String>,
}

/// Whether a hedge may begin, asked when it is due.
#[derive(Clone)]
struct Condition(Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condition")
    }
}

impl Default for CallOptions {
    fn default() -> Self {
        Self {
            attempts: ATTEMPTS,
            wait: Duration::ZERO,
            per_try_timeout: None,
            timeout: None,
            idempotent: false,
            hedge_after: None,
            hedges: 1,
            usable_only: false,
            hedge_if: None,
            hash_key: None,
            zone: None,
        }
    }
}

impl CallOptions {
    /// Three attempts, no waiting, no timeouts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Most attempts, the first and hedges included; 3 by default, at least 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// How long to wait for an instance that serves if there is none: 0 by default, as failing fast keeps callers
    /// from piling up; at most 3 s. After that whatever there is is tried, unless the call's [`timeout`](Self::timeout) is
    /// over too.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait.min(MAX_WAIT);
        self
    }

    /// How long one attempt may take, until the end of the closure's future; none by default. What takes longer is
    /// dropped and reported as [`Failure::Timeout`](crate::balance::Failure::Timeout); it is repeated on another instance
    /// if the call is [`idempotent`](Self::idempotent).
    pub fn per_try_timeout(mut self, timeout: Duration) -> Self {
        self.per_try_timeout = Some(timeout);
        self
    }

    /// How long the whole call may take, waiting and all attempts included; none by default. At its end attempts in
    /// flight are dropped; one that had at least half of this time is reported as a timeout, a younger one had no
    /// fair chance.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether the request may be processed twice; no by default. It says what to do where the closure can't: after a
    /// timeout, and about [hedges](Self::hedge_after). An error of the closure is repeated if *it* says so.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Starts a second attempt on another instance that serves when the first hasn't ended after `delay`; never by default, and
    /// only if the call is [`idempotent`](Self::idempotent). The first answer wins; the other attempt is dropped and its
    /// instance not blamed, unless it was the one request that tries an [ejected](crate::Ejection) instance. Hedges count as attempts, and as retries in the budget (gRFC A6; Dean and Barroso, The
    /// Tail at Scale).
    pub fn hedge_after(mut self, delay: Duration) -> Self {
        self.hedge_after = Some(delay);
        self
    }

    /// How many hedges may be in flight besides an attempt, each `delay` after the one before; 1 by default.
    pub fn hedges(mut self, hedges: u32) -> Self {
        self.hedges = hedges;
        self
    }

    /// Asked when a hedge is due; if the answer is no, none begins beside the attempts that are under way then. For a
    /// request that can't be sent twice before it was sent once. Further conditions have to hold too.
    pub fn hedge_if(mut self, may_begin: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.hedge_if = Some(Condition(match self.hedge_if.take() {
            None => Arc::new(may_begin),
            Some(Condition(earlier)) => Arc::new(move || earlier() && may_begin()),
        }));
        self
    }

    /// Whether to fail with [`CallError::NoneUsable`](crate::CallError::NoneUsable) rather than to try instances that
    /// drain, start, or say that they are down, where no other is left; no by default, as the view may be wrong about
    /// them. Nor is an [ejected](crate::Ejection) instance usable, except in a panic and by the one request that tries
    /// whether it is well again.
    pub fn usable_only(mut self, usable_only: bool) -> Self {
        self.usable_only = usable_only;
        self
    }

    /// See [`PickContext::hash_key`].
    pub fn hash_key(mut self, key: u64) -> Self {
        self.hash_key = Some(key);
        self
    }

    /// See [`PickContext::zone`].
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    pub(super) fn context<'a>(&'a self, tried: &'a [InstanceKey]) -> PickContext<'a> {
        let mut context = PickContext::new().tried(tried);
        if let Some(key) = self.hash_key {
            context = context.hash_key(key);
        }
        if let Some(zone) = &self.zone {
            context = context.zone(zone);
        }
        context
    }

    /// Whether slow attempts get hedges: there is a delay, at least one hedge, and the call is idempotent.
    #[must_use]
    pub fn is_hedged(&self) -> bool {
        self.hedge_delay().is_some()
    }

    /// Whether a hedge that is due may begin.
    pub(super) fn may_hedge(&self) -> bool {
        self.hedge_if.as_ref().is_none_or(|condition| (condition.0)())
    }

    /// After which time without an end another attempt joins, if any may.
    pub(super) fn hedge_delay(&self) -> Option<Duration> {
        self.hedge_after.filter(|_| self.idempotent && self.hedges > 0)
    }
}
