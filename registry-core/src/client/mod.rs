//! What users hold: register, discover, drain.

mod builder;
mod config;
mod discover;
mod exit;
mod health;
mod probe;
mod ready;
mod register;
mod registration;
mod upstreams;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use futures_core::Stream;
use futures_util::{StreamExt, future::join_all};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::registration::{Shared, WITHDRAW_WITHIN};
pub use self::{
    builder::ClientBuilder,
    config::ClientConfig,
    discover::Discover,
    health::Health,
    register::{RegisterOptions, Start},
    registration::{Registration, RegistrationEvents, RegistryPhase},
    upstreams::Upstreams,
};
use crate::{
    Backend, Clock, Error, ErrorKind, ViewState,
    disk::DiskView,
    drain::{DrainReport, InFlight},
    feed::{Feed, Item},
    keeper::{AliveHook, Cell, ClientEvent, Dedicated, Keeper, KeeperConfig, KeeperParts},
    model::{Incarnation, InstanceKey, ServiceName, Target},
    observer::Stage,
    reflector::{Reflector, WeakReflector},
};

/// How long `close` waits for the client's own tasks to end.
const STOP_WITHIN: Duration = Duration::from_secs(1);
/// Longer waits are cut to this: no clock overflows, and nobody notices.
pub(crate) const FAR: Duration = Duration::from_secs(365 * 86_400);

/// One registry, and everything this process registers in it and finds through it.
///
/// Cheap to clone; clones, registrations and upstreams all keep it alive. When the last of them is dropped it closes
/// in the background, as [`close`](Self::close) would, and logs that. [`drain`](Self::drain) is the clean exit.
///
/// ```
/// # use registry_core::{Client, Instance, MemoryRegistry};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), registry_core::Error> {
/// let client = Client::from_backend(MemoryRegistry::new().backend()).await?;
/// let registration = client.register(Instance::new("orders", "http://10.0.0.7:8080")?).await?;
/// let orders = client.discover("orders").await?;
/// orders.ready(1).await?;
/// assert_eq!(orders.pick()?.endpoint().port(), 8080);
/// registration.deregister().await;
/// client.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

/// Whether a client is running, draining or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Lifecycle {
    /// It registers and discovers.
    Running,
    /// It is leaving: new registrations and updates are refused.
    Draining,
    /// It has left.
    Closed,
}

pub(crate) struct Inner {
    backend: Backend,
    config: ClientConfig,
    clock: Arc<dyn Clock>,
    alive: Option<AliveHook>,
    runtime: Handle,
    /// The keepers' own thread, if they have one.
    dedicated: Option<Dedicated>,
    keepers: Mutex<HashMap<Duration, Arc<Keeper>>>,
    registered: Mutex<HashMap<InstanceKey, Weak<Shared>>>,
    /// Dropped registrations whose withdrawal isn't over.
    leaving: Mutex<Vec<Arc<Cell>>>,
    reflectors: Mutex<HashMap<Target, WeakReflector>>,
    relists: Arc<Semaphore>,
    /// Of its subsets: one per client, so that its views of a target agree, and not the one of others.
    seed: u64,
    disk: Option<DiskView>,
    events: Arc<Feed<ClientEvent>>,
    callbacks: Arc<Semaphore>,
    in_flight: InFlight,
    /// The client's own tasks, and what ends them.
    tasks: TaskTracker,
    stop: CancellationToken,
    lifecycle: AtomicU8,
    /// Cuts a drain short.
    cut: CancellationToken,
    drained: watch::Sender<Option<DrainReport>>,
    /// One drain at a time; held across the whole of it, which is its purpose.
    draining: tokio::sync::Mutex<()>,
    closing: tokio::sync::OnceCell<()>,
    /// Whether a registration that is gone by now was ever visible.
    ever_live: AtomicBool,
}

impl Client {
    /// Starts a builder.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::new()
    }

    /// A client over the parts of one registry, with the default configuration.
    ///
    /// # Errors
    /// As for [`ClientBuilder::build`].
    pub async fn from_backend(backend: Backend) -> Result<Self, Error> {
        Self::builder().backend(backend).build().await
    }

    /// What happens to all registrations: one item for each transition, listing everything it hit. A reader that
    /// falls 1,024 behind loses the oldest; the states can always be read. Ends with the client.
    pub fn events(&self) -> impl Stream<Item = ClientEvent> + Send + Unpin + use<> {
        let reader = self.inner.events.subscribe();
        Box::pin(reader.filter_map(async |item| match item {
            Item::Event(event) => Some(event),
            Item::Lagged(missed) => {
                tracing::warn!(missed, "a reader of the client's events is too slow");
                None
            }
        }))
    }

    /// The names of all services that have instances, sorted.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if this registry has no catalogue; else what kept it from answering.
    pub async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        let name = self.inner.backend.name;
        let Some(catalogue) = &self.inner.backend.catalogue else {
            return Err(Error::invalid(format!("{name} can't list services")));
        };
        let limit = self.inner.config.initial_timeout;
        timeout(limit, catalogue.services()).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format!("no list of services after {limit:?}"))
                .with_context(name, "services"))
        })
    }

    /// How this client is, for a readiness probe. Reads memory only.
    #[must_use]
    pub fn health(&self) -> Health {
        let registrations = self.registrations();
        Health {
            never_live: registrations.iter().filter(|r| !r.was_live()).count(),
            registrations: registrations.iter().map(|r| (r.key(), r.phase())).collect(),
            services: worst(self.inner.watched().iter()),
            lifecycle: self.lifecycle(),
        }
    }

    /// Whether it is running, draining or closed.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        match self.inner.lifecycle.load(Ordering::SeqCst) {
            0 => Lifecycle::Running,
            1 => Lifecycle::Draining,
            _ => Lifecycle::Closed,
        }
    }

    /// The requests and background tasks that a drain waits for.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.inner.in_flight.clone()
    }

    fn registrations(&self) -> Vec<Registration> {
        let registered: Vec<_> = self.inner.registered().values().filter_map(Weak::upgrade).collect();
        registered.into_iter().map(Registration::of).collect()
    }
}

