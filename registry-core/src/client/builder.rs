//! From a configuration to a client.

use std::{collections::HashMap, fmt, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Client, ClientConfig, Inner, config::OPTIONS};
use crate::{
    Backend, Clock, ConnectContext, Connector, CredentialProvider, Damping, Error, RegistryUrl, SlowStart,
    Subset, SystemClock,
    disk::DiskView,
    drain::InFlight,
    feed::Feed,
    keeper::{AliveHook, ClientEvent, Dedicated, KeeperThread, RegistrationEvent},
    memory::MemoryConnector,
    metrics,
    model::{InstanceKey, Namespace},
    observer::{AT_ONCE, observe},
    static_list::StaticConnector,
};

/// Safety re-lists of one client that may run at the same time.
const RELISTS: usize = 3;
/// Schemes that a later feature brings, to name it in the error.
const FEATURES: &[(&str, &str)] = &[
    ("consul", "consul"),
    ("consul+tls", "consul"),
    ("etcd", "etcd"),
    ("etcd+tls", "etcd"),
    ("eureka", "eureka"),
    ("eureka+tls", "eureka"),
    ("memory", "memory"),
    ("nacos", "nacos"),
    ("nacos+tls", "nacos"),
    ("static", "memory"),
];

type LossCallback = Arc<dyn Fn(&[InstanceKey]) + Send + Sync>;

/// Builds a [`Client`].
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder {
    config: ClientConfig,
    fault: Option<Error>,
    backend: Option<Backend>,
    connectors: Vec<Arc<dyn Connector>>,
    credentials: Option<Arc<dyn CredentialProvider>>,
    clock: Arc<dyn Clock>,
    alive: Option<AliveHook>,
    on_lasting_loss: Option<(Duration, LossCallback)>,
}

impl ClientBuilder {
    pub(super) fn new() -> Self {
        Self {
            config: ClientConfig::default(),
            fault: None,
            backend: None,
            connectors: vec![Arc::new(MemoryConnector), Arc::new(StaticConnector)],
            credentials: None,
            clock: SystemClock::shared(),
            alive: None,
            on_lasting_loss: None,
        }
    }

    /// Takes a whole configuration.
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// The registry, by URL.
    pub fn url(mut self, url: &str) -> Self {
        match url.parse::<RegistryUrl>() {
            Ok(url) => self.config.registries = vec![url],
            Err(error) => self.fault = Some(error),
        }
        self
    }

