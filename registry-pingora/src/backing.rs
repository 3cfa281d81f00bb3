//! An upstream as pingora's source of backends.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_error::{Error, ErrorType, Result};
use pingora_load_balancing::{Backend, Extensions, discovery::ServiceDiscovery};
use registry_core::{Endpoint, Instance, Upstream};
use tokio::task::JoinSet;

use crate::{names::Names, weights::scaled};

/// How long a discovery waits for the first view of a service.
const FIRST_VIEW: Duration = Duration::from_secs(5);

/// No view of the service has arrived, or none of its instances can be reached: pingora keeps the backends it has.
const NO_VIEW: ErrorType = ErrorType::new("NoRegistryView");

/// The instances of one service as pingora's backends.
///
/// - Those that serve, weighted. If none does, what a pick would fall back to: those of weight 0, then the draining,
///   the starting and those that are down, as a backend that may refuse beats none.
/// - Weights keep their proportions and are at most 100, as pingora's selections grow with them.
/// - Backends carry their `Arc<Instance>` in [`Backend::ext`], for what a peer needs besides: the scheme, metadata, a
///   name for TLS. To pingora a backend is its address and weight: a change of anything else, such as metadata, alone
///   doesn't reach the selection, which keeps the `Arc<Instance>` it has until some address or weight changes. For what
///   has to be fresh look the instance up, by its id, in the upstream's snapshot.
/// - The set is empty only if the registry *said* that nobody is left: an outage changes nothing, instances that
///   vanish in bulk stay for as long as the view's shrink guard holds them, and if none has an endpoint of the wanted
///   scheme pingora keeps the backends it has.
/// - A host that is a name is resolved at each discovery, to its first address; the last one stays if that fails. See
///   [`Follow`](crate::Follow) for when that is.
///
/// Two instances with one address and weight are one backend to pingora.
#[derive(Debug)]
pub struct Backing {
    upstream: Upstream,
    scheme: Option<Box<str>>,
    names: Arc<Names>,
}

impl Backing {
    /// All instances, each by its first endpoint.
    #[must_use]
    pub fn new(upstream: Upstream) -> Self {
        Self { upstream, scheme: None, names: Arc::default() }
    }

    /// Takes each instance's first endpoint of this scheme (such as `http`), and leaves out instances without one.
    #[must_use]
    pub fn scheme(mut self, scheme: impl Into<Box<str>>) -> Self {
        self.scheme = Some(scheme.into());
        self
    }

    fn endpoint<'a>(&self, instance: &'a Instance) -> Option<&'a Endpoint> {
        match &self.scheme {
            Some(scheme) => instance.endpoint_with_scheme(scheme),
            None => Some(instance.endpoint()),
        }
    }
}

#[async_trait]
impl ServiceDiscovery for Backing {
    /// What the view has now. Reads memory only, unless hosts are names or nothing has arrived yet.
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        self.upstream
            .ready_within(0, FIRST_VIEW)
            .await
            .map_err(|error| Error::because(NO_VIEW, "the registry has not answered", error))?;
        let snapshot = self.upstream.snapshot();
        let chosen = snapshot.preferred(|instance| self.endpoint(instance).is_some());
        let reachable: Vec<_> =
            chosen.filter_map(|instance| Some((instance, self.endpoint(instance)?))).collect();
        if reachable.is_empty() && !snapshot.is_empty() {
            return Error::e_explain(NO_VIEW, "no instance has an endpoint of the wanted scheme");
        }
        let shares =
            scaled(&reachable.iter().map(|(instance, _)| instance.weight().get()).collect::<Vec<_>>());
        self.names.retain(&reachable.iter().map(|(_, endpoint)| *endpoint).collect::<Vec<_>>());

        let mut backends = BTreeSet::new();
        let mut named = JoinSet::new();
        for ((instance, endpoint), weight) in reachable.iter().zip(shares) {
            let mut ext = Extensions::new();
            ext.insert(Arc::clone(instance));
            let backend = move |address| Backend { addr: SocketAddr::Inet(address), weight, ext };
            if let Some(address) = endpoint.socket_addr() {
                backends.insert(backend(address));
                continue;
            }
            let (names, endpoint) = (Arc::clone(&self.names), Endpoint::clone(endpoint));
            // All at once; dropping the set, as a cancelled discovery does, ends them.
            named.spawn(async move { names.resolve(&endpoint).await.map(backend) });
        }
        while let Some(resolved) = named.join_next().await {
            backends.extend(resolved.ok().flatten());
        }
        if backends.is_empty() && !reachable.is_empty() {
            return Error::e_explain(NO_VIEW, "no backend's name can be resolved");
        }
        Ok((backends, HashMap::new()))
    }
}
