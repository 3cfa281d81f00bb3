//! The registry inside the process: for tests, for single-process programs, and as the oracle of the core's own
//! suites.
//!
//! A [`MemoryRegistry`] is a value: clones share one store, two `new()` share nothing. It keeps what the contracts
//! in [`backend`](crate::backend) promise to the letter: a lease that is not renewed ends exactly at its time to
//! live on tokio's clock (also a paused one), each change is one revision, a watch resumes from its cursor while
//! the history holds. No task runs in the background: every call first sweeps what has expired, and an open watch
//! sleeps until the next expiry.
//!
//! All calls may be dropped at any time: each takes effect at one instant, wholly or not at all.
//!
//! [`MemoryRegistry::faults`] makes it misbehave on command: outages, lost data, empty pushes, lost answers.
//!
//! ```
//! use registry_core::memory::MemoryRegistry;
//!
//! let memory = MemoryRegistry::new();
//! let shared = memory.clone();
//! assert_eq!(memory.source(), shared.source());
//! assert!(memory.backend().registry.is_some());
//! ```

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::watch as channel, time::Instant};

use self::store::State;
use crate::{
    Error,
    backend::{Backend, Capabilities, SourceId},
    model::{Instance, ServiceName},
};

mod call;
mod connect;
mod discovery;
mod fault;
mod history;
mod lease;
mod registry;
mod session;
mod store;
mod watch;

#[cfg(test)]
mod tests;

pub use call::{Call, Operation};
pub use connect::MemoryConnector;
pub use fault::Faults;

/// The short name in errors and labels.
const NAME: &str = "memory";

/// A registry that lives in the process; clones share one store.
#[derive(Clone)]
pub struct MemoryRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Counts changes of data and faults; open watches wait for the next.
    changed: channel::Sender<u64>,
    /// Counts calls; only [`MemoryRegistry::until`] waits for the next.
    called: channel::Sender<u64>,
}

impl MemoryRegistry {
    /// An empty registry of its own.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared {
            state: Mutex::new(State::new()),
            changed: channel::Sender::new(0),
            called: channel::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// All parts over this store: what a client is built from.
    #[must_use]
    pub fn backend(&self) -> Backend {
        // Here expiry is exact, so the registry never keeps a record longer than it was asked to.
        let capabilities = Capabilities { grace: 1.0, ..Capabilities::session() };
        Backend::new(NAME, capabilities)
            .with_registry(Arc::new(self.clone()))
            .with_discovery(Arc::new(self.clone()))
            .with_catalogue(Arc::new(self.clone()))
    }

    /// The handle that makes this registry misbehave.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(self.clone())
    }

    /// The incarnation of the data; a new one after [`Faults::lose_data`].
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.with(|state, _| state.source.clone())
    }

    /// The revision: how many changes this life of the data has seen.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.with(|state, _| state.revision)
    }

    /// How many leases are alive.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.with(|state, _| state.leases.len())
    }

    /// How many watch sessions on instances are open; one opens when its stream is first polled.
    #[must_use]
    pub fn watch_count(&self) -> usize {
        self.with(|state, _| state.sessions.len())
    }

    /// The instances of a service that really stand in the store, sorted by id, whatever the faults show others.
    #[must_use]
    pub fn snapshot_of(&self, service: impl AsRef<str>) -> Vec<Arc<Instance>> {
        let Ok(service) = ServiceName::foreign(service) else { return Vec::new() };
        self.with(|state, _| state.listing(&service).0)
    }

    /// How often an operation was called; a watch counts when its stream is first polled.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.with(|state, _| state.faults.calls(operation))
    }

    /// The latest 4,096 calls with the instant each began, oldest first.
    #[must_use]
    pub fn call_log(&self) -> Vec<Call> {
        self.with(|state, _| state.faults.log())
    }

    /// Waits until `condition` holds, looking again after each change, each call and each expiry.
    ///
    /// # Cancel safety
    /// Only looks; may be dropped at any time.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool + Send) {
        let (mut changed, mut called) = (self.subscribe(), self.shared.called.subscribe());
        while !condition(self) {
            let expiry = self.with(|state, _| state.next_expiry());
            tokio::select! {
                _ = changed.changed() => {}
                _ = called.changed() => {}
                () = sleep_until(expiry) => {}
            }
        }
    }

    /// Runs `act` on the store after what has expired is gone, and wakes the watches if anything changed.
    fn with<T>(&self, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        state.sweep(now);
        let result = act(&mut state, now);
        let version = state.version;
        drop(state);
        // A read must not wake watches: each of them reads when woken, and they would wake one another for ever.
        self.shared.changed.send_if_modified(|seen| {
            let newer = *seen < version;
            *seen = version.max(*seen);
            newer
        });
        result
    }

    fn subscribe(&self) -> channel::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// What every call passes before it acts: it is counted, delayed, held and refused as the faults say.
    async fn enter(&self, operation: Operation) -> Result<(), Error> {
        let mut changed = self.subscribe();
        let delay = self.with(|state, now| state.faults.note(operation, now));
        self.shared.called.send_modify(|calls| *calls += 1);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        while self.with(|state, _| state.faults.holds(operation)) {
            // The sender lives in `self`, so this never fails.
            let _ = changed.changed().await;
        }
        match self.with(|state, _| state.faults.refusal(operation)) {
            Some(refusal) => Err(context(refusal, operation)),
            None => Ok(()),
        }
    }

    /// What every call passes after it acted: its answer may come late or never.
    async fn leave(&self, operation: Operation) -> Result<(), Error> {
        let (late, lost) = self.with(|state, _| state.faults.answer(operation));
        if !late.is_zero() {
            tokio::time::sleep(late).await;
        }
        match lost {
            Some(lost) => Err(context(lost, operation)),
            None => Ok(()),
        }
    }
}

fn context(error: Error, operation: Operation) -> Error {
    error.with_context(NAME, operation.as_str())
}

/// Sleeps until then, or for ever.
async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

impl Default for MemoryRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with(|state, _| {
            f.debug_struct("MemoryRegistry")
                .field("source", &state.source)
                .field("revision", &state.revision)
                .field("leases", &state.leases.len())
                .field("watches", &state.sessions.len())
                .finish_non_exhaustive()
        })
    }
}
