//! From a target to an upstream.

use std::sync::{Arc, Weak};

use tracing::Instrument;

use super::{Client, Inner, lock};
use crate::{
    Damping, Discovery, Ejection, Error, Expiry, SlowStart, Subset, Upstream,
    balance::Balance,
    model::{Selector, Target},
    outlier::Prober,
    reflector::{Reflector, ReflectorConfig, ReflectorParts},
    upstream::Source,
    view::{View, ViewConfig},
};

/// What to discover, and how.
#[derive(Clone, Debug)]
#[must_use]
pub struct Discover {
    target: Target,
    selector: Selector,
    balance: Option<Balance>,
    subset: Option<Subset>,
    damping: Option<Damping>,
    zone: Option<Option<String>>,
    slow_start: Option<SlowStart>,
    ejection: Option<Ejection>,
}

impl Discover {
    /// All instances of a target, balanced as the client is configured.
    pub fn new(target: impl Into<Target>) -> Self {
        Self {
            target: target.into(),
            selector: Selector::new(),
            balance: None,
            subset: None,
            damping: None,
            zone: None,
            slow_start: None,
            ejection: None,
        }
    }

    /// Only the instances that match.
    pub fn selector(mut self, selector: Selector) -> Self {
        self.selector = selector;
        self
    }

    /// Another policy than the client's.
    pub fn balance(mut self, balance: Balance) -> Self {
        self.balance = Some(balance);
        self
    }

    /// Another number of instances than the client's default.
    pub fn subset(mut self, subset: Subset) -> Self {
        self.subset = Some(subset);
        self
    }

    /// Prefers the instances of this zone, where the client has another one or none; see
    /// [`ClientConfig::zone`](crate::ClientConfig::zone).
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(Some(zone.into()));
        self
    }

    /// Prefers no zone, although the client has one.
    pub fn any_zone(mut self) -> Self {
        self.zone = Some(None);
        self
    }

    /// Another slow start than the client's default.
    pub fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = Some(slow_start);
        self
    }

    /// Another damping than the client's default.
    pub fn damping(mut self, damping: Damping) -> Self {
        self.damping = Some(damping);
        self
    }

    /// When instances that keep failing are left out; else as the client is configured.
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.ejection = Some(ejection);
        self
    }
}

impl Client {
    /// Finds a service: the result is a live view to pick from. Waits for the first view, up to the client's
    /// `initial_timeout` (5 s); then serves the disk view, if there is one.
    ///
    /// A service without instances is found, and empty: wait with [`Upstream::ready`].
    ///
    /// # Errors
    /// [`ErrorKind::NotReady`](crate::ErrorKind::NotReady) if the registry didn't answer and there is no disk view;
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a malformed name or qualifier, or an option out
    /// of range;
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) once the client is closed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn discover<T>(&self, target: T) -> Result<Upstream, Error>
    where
        T: TryInto<Target>,
        Error: From<T::Error>,
    {
        self.discover_with(Discover::new(target.try_into()?)).await
    }

    /// [`discover`](Self::discover) with a selector or another balancer.
    ///
    /// # Errors
    /// As for [`discover`](Self::discover).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn discover_with(&self, discover: Discover) -> Result<Upstream, Error> {
        let reflector = self.inner.reflector(&discover.target)?;
        let upstream = self.upstream(discover)?;
        upstream.start();
        reflector.loaded(self.inner.config.initial_timeout).await?;
        Ok(upstream)
    }

    /// Finds a service on first use: nothing is asked of the registry before the first pick. Picks fail with
    /// [`ErrorKind::NotReady`](crate::ErrorKind::NotReady) until the first view has arrived.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) for a malformed name.
    pub fn discover_lazy<T>(&self, target: T) -> Result<Upstream, Error>
    where
        T: TryInto<Target>,
        Error: From<T::Error>,
    {
        self.upstream(Discover::new(target.try_into()?))
    }

    fn upstream(&self, discover: Discover) -> Result<Upstream, Error> {
        self.inner.check_open()?;
        self.inner.check_discovers()?;
        let balance = match discover.balance {
            Some(balance) => balance,
            None => self.inner.config.balancer.parse()?,
        };
        let config = &self.inner.config;
        let subset = discover.subset.unwrap_or(config.subset);
        let damping = discover.damping.unwrap_or(config.damping);
        let slow_start = discover.slow_start.unwrap_or(config.slow_start);
        subset.check()?;
        damping.check()?;
        slow_start.check()?;
        let view = Arc::new(View::with(ViewConfig {
            selector: discover.selector,
            balance,
            ejection: discover.ejection.unwrap_or_else(|| config.ejection.clone()),
            damping,
            subset,
            zone: discover.zone.unwrap_or_else(|| config.zone.clone()),
            slow_start,
            seed: self.inner.seed,
        }));
        let refuses = config.expiry == Expiry::Refuse && config.max_staleness.is_some();
        let inner = Arc::clone(&self.inner);
        let target = discover.target.clone();
        let probed = Arc::downgrade(&view);
        Ok(Upstream::new(discover.target, view, refuses, move || match inner.reflector(&target) {
            Ok(reflector) => {
                let source: Arc<dyn Source> = Arc::new(reflector);
                inner.probe(&target, &probed, &source);
                source
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "a lazy upstream can't start");
                Arc::new(crate::upstream::Nothing(error))
            }
        }))
    }
}

