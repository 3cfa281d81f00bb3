//! The keeper's calls on the registry: each in a task of the keeper's own set, under a hard deadline, and with its
//! panic caught, so that every call is answered exactly once.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::{
    input::{Call, LeaseNo, OpId, Reply},
    task::Task,
};
use crate::{
    Error, ErrorKind, Lease, Registry,
    backend::{Grant, Lifetime},
};

/// The answer to one call.
pub(super) struct Answer {
    pub(super) op: OpId,
    pub(super) reply: Reply,
    pub(super) granted: Option<(LeaseNo, Arc<dyn Lease>)>,
}

impl Task {
    pub(super) fn call(&mut self, op: OpId, deadline: Instant, call: Call) {
        let late = || Error::new(ErrorKind::Timeout, "the registry did not answer in time");
        let name = self.parts.name;
        match call {
            Call::Grant { lease } => {
                let registry = Arc::clone(&self.parts.registry);
                let grant = Grant::new(self.ttl, self.incarnation);
                self.start(
                    async move {
                        let result = timeout_at(deadline, ask(registry, grant)).await;
                        let result = result.unwrap_or_else(|_| Err(late().with_context(name, "grant")));
                        let (result, granted) = match result {
                            Ok(granted) => (Ok(granted.lifetime()), Some((lease, granted))),
                            Err(error) => (Err(error), None),
                        };
                        Answer { op, reply: Reply::Granted(result), granted }
                    },
                    op,
                    Reply::Granted(Err(panicked(name, "grant"))),
                );
            }
            Call::Publish { lease, records } => {
                let many = records.len();
                self.on_lease(
                    op,
                    lease,
                    Reply::Published(vec![Err(panicked(name, "publish")); many]),
                    move |lease| async move {
                        let late = || vec![Err(late().with_context(name, "publish")); many];
                        Reply::Published(
                            timeout_at(deadline, lease.publish(&records)).await.unwrap_or_else(|_| late()),
                        )
                    },
                );
            }
            Call::Withdraw { lease, instances } => {
                let many = instances.len();
                self.on_lease(
                    op,
                    lease,
                    Reply::Withdrawn(vec![Err(panicked(name, "withdraw")); many]),
                    move |lease| async move {
                        let late = || vec![Err(late().with_context(name, "withdraw")); many];
                        Reply::Withdrawn(
                            timeout_at(deadline, lease.withdraw(&instances)).await.unwrap_or_else(|_| late()),
                        )
                    },
                );
            }
            Call::Renew { lease } => {
                self.on_lease(
                    op,
                    lease,
                    Reply::Renewed(Err(panicked(name, "renew"))),
                    move |lease| async move {
                        let late = || Err(late().with_context(name, "renew"));
                        Reply::Renewed(
                            timeout_at(deadline, lease.renew(deadline)).await.unwrap_or_else(|_| late()),
                        )
                    },
                );
            }
            Call::Inspect { lease, keys } => {
                self.on_lease(
                    op,
                    lease,
                    Reply::Inspected(Err(panicked(name, "inspect"))),
                    move |lease| async move {
                        let late = || Err(late().with_context(name, "inspect"));
                        Reply::Inspected(
                            timeout_at(deadline, lease.inspect(&keys)).await.unwrap_or_else(|_| late()),
                        )
                    },
                );
            }
            Call::Revoke { lease } => {
                self.on_lease(
                    op,
                    lease,
                    Reply::Revoked(Err(panicked(name, "revoke"))),
                    move |lease| async move {
                        let late = || Err(late().with_context(name, "revoke"));
                        Reply::Revoked(timeout_at(deadline, lease.revoke()).await.unwrap_or_else(|_| late()))
                    },
                );
            }
        }
    }

    fn on_lease<F>(
        &mut self,
        op: OpId,
        lease: LeaseNo,
        on_panic: Reply,
        call: impl FnOnce(Arc<dyn Lease>) -> F,
    ) where
        F: Future<Output = Reply> + Send + 'static,
    {
        let Some(lease) = self.leases.get(&lease) else {
            // Only after a restart that lost the handle: nothing can be said about it.
            self.start(
                async move { Answer { op, reply: on_panic, granted: None } },
                op,
                Reply::Revoked(Ok(())),
            );
            return;
        };
        let reply = call(Arc::clone(lease));
        self.start(async move { Answer { op, reply: reply.await, granted: None } }, op, on_panic);
    }

    fn start(&mut self, call: impl Future<Output = Answer> + Send + 'static, op: OpId, on_panic: Reply) {
        let guarded = async move {
            match AssertUnwindSafe(call).catch_unwind().await {
                Ok(answer) => answer,
                Err(_) => Answer { op, reply: on_panic, granted: None },
            }
        };
        self.calls.spawn(guarded.in_current_span());
    }
}

async fn ask(registry: Arc<dyn Registry>, grant: Grant) -> Result<Arc<dyn Lease>, Error> {
    let lease = registry.grant(&grant).await?;
    if let Lifetime::Leased { ttl } = lease.lifetime()
        && ttl.is_zero()
    {
        return Err(Error::new(ErrorKind::Protocol, "the registry granted a time to live of zero"));
    }
    Ok(lease)
}

fn panicked(backend: &'static str, operation: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "the backend panicked").with_context(backend, operation)
}
