//! One lease of the server, and the records that hang on it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use registry_core::{
    Error, ErrorKind, Incarnation, Instance, InstanceKey, Lease,
    backend::{Lifetime, Outcome, Presence, Publish, Renewal},
};
use tokio::time::Instant;

use crate::{
    codec::Layout,
    error::Fault,
    keepalive::KeepAlive,
    session::Session,
    transact::{Found, Transactor, Wish, owner_of},
};

/// A granted lease. Dropping it neither withdraws nor revokes anything.
pub(crate) struct EtcdLease {
    session: Arc<Session>,
    layout: Arc<dyn Layout>,
    id: i64,
    ttl: Duration,
    incarnation: Incarnation,
    keep_alive: KeepAlive,
}

impl EtcdLease {
    pub(crate) fn new(
        session: Arc<Session>,
        layout: Arc<dyn Layout>,
        id: i64,
        ttl: Duration,
        incarnation: Incarnation,
    ) -> Self {
        Self { session, layout, id, ttl, incarnation, keep_alive: KeepAlive::default() }
    }

    fn transactor(&self, operation: &'static str) -> Transactor<'_> {
        Transactor {
            session: &self.session,
            layout: &*self.layout,
            lease: self.id,
            incarnation: self.incarnation,
            operation,
        }
    }

    fn judge(&self, key: &InstanceKey, found: Option<&Found>) -> Presence {
        let Some(found) = found else { return Presence::Missing };
        match owner_of(&*self.layout, key, &found.value) {
            Some(version) if version.incarnation == self.incarnation => {
                if found.lease == self.id {
                    Presence::Ours { version }
                } else {
                    Presence::Missing
                }
            }
            _ => Presence::Foreign,
        }
    }
}

#[async_trait]
impl Lease for EtcdLease {
    fn lifetime(&self) -> Lifetime {
        Lifetime::Leased { ttl: self.ttl }
    }

    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        let wishes = records
            .iter()
            .map(|record| {
                let key = record.instance.key();
                let value = self.layout.encode(&record.instance, record.version)?;
                Ok((key, Wish::Put { value, on_duplicate: record.on_duplicate }))
            })
            .collect();
        self.transactor("publish").fulfil(wishes).await
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        let wishes = instances.iter().map(|instance| Ok((instance.key(), Wish::Delete))).collect();
        self.transactor("withdraw").fulfil(wishes).await
    }

    async fn renew(&self, deadline: Instant) -> Result<Renewal, Error> {
        let ttl = Box::pin(self.keep_alive.renew(&self.session, self.id, deadline)).await?;
        Ok(Renewal::granted(ttl.unwrap_or(self.ttl)))
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        let found = self.transactor("inspect").read(keys).await?;
        Ok(keys.iter().zip(&found).map(|(key, found)| self.judge(key, found.as_ref())).collect())
    }

    async fn revoke(&self) -> Result<(), Error> {
        self.keep_alive.close();
        let id = self.id;
        let revoked = self
            .session
            .call(self.session.call_of("revoke"), |lane| async move {
                lane.lease.clone().revoke(id).await.map(|_| ()).map_err(Fault::from)
            })
            .await;
        match revoked {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::LeaseLost => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for EtcdLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdLease")
            .field("id", &format_args!("{:x}", self.id))
            .field("ttl", &self.ttl)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}
