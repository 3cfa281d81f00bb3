//! Publishing under a lease, and keeping it.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{
    MemoryRegistry, Operation, context,
    store::{LeaseId, State},
};
use crate::{
    Error,
    backend::{Grant, Lease, Lifetime, Outcome, Presence, Publish, Renewal},
    model::{Instance, InstanceKey},
};

/// One lease of a [`MemoryRegistry`].
pub(super) struct MemoryLease {
    registry: MemoryRegistry,
    id: LeaseId,
    grant: Grant,
}

impl MemoryLease {
    pub(super) fn new(registry: MemoryRegistry, id: LeaseId, grant: Grant) -> Self {
        Self { registry, id, grant }
    }

    /// Lets a call act on the store, between the faults before and those after.
    async fn call<T: Send>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut State, Instant) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        self.registry.enter(operation).await?;
        let answer = self.registry.with(act);
        self.registry.leave(operation).await?;
        answer.map_err(|e| context(e, operation))
    }
}

#[async_trait]
impl Lease for MemoryLease {
    fn lifetime(&self) -> Lifetime {
        Lifetime::Leased { ttl: self.grant.ttl }
    }

    /// The whole batch is one revision and one event.
    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        let call = self.call(Operation::Publish, |state, now| {
            Ok(state.publish(self.id, self.grant.incarnation, records, now))
        });
        outcomes(call.await, records.len(), Operation::Publish)
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        let call = self.call(Operation::Withdraw, |state, now| {
            state.withdraw(self.grant.incarnation, instances, now);
            Ok(vec![Ok(()); instances.len()])
        });
        outcomes(call.await, instances.len(), Operation::Withdraw)
    }

    async fn renew(&self, _deadline: Instant) -> Result<Renewal, Error> {
        self.call(Operation::Renew, |state, now| state.renew(self.id, now)).await?;
        Ok(Renewal::granted(self.grant.ttl))
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        self.call(Operation::Inspect, |state, _| Ok(state.inspect(self.id, self.grant.incarnation, keys)))
            .await
    }

    async fn revoke(&self) -> Result<(), Error> {
        self.call(Operation::Revoke, |state, now| {
            state.end_lease(self.id, now);
            Ok(())
        })
        .await
    }
}

fn outcomes(answer: Result<Vec<Outcome>, Error>, len: usize, operation: Operation) -> Vec<Outcome> {
    match answer {
        Ok(outcomes) => outcomes.into_iter().map(|o| o.map_err(|e| context(e, operation))).collect(),
        Err(error) => vec![Err(error); len],
    }
}

impl fmt::Debug for MemoryLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLease")
            .field("id", &self.id)
            .field("ttl", &self.grant.ttl)
            .finish_non_exhaustive()
    }
}
