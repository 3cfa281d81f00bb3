//! What users hold: register, discover, drain.

mod builder;
mod config;
mod discover;
mod health;
mod probe;
mod registration;

use std::{
    collections::HashMap,
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
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::registration::{Shared, WITHDRAW_WITHIN, check_record};
pub use self::{
    builder::ClientBuilder,
    config::ClientConfig,
    discover::Discover,
    health::Health,
    registration::{Registration, RegistrationEvents, RegistryPhase},
};
use crate::{
    Backend, Clock, Error, ErrorKind, OnDuplicate,
    address::advertise,
    backend::Read,
    backoff::Backoff,
    disk::DiskView,
    drain::{self, Drain, DrainOnSignal, DrainReport, InFlight},
    feed::{Feed, Item},
    keeper::{AliveHook, Cell, ClientEvent, Keeper, KeeperConfig, KeeperParts, OnMissing, Phase, Policy},
    model::{Incarnation, Instance, InstanceKey, ServiceName, Target},
    reflector::WeakReflector,
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

/// How to register one instance.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct RegisterOptions {
    start: Start,
    ttl: Option<Duration>,
    policy: Policy,
}

/// What `register` does while the registry is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// Fails after the client's `register_timeout` (5 s) and leaves nothing half-registered: a new node that nobody
    /// can see had better not come up. The default.
    #[default]
    FailFast,
    /// Returns at once, in phase `Registering`, and goes on trying.
    Background,
}

impl RegisterOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do while the registry is away.
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// A time to live of its own; it gets a lease of its own with it. At least 3 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// What to do about another process's record under the same id.
    pub fn on_duplicate(mut self, on_duplicate: OnDuplicate) -> Self {
        self.policy.on_duplicate = on_duplicate;
        self
    }

    /// What to do when an operator deletes the record.
    pub fn on_missing(mut self, on_missing: OnMissing) -> Self {
        self.policy.on_missing = on_missing;
        self
    }
}

pub(crate) struct Inner {
    backend: Backend,
    config: ClientConfig,
    clock: Arc<dyn Clock>,
    alive: Option<AliveHook>,
    runtime: Handle,
    incarnation: Incarnation,
    keepers: Mutex<HashMap<Duration, Arc<Keeper>>>,
    registered: Mutex<HashMap<InstanceKey, Weak<Shared>>>,
    /// Dropped registrations whose withdrawal isn't over.
    leaving: Mutex<Vec<Arc<Cell>>>,
    reflectors: Mutex<HashMap<Target, WeakReflector>>,
    relists: Arc<Semaphore>,
    disk: Option<DiskView>,
    events: Arc<Feed<ClientEvent>>,
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

    /// Registers an instance and keeps it registered until the result is dropped or deregistered.
    ///
    /// # Errors
    /// If the instance isn't live after `register_timeout` (5 s), with the registry's last word as the source, and
    /// nothing is left half-registered; at once if the registry refuses it, if it is larger than the registry takes,
    /// if this client registers the same key already, or if the client is draining.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the instance is withdrawn again.
    pub async fn register(&self, instance: Instance) -> Result<Registration, Error> {
        self.register_with(instance, RegisterOptions::default()).await
    }

