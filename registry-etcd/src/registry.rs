//! Granting leases.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use etcd_client::LeaseGrantOptions;
use registry_core::{Error, ErrorKind, Lease, Registry, backend::Grant};

use crate::{
    codec::Layout,
    error::Fault,
    lease::EtcdLease,
    session::{Call, Session},
};

/// Publishing in etcd.
#[derive(Debug)]
pub(crate) struct EtcdRegistry {
    session: Arc<Session>,
    layout: Arc<dyn Layout>,
}

impl EtcdRegistry {
    pub(crate) fn new(session: Arc<Session>, layout: Arc<dyn Layout>) -> Self {
        Self { session, layout }
    }
}

#[async_trait]
impl Registry for EtcdRegistry {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        let Ok(wanted) = i64::try_from(grant.ttl.as_secs() + u64::from(grant.ttl.subsec_nanos() > 0)) else {
            return Err(Error::new(ErrorKind::InvalidArgument, "the time to live is too long"));
        };
        // An id of our own makes the grant repeatable: a second attempt finds the lease of the first. 63 random
        // bits don't meet another client's.
        let id = fastrand::i64(1..=i64::MAX);
        let call: Call<'_> = self.session.call_of("grant");
        let answer = self
            .session
            .call(call, |lane| async move {
                let mut leases = lane.lease;
                let options = LeaseGrantOptions::new().with_id(id);
                let fault = match leases.grant(wanted, Some(options)).await {
                    Ok(granted) => return Ok(granted.ttl()),
                    Err(error) => Fault::from(error),
                };
                if fault.kind != ErrorKind::Conflict {
                    return Err(fault);
                }
                Ok(leases.time_to_live(id, None).await?.granted_ttl())
            })
            .await?;
        let ttl = u64::try_from(answer.value).ok().filter(|ttl| *ttl > 0).ok_or_else(|| {
            Fault::protocol("the server granted a lease without a time to live").into_error("grant")
        })?;
        let ttl = Duration::from_secs(ttl);
        tracing::debug!(lease = %format_args!("{id:x}"), ?ttl, endpoint = %answer.lane.endpoint, "got a lease");
        Ok(Arc::new(EtcdLease::new(
            Arc::clone(&self.session),
            Arc::clone(&self.layout),
            id,
            ttl,
            grant.incarnation,
        )))
    }
}
