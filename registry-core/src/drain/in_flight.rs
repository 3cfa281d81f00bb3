//! Counts what must finish before the process may leave: requests and background tasks.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// The work of the application that a drain waits for; cheap to clone.
#[derive(Clone, Debug)]
pub struct InFlight(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    requests: AtomicUsize,
    idle: Notify,
    tasks: TaskTracker,
    leaving: CancellationToken,
    refusing: CancellationToken,
    ending: CancellationToken,
    abort: CancellationToken,
}

/// One request in flight, until dropped. Hold it until the *body* of the answer is complete.
#[derive(Debug)]
#[must_use = "the request counts as finished when the guard is dropped"]
pub struct InFlightGuard(Arc<Inner>);

impl InFlight {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            requests: AtomicUsize::new(0),
            idle: Notify::new(),
            tasks: TaskTracker::new(),
            leaving: CancellationToken::new(),
            refusing: CancellationToken::new(),
            ending: CancellationToken::new(),
            abort: CancellationToken::new(),
        }))
    }

    /// Counts a request in. It is counted even while new work is refused: ask [`is_refusing`](Self::is_refusing).
    pub fn enter(&self) -> InFlightGuard {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        InFlightGuard(Arc::clone(&self.0))
    }

    /// How many requests are in flight.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// How many background tasks are running.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.0.tasks.len()
    }

    /// Runs a background task that a drain waits for; at the end of the drain's budget it is dropped.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let abort = self.0.abort.clone();
        let span = tracing::debug_span!("background", name);
        let task = async move {
            tokio::select! {
                () = task => {}
                () = abort.cancelled() => tracing::warn!(name, "background task aborted at the end of the drain"),
            }
        };
        self.0.tasks.spawn(task.instrument(span));
    }

    /// Waits until the process begins to leave, while it still serves: the time to tell peers, by a health service
    /// for example.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn leaving(&self) {
        self.0.leaving.cancelled().await;
    }

    /// Whether new work is to be refused.
    #[must_use]
    pub fn is_refusing(&self) -> bool {
        self.0.refusing.is_cancelled()
    }

    /// Waits until new work is to be refused: what a server's graceful shutdown takes.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn refusing(&self) {
        self.0.refusing.cancelled().await;
    }

    /// Waits until the drain's budget is about to end (2 s before): long streams and tasks should stop now.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn ending(&self) {
        self.0.ending.cancelled().await;
    }

    /// Waits until the drain is over, or its budget: what still runs is to be dropped, connections included.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn aborted(&self) {
        self.0.abort.cancelled().await;
    }

    pub(crate) fn leave(&self) {
        self.0.leaving.cancel();
    }

    pub(crate) fn refuse(&self) {
        self.0.leaving.cancel();
        self.0.refusing.cancel();
    }

    pub(crate) fn end_soon(&self) {
        self.0.ending.cancel();
    }

    /// Waits until nothing is in flight any more.
    pub(crate) async fn finished(&self) {
        self.0.tasks.close();
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            // Registered before the check, so that a request that ends in between is not missed.
            idle.as_mut().enable();
            if self.requests() > 0 {
                idle.await;
                continue;
            }
            self.0.tasks.wait().await;
            // A task, or a connection that lingers, may have begun another request meanwhile.
            if self.requests() == 0 {
                return;
            }
        }
    }

    /// Drops the tasks that are left.
    pub(crate) fn abort(&self) {
        self.refuse();
        self.0.ending.cancel();
        self.0.abort.cancel();
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