    /// The registry, by its parts: for values such as a shared `MemoryRegistry`. Wins over a URL.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Plugs in a connector for further schemes; it wins over a built-in one for the same scheme.
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connectors.insert(0, Arc::new(connector));
        self
    }

    /// Supplies credentials that rotate; wins over the URL's user info.
    pub fn credentials(mut self, credentials: impl CredentialProvider) -> Self {
        self.credentials = Some(Arc::new(credentials));
        self
    }

    /// The time to live of registrations; see [`ClientConfig::ttl`].
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.config.ttl = ttl;
        self
    }

    /// The directory of the disk view; see [`ClientConfig::disk`].
    pub fn disk(mut self, directory: impl Into<PathBuf>) -> Self {
        self.config.disk = Some(directory.into());
        self
    }

    /// The address to advertise where an instance listens on a wildcard.
    pub fn advertise(mut self, ip: IpAddr) -> Self {
        self.config.advertise = Some(ip);
        self
    }

    /// Takes the address to advertise from an environment variable, such as the one that holds a pod's IP.
    pub fn advertise_from_env(mut self, variable: &str) -> Self {
        match std::env::var(variable).ok().and_then(|value| value.trim().parse().ok()) {
            Some(ip) => self.config.advertise = Some(ip),
            None => {
                self.fault = Some(Error::invalid(format!(
                    "the environment variable {variable:?} doesn't hold an IP address"
                )));
            }
        }
        self
    }

    /// How many instances of each service this client uses; see [`Subset`].
    pub fn subset(mut self, subset: Subset) -> Self {
        self.config.subset = subset;
        self
    }

    /// The zone this process runs in; see [`ClientConfig::zone`].
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.config.zone = Some(zone.into());
        self
    }

    /// Whether new instances get their share of requests little by little; see [`SlowStart`].
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.config.slow_start = slow_start;
        self
    }

    /// Whether instances that flap are held still; see [`Damping`].
    pub fn damping(mut self, damping: Damping) -> Self {
        self.config.damping = damping;
        self
    }

    /// Asked before each renewal: `false` withholds it, so that a process whose application is dead doesn't stay
    /// registered. Must not block; a hook that panics counts as `true`.
    pub fn alive(mut self, hook: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.alive = Some(Arc::new(hook));
        self
    }

    /// Where renewals run; see [`KeeperThread`].
    pub fn keeper_thread(mut self, thread: KeeperThread) -> Self {
        self.config.keeper_thread = thread;
        self
    }

    /// Calls `callback`, once per loss, with the registrations whose loss has lasted for `after`: to alert louder, or to
    /// stop the process. By default a loss that lasts is only logged, and the process keeps serving. The callback runs
    /// on tokio's blocking pool and may block or panic.
    pub fn on_lasting_loss(
        mut self,
        after: Duration,
        callback: impl Fn(&[InstanceKey]) + Send + Sync + 'static,
    ) -> Self {
        self.on_lasting_loss = Some((after, Arc::new(callback)));
        self
    }

    /// Replaces the wall clock, for tests.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the configuration and builds the client, without waiting for the registry.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) with the first thing that is wrong: a
    /// malformed URL, an unknown option (with the valid ones), a scheme that isn't compiled in (with the feature
    /// that brings it), or a value out of range. [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the
    /// system gives no thread for a dedicated keeper.
    pub async fn build(self) -> Result<Client, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let runtime = Handle::try_current()
            .map_err(|e| Error::invalid("a client needs a tokio runtime").with_source(e))?;
        let mut config = self.config;
        let mut scope = String::new();
        let backend = match self.backend {
            Some(backend) => backend,
            None => {
                let url = config.registry()?.clone();
                config.apply(&url)?;
                // The hosts too, or two clusters that share a directory would serve each other's instances.
                let mut hosts: Vec<_> = url.hosts().iter().map(ToString::to_string).collect();
                hosts.sort_unstable();
                scope = format!("{}://{}/{}", url.scheme(), hosts.join(","), url.path().join("/"));
                let connector = connector(&self.connectors, url.scheme())?;
                let valid: Vec<_> = OPTIONS.iter().chain(connector.options()).copied().collect();
                url.check_options(&valid)?;
                let namespace = match url.path() {
                    [] => Namespace::default(),
                    // The path of a static list names its service.
                    _ if url.scheme() == "static" => Namespace::default(),
                    path => Namespace::new(path.join("/"))?,
                };
                let mut context = ConnectContext::new(namespace, config.ttl);
                context.credentials = self.credentials;
                context.dedicated = config.keeper_thread == KeeperThread::Dedicated;
                connector.connect(&url, &context).await?
            }
        };
        if let Some((after, _)) = &self.on_lasting_loss {
            config.lasting_loss = Some(*after);
        }
        config.check()?;
        config.balancer.parse::<crate::balance::Balance>()?;
        metrics::describe();
        let dedicated = match config.keeper_thread {
            KeeperThread::Shared => None,
            KeeperThread::Dedicated => Some(Dedicated::start()?),
        };
        if scope.is_empty() {
            scope.clone_from(&backend.scope);
        }
        let disk = config.disk.as_ref().map(|directory| DiskView::new(directory, scope));
        let client = Client {
            inner: Arc::new(Inner {
                backend,
                config,
                clock: self.clock,
                alive: self.alive,
                runtime,
                dedicated,
                keepers: HashMap::new().into(),
                registered: HashMap::new().into(),
                leaving: Vec::new().into(),
                reflectors: HashMap::new().into(),
                relists: Arc::new(Semaphore::new(RELISTS)),
                seed: fastrand::u64(..),
                disk,
                events: Arc::new(Feed::new()),
                callbacks: Arc::new(Semaphore::new(AT_ONCE)),
                in_flight: InFlight::new(),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                lifecycle: 0.into(),
                cut: CancellationToken::new(),
                drained: watch::Sender::new(None),
                draining: tokio::sync::Mutex::new(()),
                closing: tokio::sync::OnceCell::new(),
                ever_live: false.into(),
            }),
        };
        if let Some((_, callback)) = self.on_lasting_loss {
            client.inner.observe_lasting_losses(callback);
        }
        Ok(client)
    }
}

impl Inner {
    fn observe_lasting_losses(&self, callback: LossCallback) {
        let registry = self.backend.name;
        // A gap in the events can only hide a loss that the states still show.
        let lagged = move |_| ClientEvent { registry, events: Arc::new([]) };
        let filter = move |event: ClientEvent| {
            let lasting = |event: &RegistrationEvent| matches!(event, RegistrationEvent::LossLasts { .. });
            let keys: Vec<_> =
                event.events.iter().filter(|(_, e)| lasting(e)).map(|(key, _)| key.clone()).collect();
            if !keys.is_empty() {
                callback(&keys);
            }
        };
        observe(self.events.subscribe(), filter, lagged, self.stage());
    }
}

fn connector(connectors: &[Arc<dyn Connector>], scheme: &str) -> Result<Arc<dyn Connector>, Error> {
    if let Some(connector) = connectors.iter().find(|c| c.schemes().contains(&scheme)) {
        return Ok(Arc::clone(connector));
    }
    let mut known: Vec<_> = connectors.iter().flat_map(|c| c.schemes()).copied().collect();
    known.sort_unstable();
    known.dedup();
    let shown: String = scheme.chars().take(32).collect();
    let feature = FEATURES.iter().find(|(s, _)| *s == scheme).map(|(_, feature)| feature);
    let hint =
        feature.map_or(String::new(), |f| format!("; enable the Cargo feature {f:?} of service-registry"));
    Err(Error::invalid(format!(
        "no connector for the scheme {shown:?}{hint}; available are {}",
        known.join(", ")
    )))
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