impl Inner {
    /// Starts what probes ejected instances, if that is configured.
    fn probe(&self, target: &Target, view: &Weak<View>, source: &Arc<dyn Source>) {
        let prober = view.upgrade().and_then(|view| Prober::new(&view, Arc::downgrade(source)));
        if let Some(prober) = prober {
            let span = tracing::debug_span!("prober", service = %target.service());
            self.tasks.spawn_on(prober.run().instrument(span), &self.runtime);
        }
    }

    fn check_open(&self) -> Result<(), Error> {
        match self.check_running() {
            // A client that drains still calls others.
            Err(_) if self.stop.is_cancelled() => {
                Err(Error::new(crate::ErrorKind::Closed, "the client is closed"))
            }
            _ => Ok(()),
        }
    }

    fn check_discovers(&self) -> Result<&Arc<dyn Discovery>, Error> {
        self.backend.discovery.as_ref().ok_or_else(|| {
            Error::invalid(format!("{} can't be asked who serves a target", self.backend.name))
        })
    }

    /// The one reflector of a target.
    fn reflector(&self, target: &Target) -> Result<Reflector, Error> {
        self.check_open()?;
        let discovery = self.check_discovers()?;
        let mut reflectors = lock(&self.reflectors);
        if let Some(reflector) = reflectors.get(target).and_then(crate::reflector::WeakReflector::upgrade) {
            return Ok(reflector);
        }
        let config = ReflectorConfig {
            initial_timeout: self.config.initial_timeout,
            max_staleness: self.config.max_staleness,
            expiry: self.config.expiry,
            shrink_guard: self.config.shrink_guard,
            relist_every: self.config.relist,
            linger: self.config.linger,
            ttl: self.config.ttl,
            ..ReflectorConfig::default()
        };
        let parts = ReflectorParts {
            clock: Arc::clone(&self.clock),
            relists: Arc::clone(&self.relists),
            disk: self.disk.clone(),
            tasks: self.tasks.clone(),
            cancel: self.stop.clone(),
            runtime: self.runtime.clone(),
        };
        let discovery = Arc::clone(discovery);
        let reflector =
            Reflector::spawn(target.clone(), discovery, &self.backend.capabilities, config, parts);
        // Targets that nobody uses any more leave with the next new one.
        reflectors.retain(|_, reflector| reflector.is_running());
        reflectors.insert(target.clone(), reflector.downgrade());
        Ok(reflector)
    }

    /// All reflectors that still have a task.
    pub(super) fn watched(&self) -> Vec<Reflector> {
        let reflectors: Vec<_> = lock(&self.reflectors).values().cloned().collect();
        reflectors.iter().filter_map(crate::reflector::WeakReflector::upgrade).collect()
    }
}
