//! Health as the application defines it.

use std::time::Duration;

use tracing::Instrument;

use super::registration::Registration;
use crate::model::Status;

/// Shortest interval between two probes.
const MIN_EVERY: Duration = Duration::from_millis(100);

impl Registration {
    /// Runs `probe` every `every` (at least 100 ms) and publishes its verdict as the status: `true` is
    /// [`Status::Serving`], `false` is [`Status::Down`]. A probe that takes longer than the interval counts as
    /// `false`; one that panics too. [`Status::Draining`] is left alone. Probing ends with the registration.
    ///
    /// To let the registration run out instead, see [`ClientBuilder::alive`](crate::ClientBuilder::alive).
    pub fn probe<F>(&self, every: Duration, probe: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = bool> + Send + 'static,
    {
        let registration = std::sync::Arc::downgrade(self.shared());
        let client = self.shared().client();
        let stop = client.stop.clone();
        let every = every.max(MIN_EVERY);
        let span = tracing::debug_span!("probe", key = %self.key());
        let probe = std::sync::Arc::new(probe);
        let task = async move {
            loop {
                // In a task of its own, so that a panic is an answer and not the end of probing.
                let mut verdict = tokio::task::JoinSet::new();
                let ask = std::sync::Arc::clone(&probe);
                verdict.spawn(async move { ask().await });
                let healthy = tokio::select! {
                    answer = tokio::time::timeout(every, verdict.join_next()) => matches!(answer, Ok(Some(Ok(true)))),
                    () = stop.cancelled() => break,
                };
                let Some(registration) = registration.upgrade() else { break };
                let outcome = registration.replace(|old| {
                    let status = match (old.status(), healthy) {
                        (Status::Draining, _) => Status::Draining,
                        (_, true) => Status::Serving,
                        (_, false) => Status::Down,
                    };
                    old.to_builder().status(status).build()
                });
                drop(registration);
                if outcome.is_err() {
                    break;
                }
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    () = stop.cancelled() => break,
                }
            }
        };
        client.tasks.spawn_on(task.instrument(span), &client.runtime);
    }
}
