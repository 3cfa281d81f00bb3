//! Callbacks of the user: run apart from everything, in order, one at a time.
//!
//! A callback may block or panic; it runs on the blocking pool, so that neither the executor nor the renewal notices.
//! While it is slow, further events wait in its bounded queue and the oldest make room: it is then told how many it
//! missed.

use std::{any::Any, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::feed::{Item, Reader};

/// A callback that takes longer is reported once per call.
const SLOW: Duration = Duration::from_secs(5);

/// Runs `callback` for each event until the feed ends or `stop` is cancelled.
pub(crate) fn observe<T>(
    mut events: Reader<T>,
    callback: impl Fn(T) + Send + Sync + 'static,
    lagged: impl Fn(u64) -> T + Send + 'static,
    tasks: &TaskTracker,
    stop: CancellationToken,
) where
    T: fmt::Debug + Clone + Send + 'static,
{
    let callback = Arc::new(callback);
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
            let mut call = tokio::task::spawn_blocking(move || {
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
    tasks.spawn(task.instrument(tracing::debug_span!("observer")));
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
