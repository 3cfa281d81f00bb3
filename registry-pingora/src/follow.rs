//! Changes, as they come.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use pingora_core::{
    server::ShutdownWatch,
    services::{ServiceReadyNotifier, background::BackgroundService},
};
use pingora_load_balancing::{
    LoadBalancer,
    selection::{BackendIter, BackendSelection},
};
use registry_core::Upstream;

/// A background service that updates a load balancer at each change of the registry's view.
///
/// Pingora's own background service for a [`LoadBalancer`] polls; set
/// [`update_frequency`](LoadBalancer::update_frequency) there only for backends that are named, as a name's new address
/// is no change of the registry. It is ready when the first set of backends is in place, and ends with the proxy.
pub struct Follow<S: BackendSelection> {
    balancer: Arc<LoadBalancer<S>>,
    upstream: Upstream,
}

/// The load balancer to select from, and the service that keeps its backends those of `upstream`: the one that its
/// [`Backing`](crate::Backing) has.
pub fn follow<S>(balancer: LoadBalancer<S>, upstream: Upstream) -> (Arc<LoadBalancer<S>>, Follow<S>)
where
    S: BackendSelection,
{
    let balancer = Arc::new(balancer);
    (Arc::clone(&balancer), Follow { balancer, upstream })
}

impl<S> Follow<S>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    async fn run(&self, mut shutdown: ShutdownWatch, mut ready: Option<ServiceReadyNotifier>) {
        let mut changes = self.upstream.changes();
        loop {
            tokio::select! {
                change = changes.next() => if change.is_none() { return },
                // An error is a server that is gone.
                asked = shutdown.changed() => if asked.is_err() || *shutdown.borrow() { return } else { continue },
            }
            match self.balancer.update().await {
                Ok(()) => {
                    if let Some(ready) = ready.take() {
                        ready.notify_ready();
                    }
                }
                Err(error) => tracing::warn!(%error, "the backends could not be updated; the last ones stay"),
            }
        }
    }
}

#[async_trait]
impl<S> BackgroundService for Follow<S>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    async fn start_with_ready_notifier(&self, shutdown: ShutdownWatch, ready: ServiceReadyNotifier) {
        self.run(shutdown, Some(ready)).await;
    }

    async fn start(&self, shutdown: ShutdownWatch) {
        self.run(shutdown, None).await;
    }
}

impl<S: BackendSelection> fmt::Debug for Follow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("upstream", &self.upstream).finish_non_exhaustive()
    }
}