    /// [`register`](Self::register) with options.
    ///
    /// # Errors
    /// As for [`register`](Self::register); with [`Start::Background`] only what is wrong by itself.
    ///
    /// # Cancel safety
    /// Dropped before it is done, the instance is withdrawn again.
    pub async fn register_with(
        &self,
        instance: Instance,
        options: RegisterOptions,
    ) -> Result<Registration, Error> {
        let inner = &self.inner;
        inner.check_running()?;
        let ttl = options.ttl.unwrap_or(inner.config.ttl);
        ClientConfig { ttl, ..inner.config.clone() }.check()?;
        if ttl < inner.backend.capabilities.min_ttl {
            let least = inner.backend.capabilities.min_ttl;
            return Err(Error::invalid(format!("ttl is {ttl:?}; this registry honours at least {least:?}")));
        }
        let within = inner.config.register_timeout;
        let end = Instant::now() + within.min(FAR);
        let advertised = advertise(instance, inner.config.advertise, &inner.backend.addresses);
        let instance = timeout_at(end, advertised).await.map_err(|_| {
            Error::new(ErrorKind::Timeout, format!("no address to advertise was found within {within:?}"))
        })??;
        check_record(&instance, inner.backend.capabilities.max_record)?;
        let keeper = inner.keeper(ttl)?;
        let registration = Registration::new(inner, keeper, Arc::new(instance), options.policy)?;
        if options.start == Start::Background {
            return Ok(registration);
        }
        let state = match timeout_at(end, registration.decided()).await {
            Ok(state) => state,
            Err(_) => {
                let cause = registration.state().cause;
                registration.abandon();
                return Err(timed_out("registration", &registration.key(), within, cause));
            }
        };
        match (state.phase, state.cause) {
            (phase, _) if state.ended || matches!(phase, Phase::Absent | Phase::Deregistering) => {
                Err(Error::new(ErrorKind::Closed, "the client was closed while registering"))
            }
            (Phase::Blocked, Some(cause)) => {
                registration.abandon();
                let message = format!("the registry refuses {}", registration.key());
                Err(Error::new(cause.kind(), message)
                    .with_context(inner.backend.name, "register")
                    .with_source(cause))
            }
            _ => Ok(registration),
        }
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

    /// Waits until the registry has answered once, every registration is live and every watched service has a view.
    ///
    /// # Errors
    /// [`ErrorKind::NotReady`] with the last failure as its source if that isn't so within `within`; at once if the
    /// registry refuses the credential or the configuration.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let end = Instant::now() + within.min(FAR);
        let not_ready = |cause: Option<Error>| {
            let error =
                Error::new(ErrorKind::NotReady, format!("the registry is not ready after {within:?}"))
                    .with_context(self.inner.backend.name, "ready");
            match cause {
                Some(cause) => error.with_source(cause),
                None => error,
            }
        };
        self.answered(end)
            .await
            .map_err(|error| if error.is_retryable() { not_ready(Some(error)) } else { error })?;
        let left = end.saturating_duration_since(Instant::now());
        // The cells, not the guards: waiting must not keep a dropped registration alive.
        let cells: Vec<_> = self.registrations().iter().map(Registration::cell).collect();
        let decided = join_all(cells.iter().map(|cell| cell.wait_for(registration::is_decided)));
        let Ok(states) = timeout(left, decided).await else {
            return Err(not_ready(cells.iter().find_map(|cell| cell.read().cause)));
        };
        if let Some(refused) = states.into_iter().find(|state| state.phase == Phase::Blocked) {
            return Err(not_ready(refused.cause));
        }
        for reflector in self.inner.watched() {
            reflector.loaded(end.saturating_duration_since(Instant::now())).await?;
        }
        Ok(())
    }

    /// Asks until there is an answer.
    async fn answered(&self, end: Instant) -> Result<(), Error> {
        let Some(discovery) = &self.inner.backend.discovery else { return Ok(()) };
        // A name that nobody registers: any answer will do.
        let target = Target::new(ServiceName::new("service-registry-ready")?);
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let mut rng = fastrand::Rng::new();
        loop {
            let limit = end.min(Instant::now() + Duration::from_secs(3));
            let error = match timeout_at(limit, discovery.lookup(&target, &Read::default())).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if !error.is_retryable() => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, "the registry did not answer in time"),
            };
            let delay =
                backoff.fail(Instant::now(), error.kind().is_throttled(), error.retry_after(), &mut rng);
            if Instant::now() + delay >= end {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }

