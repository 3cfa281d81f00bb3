//! Granting leases.

use std::sync::Arc;

use async_trait::async_trait;

use super::{MemoryRegistry, Operation, context, lease::MemoryLease};
use crate::{
    Error,
    backend::{Grant, Lease, Registry},
};

#[async_trait]
impl Registry for MemoryRegistry {
    /// Any time to live above zero is granted as asked.
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        self.enter(Operation::Grant).await?;
        if grant.ttl.is_zero() {
            return Err(context(Error::invalid("a lease needs a time to live above zero"), Operation::Grant));
        }
        let id = self.with(|state, now| state.grant(grant.ttl, now));
        // Built before the answer can get lost: then the lease is an orphan that expires by itself.
        let lease = MemoryLease::new(self.clone(), id, *grant);
        self.leave(Operation::Grant).await?;
        Ok(Arc::new(lease))
    }
}
