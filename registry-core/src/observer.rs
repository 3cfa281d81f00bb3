//! Callbacks of the user: run apart from everything, in order, one at a time.
//!
//! A callback may block or panic; it runs on the blocking pool, so that neither the executor nor the renewal notices.
//! At most [`AT_ONCE`] of one client run at the same time. While one is slow, further events wait in its bounded queue and the oldest make room: it is then told how many it
//! missed.

use std::{any::Any, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::feed::{Item, Reader};

/// Callbacks of one client that may run at the same time. The blocking pool also resolves names and reads files for
/// the renewal, so callbacks that block, one per registration, must not fill it.
pub(crate) const AT_ONCE: usize = 16;
/// A callback that takes longer is reported once per call.
const SLOW: Duration = Duration::from_secs(5);

/// Where callbacks run, and what bounds them.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) runtime: Handle,
    /// Of [`AT_ONCE`] permits, shared by all callbacks of the client.
    pub(crate) at_once: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Runs `callback` for each event until the feed ends or the stage's client stops.
pub(crate) fn observe<T>(
    mut events: Reader<T>,
    callback: impl Fn(T) + Send + Sync + 'static,
    lagged: impl Fn(u64) -> T + Send + 'static,
    stage: Stage,
) where
    T: fmt::Debug + Clone + Send + 'static,
{
    let callback = Arc::new(callback);
    let Stage { runtime, at_once, tasks, stop } = stage;
    let task = async move {
        loop {
            let event = tokio::select! {
                biased;
                item = events.next() => match item {
                    Some(Item::Event(event)) => event,
                    Some(Item::Lagged(missed)) => lagged(missed),
                    None => break,
                },
                () = stop.cancelled() => break,
            };
            let callback = Arc::clone(&callback);
            let permit = tokio::select! {
                permit = Arc::clone(&at_once).acquire_owned() => permit,
                () = stop.cancelled() => break,
            };
            let mut call = tokio::task::spawn_blocking(move || {
                // Held until the callback really returns, even if nobody waits for it any more.
                let _permit = permit;
                std::panic::catch_unwind(AssertUnwindSafe(|| callback(event))).map_err(|panic| text(&*panic))
            });
            // The blocked thread can't be stopped, but nobody has to wait for it.
            let outcome = tokio::select! {
                biased;
                outcome = tokio::time::timeout(SLOW, &mut call) => outcome,
                () = stop.cancelled() => break,
            };
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(_) => {
                    tracing::warn!(after = ?SLOW, "an event callback is slow; the renewal is not affected");
                    tokio::select! {
                        outcome = call => outcome,
                        () = stop.cancelled() => break,
                    }
                }
            };
            if let Ok(Err(panic)) = outcome {
                tracing::error!(panic, "an event callback panicked; the renewal is not affected");
            }
        }
    };
    tasks.spawn_on(task.instrument(tracing::debug_span!("observer")), &runtime);
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
