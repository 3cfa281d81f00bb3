//! Granting leases: without any traffic, as Nacos over HTTP has none.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use registry_core::{
    Error, Instance, Lease, Registry,
    backend::{Grant, Lifetime},
};

use super::{
    codec::{Patience, Record},
    journal::Journal,
    lease::NacosLease,
    session::Session,
};

/// The shortest time to live: servers look for the silent every 5 s.
pub(crate) const MIN_TTL: Duration = Duration::from_secs(5);

/// Publishing in Nacos.
#[derive(Debug)]
pub(crate) struct NacosRegistry {
    session: Arc<Session>,
    journal: Arc<Journal>,
}

impl NacosRegistry {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, journal: Arc::default() }
    }
}

#[async_trait]
impl Registry for NacosRegistry {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        let lifetime = match self.session.config().ephemeral {
            true => Lifetime::Leased { ttl: grant.ttl.max(MIN_TTL) },
            // The server's probe of a port comes every 5 s at best.
            false => Lifetime::Verified { every: grant.ttl.max(MIN_TTL) },
        };
        let (session, journal) = (Arc::clone(&self.session), Arc::clone(&self.journal));
        Ok(Arc::new(NacosLease::new(session, journal, lifetime, grant.incarnation)))
    }

    fn check(&self, instance: &Instance) -> Result<(), Error> {
        let version = super::lease::longest_version();
        let patience = self.session.config().ephemeral.then(|| Patience::of(Duration::from_secs(86_400)));
        let record = Record::of(instance, Some(version), patience).marked(version);
        record.check(&instance.key(), self.session.config().max_metadata)
    }
}
