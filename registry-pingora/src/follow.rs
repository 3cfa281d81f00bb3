//! Changes, as they come.

use std::{fmt, sync::Arc, time::Duration};

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
use tokio::time::sleep;

/// How long after an update that may have to be made again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: also how long a backend's new address may go unnoticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A background service that updates a load balancer at each change of the registry's view.
///
/// Pingora's own background service for a [`LoadBalancer`] polls; this one doesn't, as long as nothing failed and all
/// instances have addresses. An update that failed is made again after 1 s, then after twice as long each time, up to 30 s;
/// likewise while a host is a name, which may have another address then, or be resolved at last.
///
/// It is ready when the first set of backends is in place, and ends with the proxy.
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
    fn has_names(&self) -> bool {
        let snapshot = self.upstream.snapshot();
        snapshot
            .iter()
            .flat_map(|instance| instance.endpoints())
            .any(|endpoint| endpoint.socket_addr().is_none())
    }

    async fn run(&self, mut shutdown: ShutdownWatch, mut ready: Option<ServiceReadyNotifier>) {
        let mut changes = self.upstream.changes();
        let mut pause = FIRST_PAUSE;
        let mut is_unsettled = false;
        loop {
            tokio::select! {
                change = changes.next() => {
                    if change.is_none() { return }
                    pause = FIRST_PAUSE;
                }
                () = sleep(pause), if is_unsettled => pause = (2 * pause).min(LONGEST_PAUSE),
                // An error is a server that is gone.
                asked = shutdown.changed() => if asked.is_err() || *shutdown.borrow() { return } else { continue },
            }
            match self.balancer.update().await {
                Ok(()) => {
                    is_unsettled = self.has_names();
                    if let Some(ready) = ready.take() {
                        ready.notify_ready();
                    }
                }
                Err(error) => {
                    is_unsettled = true;
                    tracing::warn!(%error, "the backends could not be updated; the last ones stay");
                }
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
