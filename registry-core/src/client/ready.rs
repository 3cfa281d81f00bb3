//! Waiting until the registry answers and everything stands.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Client, FAR,
    registration::{Registration, is_decided},
};
use crate::{
    Error, ErrorKind,
    backend::Read,
    backoff::Backoff,
    keeper::Phase,
    model::{ServiceName, Target},
};

impl Client {
    /// Waits until the registry has answered once, every registration is live and every watched service has a view.
    ///
    /// # Errors
    /// [`ErrorKind::NotReady`] with the last failure as its source if that isn't so within `within`; at once if the
    /// registry refuses the credential or the configuration.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ready(&self, within: Duration) -> Result<(), Error> {
        let end = Instant::now() + within.min(FAR);
        let not_ready = |cause: Option<Error>| {
            let error =
                Error::new(ErrorKind::NotReady, format!("the registry is not ready after {within:?}"))
                    .with_context(self.inner.backend.name, "ready");
            match cause {
                Some(cause) => error.with_source(cause),
                None => error,
            }
        };
        self.answered(end)
            .await
            .map_err(|error| if error.is_retryable() { not_ready(Some(error)) } else { error })?;
        let left = end.saturating_duration_since(Instant::now());
        // The cells, not the guards: waiting must not keep a dropped registration alive.
        let cells: Vec<_> = self.registrations().iter().map(Registration::cell).collect();
        let decided = join_all(cells.iter().map(|cell| cell.wait_for(is_decided)));
        let Ok(states) = timeout(left, decided).await else {
            return Err(not_ready(cells.iter().find_map(|cell| cell.read().cause)));
        };
        if let Some(refused) = states.into_iter().find(|state| state.phase == Phase::Blocked) {
            return Err(not_ready(refused.cause));
        }
        for reflector in self.inner.watched() {
            reflector.loaded(end.saturating_duration_since(Instant::now())).await?;
        }
        Ok(())
    }

    /// Asks until there is an answer.
    async fn answered(&self, end: Instant) -> Result<(), Error> {
        let Some(discovery) = &self.inner.backend.discovery else { return Ok(()) };
        // A name that nobody registers: any answer will do.
        let target = Target::new(ServiceName::new("service-registry-ready")?);
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let mut rng = fastrand::Rng::new();
        loop {
            let limit = end.min(Instant::now() + Duration::from_secs(3));
            let error = match timeout_at(limit, discovery.lookup(&target, &Read::default())).await {
                Ok(Ok(_)) => return Ok(()),
                // It knows who asks, and keeps that name from us: an answer, as from a role on some names only.
                Ok(Err(error))
                    if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound) =>
                {
                    return Ok(());
                }
                Ok(Err(error)) if !error.is_retryable() => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, "the registry did not answer in time"),
            };
            let delay =
                backoff.fail(Instant::now(), error.kind().is_throttled(), error.retry_after(), &mut rng);
            if Instant::now() + delay >= end {
                return Err(error);
            }
            tokio::time::sleep(delay).await;
        }
    }
}
