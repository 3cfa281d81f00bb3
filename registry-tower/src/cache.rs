//! One service per instance, for as long as the instance lives.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use registry_core::{Endpoint, Incarnation, Instance, InstanceId, Snapshot, Upstream};
use tokio::task::AbortHandle;
use tracing::Instrument;

use crate::{
    BoxError,
    connect::{Connect, Destination},
};

/// So that requests to different instances rarely meet.
const SHARDS: usize = 16;

/// The services that were made, by instance. A new life of an instance, or another endpoint, is another service.
///
/// What leaves the upstream is dropped by a task of its own; what is merely suspected, ejected or draining stays.
pub(crate) struct Cache<C: Connect> {
    connect: C,
    hasher: RandomState,
    shards: [Mutex<HashMap<InstanceId, Entry<C::Service>>>; SHARDS],
    /// Ends with the cache.
    sweeper: OnceLock<AbortHandle>,
}

struct Entry<S> {
    life: Option<(Incarnation, u64)>,
    endpoint: Endpoint,
    route: Route<S>,
}

/// How one instance is reached.
#[derive(Clone)]
pub(crate) struct Route<S> {
    pub(crate) service: S,
    pub(crate) destination: Destination,
}

impl<C: Connect> Cache<C> {
    pub(crate) fn new(connect: C) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(HashMap::new()));
        Self { connect, hasher: RandomState::new(), shards, sweeper: OnceLock::new() }
    }

    /// The service of an instance that was picked from `upstream`, made if there is none yet.
    pub(crate) fn route(
        self: &Arc<Self>,
        upstream: &Upstream,
        instance: &Instance,
    ) -> Result<Route<C::Service>, BoxError> {
        let endpoint = self.connect.endpoint(instance);
        let life = life(instance);
        if let Some(entry) = self.shard(instance.id()).get(instance.id())
            && entry.life == life
            && entry.endpoint == *endpoint
        {
            return Ok(entry.route.clone());
        }
        let route = Route {
            service: self.connect.connect(instance, endpoint)?,
            destination: Destination::of(endpoint)?,
        };
        self.sweeper.get_or_init(|| spawn_sweeper(Arc::downgrade(self), upstream));
        let entry = Entry { life, endpoint: endpoint.clone(), route: route.clone() };
        let replaced = self.shard(instance.id()).insert(instance.id().clone(), entry);
        // Not under the lock: it may close connections.
        drop(replaced);
        // It may have left between the pick and now: then the sweeper has been here already. If it leaves from now on,
        // the sweeper will find it.
        if upstream.snapshot().get(instance.id()).is_none() {
            self.remove(instance.id());
        }
        Ok(route)
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, id: &InstanceId) -> MutexGuard<'_, HashMap<InstanceId, Entry<C::Service>>> {
        lock(&self.shards[self.hasher.hash_one(id) as usize % SHARDS])
    }

    fn remove(&self, id: &InstanceId) {
        let removed = self.shard(id).remove(id);
        drop(removed);
    }

    /// Drops the service of an instance that now has another life or endpoint.
    fn replace(&self, instance: &Instance) {
        let is_current = self.shard(instance.id()).get(instance.id()).is_none_or(|entry| {
            entry.life == life(instance) && entry.endpoint == *self.connect.endpoint(instance)
        });
        if !is_current {
            self.remove(instance.id());
        }
    }

    /// Drops everything that isn't in the view.
    fn keep_only(&self, snapshot: &Snapshot) {
        let known: std::collections::HashSet<_> = snapshot.iter().map(|instance| instance.id()).collect();
        for shard in &self.shards {
            let gone: Vec<_> = lock(shard).extract_if(|id, _| !known.contains(id)).collect();
            drop(gone);
        }
    }
}

/// Follows the view. Holds it, and not the cache.
fn spawn_sweeper<C: Connect>(cache: Weak<Cache<C>>, upstream: &Upstream) -> AbortHandle {
    let mut changes = upstream.changes();
    let span = tracing::debug_span!("connections", service = %upstream.service());
    let sweep = async move {
        let mut is_first = true;
        while let Some(update) = changes.next().await {
            let Some(cache) = cache.upgrade() else { return };
            if std::mem::take(&mut is_first) {
                cache.keep_only(&update.snapshot);
            }
            for instance in &update.diff.removed {
                cache.remove(instance.id());
            }
            for (_, instance) in &update.diff.changed {
                cache.replace(instance);
            }
        }
    };
    tokio::spawn(sweep.instrument(span)).abort_handle()
}

impl<C: Connect> Drop for Cache<C> {
    fn drop(&mut self) {
        if let Some(sweeper) = self.sweeper.get() {
            sweeper.abort();
        }
    }
}

impl<C: Connect> fmt::Debug for Cache<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("services", &self.shards.iter().map(|shard| lock(shard).len()).sum::<usize>())
            .finish_non_exhaustive()
    }
}

/// Which life of the instance it is: a restart under the same id may mean another process behind the same address.
fn life(instance: &Instance) -> Option<(Incarnation, u64)> {
    instance.record_version().map(|version| (version.incarnation, version.epoch))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
