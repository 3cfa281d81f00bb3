//! Leaving: the clean exit, and the plain end.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio::time::timeout;
use tracing::Instrument;

use super::{Client, Lifecycle, STOP_WITHIN, registration::WITHDRAW_WITHIN};
use crate::{
    Error,
    drain::{self, Drain, DrainOnSignal, DrainReport},
};

impl Client {
    /// Leaves cleanly: announces, deregisters, serves on while the news travels, refuses new work, waits for what is
    /// in flight, and ends by the drain's budget (25 s). A second call waits for the first and returns its report.
    ///
    /// # Cancel safety
    /// The drain stops where it is when this is dropped; the client then stays in [`Lifecycle::Draining`].
    pub async fn drain(&self, drain: Drain) -> DrainReport {
        let inner = &self.inner;
        let _ = inner.lifecycle.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
        // A drain that was dropped or panicked leaves its turn to the next caller.
        let _turn = inner.draining.lock().await;
        if let Some(report) = inner.drained.borrow().clone() {
            return report;
        }
        let registrations = self.registrations();
        let exit = drain::Exit {
            registrations: &registrations,
            in_flight: &inner.in_flight,
            propagation: inner.backend.capabilities.propagation,
            cut: inner.cut.clone(),
            ever_live: inner.ever_live.load(Ordering::SeqCst),
            leaving: Box::pin(inner.left()),
            stop: Box::pin(inner.end()),
        };
        let report = drain::run(&drain, exit).instrument(tracing::info_span!("drain")).await;
        inner.lifecycle.store(2, Ordering::SeqCst);
        inner.drained.send_replace(Some(report.clone()));
        report
    }

    /// Drains on SIGTERM or SIGINT (Ctrl-C elsewhere); a second signal cuts the drain short. The handlers are
    /// installed by this call, so make it before slow start-up work, and await the result.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the drain's budget leaves less than 5 s
    /// after the propagation, or if the handlers can't be installed.
    pub fn drain_on_signal(&self, drain: Drain) -> Result<DrainOnSignal, Error> {
        DrainOnSignal::install(self.clone(), drain, self.inner.backend.capabilities.propagation)
    }

    /// Cuts a running drain short: what is left is dropped and reported.
    pub fn cut_drain(&self) {
        // Before a drain there is nothing to cut, and the next one must not start cut.
        if self.lifecycle() == Lifecycle::Draining {
            self.inner.cut.cancel();
        }
    }

    /// The plain end: withdraws everything, waits up to 3 s for the registry's word, and ends the client's tasks.
    /// Waits for nothing in flight; see [`drain`](Self::drain). Upstreams keep their last view.
    ///
    /// # Cancel safety
    /// Once polled, everything ends; only the waiting stops.
    pub async fn close(&self) {
        let client = self.clone();
        // Detached, so that a caller who stops waiting doesn't stop the closing.
        let closed = self.inner.runtime.spawn(async move {
            client.inner.closing.get_or_init(|| client.close_once()).await;
        });
        drop(closed.await);
    }

    async fn close_once(&self) {
        let inner = &self.inner;
        inner.lifecycle.store(2, Ordering::SeqCst);
        let registrations = self.registrations();
        let withdrawn = join_all(registrations.iter().map(|r| r.deregister_within(WITHDRAW_WITHIN)));
        tokio::join!(withdrawn, inner.left());
        inner.in_flight.abort();
        if timeout(STOP_WITHIN, inner.end()).await.is_err() {
            tracing::warn!("some tasks of the client did not end in time");
        }
    }
}