    /// How this client is, for a readiness probe. Reads memory only.
    #[must_use]
    pub fn health(&self) -> Health {
        let registrations = self.registrations();
        Health {
            never_live: registrations.iter().filter(|r| !r.was_live()).count(),
            registrations: registrations.iter().map(|r| (r.key(), r.phase())).collect(),
            services: (self.inner.watched().iter())
                .map(|r| (r.target().service().clone(), r.freshness().state))
                .collect(),
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

    /// Leaves cleanly: announces, deregisters, serves on while the news travels, refuses new work, waits for what is
    /// in flight, and ends by the drain's budget (25 s). A second call waits for the first and returns its report.
    ///
    /// # Cancel safety
    /// The drain stops where it is when this is dropped; the client then stays in [`Lifecycle::Draining`].
    pub async fn drain(&self, drain: Drain) -> DrainReport {
        let inner = &self.inner;
        let _ = inner.lifecycle.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        // A drain that was dropped or panicked leaves its turn to the next caller.
        let _turn = inner.draining.lock().await;
        if let Some(report) = inner.drained.borrow().clone() {
            return report;
        }
        let registrations = self.registrations();
        let exit = drain::Exit {
            registrations: &registrations,
            in_flight: &inner.in_flight,
            propagation: inner.backend.capabilities.propagation,
            cut: inner.cut.clone(),
            ever_live: inner.ever_live.load(Ordering::SeqCst),
            leaving: Box::pin(inner.left()),
            stop: Box::pin(inner.end()),
        };
        let report = drain::run(&drain, exit).await;
        inner.lifecycle.store(2, Ordering::SeqCst);
        inner.drained.send_replace(Some(report.clone()));
        report
    }

    /// Drains on SIGTERM or SIGINT (Ctrl-C elsewhere); a second signal cuts the drain short. The handlers are
    /// installed by this call, so make it before slow start-up work, and await the result.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the drain's budget leaves less than 5 s after the propagation, or if the
    /// handlers can't be installed.
    pub fn drain_on_signal(&self, drain: Drain) -> Result<DrainOnSignal, Error> {
        DrainOnSignal::install(self.clone(), drain, self.inner.backend.capabilities.propagation)
    }

    /// Cuts a running drain short: what is left is dropped and reported.
    pub fn cut_drain(&self) {
        // Before a drain there is nothing to cut, and the next one must not start cut.
        if self.lifecycle() == Lifecycle::Draining {
            self.inner.cut.cancel();
        }
    }

    /// The plain end: withdraws everything, waits up to 3 s for the registry's word, and ends the client's tasks.
    /// Waits for nothing in flight; see [`drain`](Self::drain). Upstreams keep their last view.
    ///
    /// # Cancel safety
    /// Once polled, everything ends; only the waiting stops.
    pub async fn close(&self) {
        let client = self.clone();
        // Detached, so that a caller who stops waiting doesn't stop the closing.
        let closed = self.inner.runtime.spawn(async move {
            client.inner.closing.get_or_init(|| client.close_once()).await;
        });
        drop(closed.await);
    }

    async fn close_once(&self) {
        let inner = &self.inner;
        inner.lifecycle.store(2, Ordering::SeqCst);
        let registrations = self.registrations();
        let withdrawn = join_all(registrations.iter().map(|r| r.deregister_within(WITHDRAW_WITHIN)));
        tokio::join!(withdrawn, inner.left());
        inner.in_flight.abort();
        if timeout(STOP_WITHIN, inner.end()).await.is_err() {
            tracing::warn!("some tasks of the client did not end in time");
        }
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
                incarnation: self.incarnation,
                audit_every: self.config.audit,
                lasting_loss: self.config.lasting_loss,
                seed: fastrand::u64(..),
            };
            let parts = KeeperParts {
                name: self.backend.name,
                registry: Arc::clone(registry),
                capabilities: self.backend.capabilities.clone(),
                clock: Arc::clone(&self.clock),
                alive: self.alive.clone(),
                events: Arc::clone(&self.events),
                tasks: self.tasks.clone(),
                stop: self.stop.clone(),
            };
            Arc::new(Keeper::spawn(config, parts))
        });
        Ok(Arc::clone(keeper))
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
