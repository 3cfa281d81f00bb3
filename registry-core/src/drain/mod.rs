//! The clean exit: announce, deregister, keep serving while the news travels, refuse, finish, leave in time.
//!
//! ```text
//! Running ─> Announce ─> Deregister ─> Propagate ─> Refuse ─> Wait ─> Stop ─> Stopped
//!                │            │            │           │        │       │
//!                └────────────┴────────────┴─ budget spent, or cut short ┴─> Abort ─> Stopped
//! ```
//!
//! The order matters. Deregistering *first* and serving on for a while is what loses no request: consumers learn of
//! the removal with a delay, and until then they still come. Nothing blocks the exit: every stage has a bound, and
//! the whole has one (25 s, which fits the 30 s that Kubernetes grants).

mod in_flight;
mod report;
mod signal;
mod stages;

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

pub(crate) use self::stages::{Exit, run};
pub use self::{
    in_flight::{InFlight, InFlightGuard},
    report::{DrainReport, DrainStage},
    signal::DrainOnSignal,
};
use crate::Error;

/// What the budget must have besides propagation, and what a registry that doesn't answer leaves after it for refusing,
/// waiting and stopping.
const RESERVE: Duration = Duration::from_secs(5);

/// The least time to deregister, which takes from the wait. With announcing, refusing and stopping it fits in
/// [`RESERVE`].
const LEAST_DEREGISTER: Duration = Duration::from_secs(1);

/// A piece of the application's own shutdown, run in the stage it was given for.
pub(crate) type Hook = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// How to leave: the bounds of each stage and of the whole.
///
/// | stage | default | why |
/// |---|---|---|
/// | announce | 0.5 s | best effort; where readers see a status they stop coming even before the removal |
/// | deregister | 3 s, less if the budget is short | a registry that is away must not hold up the exit: its record expires |
/// | propagate | what the registry needs (2 to 5 s) | consumers learn of the removal with a delay |
/// | refuse | 1 s | close listeners, tell peers |
/// | wait | the remainder | requests and background tasks in flight |
/// | stop | 1 s | end the client's own tasks |
/// | all | 25 s | within Kubernetes' 30 s |
#[derive(Clone)]
#[must_use = "a drain does nothing until `Client::drain`"]
pub struct Drain {
    budget: Duration,
    announce: Duration,
    deregister: Duration,
    propagate: Option<Duration>,
    refuse: Duration,
    stop: Duration,
    on_announce: Vec<Hook>,
    on_refuse: Vec<Hook>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            budget: Duration::from_secs(25),
            announce: Duration::from_millis(500),
            deregister: Duration::from_secs(3),
            propagate: None,
            refuse: Duration::from_secs(1),
            stop: Duration::from_secs(1),
            on_announce: Vec::new(),
            on_refuse: Vec::new(),
        }
    }
}

impl Drain {
    /// The default drain.
    pub fn new() -> Self {
        Self::default()
    }

    /// The time for everything; 25 s by default. What is left at its end is dropped and reported.
    pub fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// How long to keep serving after the deregistration; by default what the registry needs.
    pub fn propagate(mut self, propagate: Duration) -> Self {
        self.propagate = Some(propagate);
        self
    }

    /// How long to wait for the registry to confirm the deregistration; 3 s by default. Cut to what leaves the budget
    /// the propagation and 5 s after it, as these keep the requests; but never below 1 s.
    pub fn deregister_within(mut self, within: Duration) -> Self {
        self.deregister = within;
        self
    }

    /// Runs when the drain is announced, at most 0.5 s: for example to set a gRPC health service to not serving.
    pub fn on_announce<F>(mut self, hook: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.on_announce.push(Arc::new(move || Box::pin(hook())));
        self
    }

    /// Runs when new work is to be refused, at most 1 s: for example to close a listener.
    pub fn on_refuse<F>(mut self, hook: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.on_refuse.push(Arc::new(move || Box::pin(hook())));
        self
    }

    /// Checks that the budget leaves 5 s after the propagation of a registry that needs `default`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) saying what the budget must be at least.
    pub(crate) fn check(&self, default: Duration) -> Result<(), Error> {
        let propagate = self.propagate.unwrap_or(default);
        let least = propagate.saturating_add(RESERVE);
        if self.budget < least {
            return Err(Error::invalid(format!(
                "a drain budget of {:?} is too short: propagation takes {propagate:?}, so at least {least:?} are needed",
                self.budget
            )));
        }
        Ok(())
    }

    /// The time to deregister when so much of the budget is left.
    fn deregistration(&self, left: Duration, propagation: Duration) -> Duration {
        let fits = left.saturating_sub(propagation.saturating_add(RESERVE));
        self.deregister.min(fits.max(LEAST_DEREGISTER))
    }

    /// The propagation that fits into the budget.
    fn propagation(&self, default: Duration) -> Duration {
        self.propagate.unwrap_or(default).min(self.budget.saturating_sub(RESERVE))
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("budget", &self.budget)
            .field("announce", &self.announce)
            .field("deregister", &self.deregister)
            .field("propagate", &self.propagate)
            .field("refuse", &self.refuse)
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}
