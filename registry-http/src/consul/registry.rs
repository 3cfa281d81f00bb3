//! Granting leases, which Consul doesn't know: a lease is the set of what was published under it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use registry_core::{
    Error, Lease, Registry,
    backend::{Grant, Lifetime},
};

use super::{config::ConsulCheck, lease::ConsulLease, names::Names, owners::Owners, session::Session};

/// How often instances that Consul itself checks are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// Publishing in Consul.
#[derive(Debug)]
pub(super) struct ConsulRegistry {
    session: Arc<Session>,
    names: Names,
    owners: Arc<Owners>,
    granted: AtomicU64,
}

impl ConsulRegistry {
    pub(super) fn new(session: Arc<Session>, names: Names) -> Self {
        Self { session, names, owners: Arc::default(), granted: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Registry for ConsulRegistry {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        let number = self.granted.fetch_add(1, Ordering::Relaxed) + 1;
        let lifetime = match self.session.config.check {
            ConsulCheck::Ttl => Lifetime::Leased { ttl: grant.ttl },
            ConsulCheck::Http | ConsulCheck::Tcp | ConsulCheck::Grpc => {
                Lifetime::Verified { every: LOOK_EVERY }
            }
        };
        Ok(Arc::new(ConsulLease::new(
            Arc::clone(&self.session),
            self.names.clone(),
            Arc::clone(&self.owners),
            number,
            *grant,
            lifetime,
        )))
    }
}
