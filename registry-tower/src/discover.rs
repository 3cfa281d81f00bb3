//! An upstream as a `tower::discover::Discover`.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use registry_core::{Changes, Instance, InstanceKey, Snapshot, Upstream};
use tower::discover::Change;

use crate::connect::Connect;

/// A stream of [`Change`]s, which makes it a [`Discover`](tower::discover::Discover): for tower's own balancers.
///
/// - It holds the instances that serve and have a weight; while there are none, those that
///   [`Snapshot::preferred`] falls back to. tower's balancers know no weights: more than 0 is all the same.
/// - A record with another weight, metadata or life is inserted again, which replaces the service.
/// - Nothing is removed on suspicion: only what the upstream itself lets go of.
/// - Nothing queues up while nobody asks: the next item leads towards the newest view.
///
/// It never fails, and ends when the client is closed. What tower's balancers add is their own: `tower::balance`, for
/// one, evicts an endpoint whose `poll_ready` fails until it is inserted again, and waits for ever while none is
/// ready. [`Balanced`](crate::Balanced) does neither.
#[must_use = "streams do nothing unless polled"]
pub struct Discovered<C> {
    changes: Changes,
    connect: C,
    /// What is queued or done: what the reader has once it has read all.
    present: HashMap<InstanceKey, Arc<Instance>>,
    queue: VecDeque<Step>,
}

enum Step {
    Insert(Arc<Instance>),
    Remove(InstanceKey),
}

impl<C: Connect> Discovered<C> {
    /// The instances of `upstream`, from now on, as services made by `connect`. One that can't be made is left out, with
    /// a warning, until its record changes; the service of an older record is removed.
    ///
    /// # Panics
    /// On a lazily started upstream's first use, outside a tokio runtime.
    pub fn new(upstream: &Upstream, connect: C) -> Self {
        Self { changes: upstream.changes(), connect, present: HashMap::new(), queue: VecDeque::new() }
    }

    /// Queues what leads from what is present to the view.
    fn follow(&mut self, snapshot: &Snapshot) {
        let mut gone = std::mem::take(&mut self.present);
        for instance in snapshot.preferred(|_| true) {
            let key = instance.key();
            let old = gone.remove(&key);
            if !old.is_some_and(|old| Arc::ptr_eq(&old, instance) || old.is_same_record(instance)) {
                self.queue.push_back(Step::Insert(Arc::clone(instance)));
            }
            self.present.insert(key, Arc::clone(instance));
        }
        self.queue.extend(gone.into_keys().map(Step::Remove));
    }
}

impl<C: Connect + Unpin> Stream for Discovered<C> {
    type Item = Result<Change<InstanceKey, C::Service>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match self.queue.pop_front() {
                Some(Step::Remove(key)) => return Poll::Ready(Some(Ok(Change::Remove(key)))),
                Some(Step::Insert(instance)) => {
                    let endpoint = self.connect.endpoint(&instance);
                    match self.connect.connect(&instance, endpoint) {
                        Ok(service) => return Poll::Ready(Some(Ok(Change::Insert(instance.key(), service)))),
                        Err(error) => {
                            let key = instance.key();
                            tracing::warn!(%key, error, "an instance can't be used");
                            // Without effect on a reader that has no service of an older record.
                            return Poll::Ready(Some(Ok(Change::Remove(key))));
                        }
                    }
                }
                None => match ready!(Pin::new(&mut self.changes).poll_next(cx)) {
                    Some(update) => self.follow(&update.snapshot),
                    None => return Poll::Ready(None),
                },
            }
        }
    }
}

impl<C> fmt::Debug for Discovered<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovered").field("present", &self.present.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