impl Inner {
    fn registered(&self) -> MutexGuard<'_, HashMap<InstanceKey, Weak<Shared>>> {
        lock(&self.registered)
    }

    /// Remembers a withdrawal that nobody waits for, so that the end of the client does.
    fn leave(&self, cell: Arc<Cell>) {
        let mut leaving = lock(&self.leaving);
        leaving.retain(|cell| !cell.has_ended());
        leaving.push(cell);
    }

    fn check_running(&self) -> Result<(), Error> {
        match self.lifecycle.load(Ordering::SeqCst) {
            0 => Ok(()),
            1 => Err(Error::new(ErrorKind::Closed, "the client is draining")),
            _ => Err(Error::new(ErrorKind::Closed, "the client is closed")),
        }
    }

    /// The keeper of all registrations with this time to live.
    fn keeper(&self, ttl: Duration) -> Result<Arc<Keeper>, Error> {
        let Some(registry) = &self.backend.registry else {
            return Err(Error::invalid(format!(
                "{} can only be read: it takes no registrations",
                self.backend.name
            )));
        };
        let mut keepers = lock(&self.keepers);
        let keeper = keepers.entry(ttl).or_insert_with(|| {
            let config = KeeperConfig {
                ttl,
                // One per keeper: what another one of ours withdraws late must not hit what this one publishes.
                incarnation: Incarnation::generate(),
                audit_every: self.config.audit,
                lasting_loss: self.config.lasting_loss,
                seed: fastrand::u64(..),
            };
            let place = self.dedicated.as_ref().map(Dedicated::place);
            let (runtime, thread) = place.map_or((self.runtime.clone(), None), |(r, t)| (r, Some(t)));
            let parts = KeeperParts {
                name: self.backend.name,
                registry: Arc::clone(registry),
                capabilities: self.backend.capabilities.clone(),
                clock: Arc::clone(&self.clock),
                alive: self.alive.clone(),
                events: Arc::clone(&self.events),
                tasks: self.tasks.clone(),
                runtime,
                thread,
                stop: self.stop.clone(),
            };
            Arc::new(Keeper::spawn(config, parts))
        });
        Ok(Arc::clone(keeper))
    }

    /// Where the user's callbacks run.
    fn stage(&self) -> Stage {
        Stage {
            runtime: self.runtime.clone(),
            at_once: Arc::clone(&self.callbacks),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        }
    }

    /// Waits for the withdrawals of registrations that were dropped.
    async fn left(&self) {
        let leaving = lock(&self.leaving).clone();
        let over = join_all(leaving.iter().map(|cell| cell.wait_for(|_| false)));
        if timeout(WITHDRAW_WITHIN, over).await.is_err() {
            tracing::debug!("some withdrawals are unconfirmed; their records will expire");
        }
    }

    /// Ends the client's own tasks and streams.
    async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.events.close();
        self.tasks.wait().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.in_flight.abort();
        let stop = self.stop.clone();
        if stop.is_cancelled() {
            return;
        }
        let leaving = std::mem::take(&mut *lock(&self.leaving));
        let keepers = std::mem::take(&mut *lock(&self.keepers));
        let dedicated = self.dedicated.take();
        if leaving.iter().all(|cell| cell.has_ended()) {
            stop.cancel();
            return;
        }
        tracing::info!(registrations = leaving.len(), "the last handle of a client was dropped; closing it");
        // Ends by itself: the withdrawals are bounded.
        self.runtime.spawn(async move {
            let ended = join_all(leaving.iter().map(|cell| cell.wait_for(|_| false)));
            drop(timeout(WITHDRAW_WITHIN, ended).await);
            drop(keepers);
            stop.cancel();
            drop(dedicated);
        });
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("registry", &self.inner.backend.name)
            .field("lifecycle", &self.lifecycle())
            .finish_non_exhaustive()
    }
}

/// Of targets that ask for one service in several ways, the one that isn't fresh counts.
fn worst<'a>(reflectors: impl Iterator<Item = &'a Reflector>) -> BTreeMap<ServiceName, ViewState> {
    let mut services = BTreeMap::new();
    for reflector in reflectors {
        let state = reflector.freshness().state;
        let known = services.entry(reflector.target().service().clone()).or_insert(state);
        if *known == ViewState::Fresh {
            *known = state;
        }
    }
    services
}

/// What a wait that ended without success says.
fn timed_out(what: &str, key: &InstanceKey, within: Duration, cause: Option<Error>) -> Error {
    let error =
        Error::new(ErrorKind::Timeout, format!("the {what} of {key} was not confirmed within {within:?}"));
    match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
