//! A thread of the keepers' own, for applications that block their executor.

use std::{str::FromStr, thread, time::Duration};

use tokio::{
    runtime::{Builder, Handle},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::{Error, ErrorKind};

/// Where a client renews its registrations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeeperThread {
    /// On the runtime that built the client. An application that blocks all of its threads for longer than the time
    /// to live loses its registrations, and is told so afterwards; a registration never claims to be live meanwhile.
    #[default]
    Shared,
    /// On one thread and a small runtime of the client's own, named `registry-keeper`, which ends with the client.
    /// Renewals then go on while the application's executor is blocked. The registry is given connections apart
    /// from those that watch, so this costs one more connection.
    ///
    /// tokio's paused clock belongs to one runtime, so tests that pause it need [`Shared`](Self::Shared).
    Dedicated,
}

impl FromStr for KeeperThread {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "shared" => Ok(Self::Shared),
            "dedicated" => Ok(Self::Dedicated),
            _ => Err(Error::invalid("a keeper thread is shared or dedicated")),
        }
    }
}

/// How long keepers that were told to stop are waited for.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Owns the thread: it ends after this is dropped, once its keepers have stopped.
#[derive(Debug)]
pub(crate) struct Dedicated {
    handle: Handle,
    keepers: TaskTracker,
    _ended: DropGuard,
}

impl Dedicated {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the system gives no thread.
    pub(crate) fn start() -> Result<Self, Error> {
        let failed = |error| {
            Error::new(ErrorKind::Unavailable, "no thread for the keeper could be started").with_source(error)
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let handle = runtime.handle().clone();
        let (ended, keepers) = (CancellationToken::new(), TaskTracker::new());
        keepers.close();
        let (end, left) = (ended.clone(), keepers.clone());
        let run = move || {
            runtime.block_on(async {
                end.cancelled().await;
                // Those who wait for a registration are told its end by the keeper.
                drop(timeout(STOP_WITHIN, left.wait()).await);
            });
            // A name that is still being resolved on the blocking pool must not hold the thread.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("registry-keeper".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { handle, keepers, _ended: ended.drop_guard() })
    }

    /// The thread's runtime, and what a keeper on it holds while it runs.
    pub(crate) fn place(&self) -> (Handle, TaskTrackerToken) {
        (self.handle.clone(), self.keepers.token())
    }
}
