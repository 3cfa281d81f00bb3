//! The changes of a view as a stream.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_util::stream;

use super::Shared;
use crate::snapshot::{Diff, Snapshot};

/// One step of a view.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Update {
    /// The view after the step.
    pub snapshot: Snapshot,
    /// What changed since the item before. Empty if only something beside the records did, such as who is
    /// suspect.
    pub diff: Diff,
}

/// The view and its changes: the first item has everything as added and comes with the first view; applied in
/// order, the differences give the view at every point.
///
/// Nothing queues up: who reads slowly gets the newest view and its difference to the one read before. Ends
/// when the client is closed.
#[must_use = "streams do nothing unless polled"]
pub struct Changes(Pin<Box<dyn Stream<Item = Update> + Send + Sync>>);

impl Changes {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let wake = shared.view.subscribe();
        let start = (shared, wake, Snapshot::unfilled());
        Self(Box::pin(stream::unfold(start, |(shared, mut wake, last)| async move {
            loop {
                let open = wake.borrow_and_update().is_some();
                let snapshot = shared.snapshot();
                if snapshot.version() > last.version() {
                    let diff = Diff::between(&last, &snapshot);
                    return Some((Update { snapshot: snapshot.clone(), diff }, (shared, wake, snapshot)));
                }
                if !open || wake.changed().await.is_err() {
                    return None;
                }
            }
        })))
    }

    /// The next update, or `None` once the client is closed.
    ///
    /// # Cancel safety
    /// No update is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Update> {
        std::future::poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Stream for Changes {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Update>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}
