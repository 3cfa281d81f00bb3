//! The reflector: turns the watch sessions of one target into one guarded view, and keeps it whatever happens.
//!
//! [`state`] decides, [`guard`] protects the set, [`task`] carries out, and this is the handle that users share:
//!
//! ```text
//!   Reflector (users, counted) ──► Shared ◄── task ── State ── Guard
//!   WeakReflector (the client's map) ─┘          │
//!                                                └──► ViewSink (a snapshot each), Freshness, ViewEvents
//! ```
//!
//! The task ends `linger` after its last user is gone, or when the client is closed.

mod config;
mod guard;
mod lookups;
mod pending;
mod reconnect;
mod signal;
mod state;
mod status;
mod task;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, broadcast, mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

pub use self::config::{Expiry, ShrinkGuard};
pub(crate) use self::{config::ReflectorConfig, status::Moment};
use self::{
    state::State,
    status::{Limits, Loaded, Status},
};
use crate::{
    Clock, Error, ErrorKind, Freshness, ViewEvent, ViewEvents, ViewState,
    backend::{Capabilities, Discovery},
    disk::DiskView,
    model::{InstanceKey, Target},
    view::ViewSink,
};

/// Events kept for a slow subscriber.
const EVENT_QUEUE: usize = 1024;
/// Reports of passive failures kept for the task; further ones are dropped, as another caller will be refused too.
const FAILURE_QUEUE: usize = 256;
/// What a view from disk may take beyond the wait for the registry.
const DISK_GRACE: Duration = Duration::from_millis(250);

/// What a reflector needs beside its own configuration.
#[derive(Clone, Debug)]
pub(crate) struct ReflectorParts {
    pub(crate) clock: Arc<dyn Clock>,
    /// Bounds the lookups of one client that run at the same time.
    pub(crate) relists: Arc<Semaphore>,
    pub(crate) disk: Option<DiskView>,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    pub(crate) runtime: Handle,
}

/// A user's handle to a shared reflector. Clones are users too.
pub(crate) struct Reflector {
    shared: Arc<Shared>,
}

/// A handle that keeps nothing alive, for the client's map of targets.
#[derive(Clone, Debug)]
pub(crate) struct WeakReflector {
    shared: Weak<Shared>,
}

struct Shared {
    target: Target,
    clock: Arc<dyn Clock>,
    limits: Limits,
    expiry: Expiry,
    /// The state and those who are told of it: one lock, so that a new sink misses nothing and sees nothing twice.
    hub: Mutex<Hub>,
    /// What the checked read looks at; written after the sinks were told.
    status: ArcSwap<Status>,
    changed: watch::Sender<u64>,
    /// `None` once the task has ended, which ends the subscribers' streams.
    events: Mutex<Option<broadcast::Sender<ViewEvent>>>,
    failures: mpsc::Sender<InstanceKey>,
    users: Mutex<usize>,
    users_changed: Notify,
    finished: AtomicBool,
}

struct Hub {
    state: State,
    sinks: Vec<Weak<dyn ViewSink>>,
}

impl Reflector {
    /// Starts the reflector of `target`; the handle is its first user.
    pub(crate) fn spawn(
        target: Target,
        discovery: Arc<dyn Discovery>,
        capabilities: &Capabilities,
        config: ReflectorConfig,
        parts: ReflectorParts,
    ) -> Self {
        let now = moment(&*parts.clock);
        let (linger, expiry) = (config.linger, config.expiry);
        let state = State::new(config, capabilities, parts.disk.is_some(), now);
        let (failures, reported) = mpsc::channel(FAILURE_QUEUE);
        let shared = Arc::new(Shared {
            target,
            clock: Arc::clone(&parts.clock),
            limits: state.limits(),
            expiry,
            status: ArcSwap::from_pointee(state.status().clone()),
            hub: Mutex::new(Hub { state, sinks: Vec::new() }),
            changed: watch::Sender::new(0),
            events: Mutex::new(Some(broadcast::Sender::new(EVENT_QUEUE))),
            failures,
            users: Mutex::new(1),
            users_changed: Notify::new(),
            finished: AtomicBool::new(false),
        });
        let span = tracing::info_span!("reflector", service = %shared.target.service());
        let file = parts.disk.as_ref().map(|disk| disk.file(&shared.target));
        let task = task::Task::new(Arc::clone(&shared), discovery, parts.relists, file, parts.cancel, linger);
        parts.tasks.spawn_on(task.run(reported).instrument(span), &parts.runtime);
        Self { shared }
    }

    /// What it reflects.
    pub(crate) fn target(&self) -> &Target {
        &self.shared.target
    }

    /// Tells `sink` everything known as one change, at once if there is a view, and each change from then on, until
    /// it is dropped.
    ///
    /// The sink is called under a lock of the reflector: it must neither block nor attach or detach sinks.
    pub(crate) fn attach(&self, sink: Weak<dyn ViewSink>) {
        let mut hub = self.shared.hub();
        if let Some(sink) = sink.upgrade() {
            // Nothing heard is not the same as nothing there.
            if hub.state.status().loaded != Loaded::No {
                sink.apply(&hub.state.everything());
            }
            if self.is_finished() {
                sink.close();
            }
        }
        hub.sinks.retain(|sink| sink.strong_count() > 0);
        hub.sinks.push(sink);
    }

    /// How far the view can be trusted, checked against the clock now. Takes no lock.
    pub(crate) fn freshness(&self) -> Freshness {
        self.shared.freshness()
    }

    /// Whether the view may be used: false only if it is expired and is configured to serve no more then.
    pub(crate) fn may_serve(&self) -> bool {
        self.shared.expiry == Expiry::Serve || {
            let now = moment(&*self.shared.clock);
            self.shared.status.load().state(self.shared.limits, now) != ViewState::Expired
        }
    }

    /// Waits for the first view: the registry's, even an empty one, or the one from disk once the registry was
    /// silent for the initial timeout.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] at once if the backend says that the target can't be: waiting won't mend it.
    /// [`ErrorKind::NotReady`] with the last failure as its source if there is none `within` this time;
    /// [`ErrorKind::Closed`] if the reflector has ended.
    pub(crate) async fn loaded(&self, within: Duration) -> Result<(), Error> {
        let since = Instant::now();
        let mut changed = self.changed();
        let mut settled = async || {
            loop {
                let status = self.shared.status.load_full();
                if status.loaded != Loaded::No {
                    return Ok(());
                }
                if let Some(error) = blunder(&status) {
                    return Err(error.clone());
                }
                if status.closed || changed.changed().await.is_err() {
                    return Err(Error::new(ErrorKind::Closed, "the view was closed before it was loaded"));
                }
            }
        };
        if let Ok(settled) = timeout(within, settled()).await {
            return settled;
        }
        // The file is served when the registry's time is over, which may be this very moment.
        if self.shared.hub().state.may_serve_disk()
            && let Ok(settled) = timeout(DISK_GRACE, settled()).await
        {
            return settled;
        }
        let waited = humantime::format_duration(Duration::from_millis(
            u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        ));
        let message = format!("no view of {} after {waited}", self.shared.target.service());
        let error = Error::new(ErrorKind::NotReady, message);
        Err(match self.shared.status.load().last_error.clone() {
            Some(cause) => error.with_source(cause),
            None => error,
        })
    }

    /// The events from now on.
    pub(crate) fn events(&self) -> ViewEvents {
        let events = self.shared.events.lock().unwrap_or_else(PoisonError::into_inner);
        ViewEvents::new(events.as_ref().map(broadcast::Sender::subscribe))
    }

    /// A number that is raised whenever the state changes.
    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Reports that an instance refused a connection; one that is only held is removed right away. Dropped if 256
    /// reports wait already.
    pub(crate) fn fail(&self, key: &InstanceKey) {
        // A full queue means that the task is busy removing what others reported.
        drop(self.shared.failures.try_send(key.clone()));
    }

    /// Whether the task has ended: the view stands still for ever.
    pub(crate) fn is_finished(&self) -> bool {
        self.shared.finished.load(Ordering::Acquire)
    }

    pub(crate) fn downgrade(&self) -> WeakReflector {
        WeakReflector { shared: Arc::downgrade(&self.shared) }
    }
}

impl Clone for Reflector {
    fn clone(&self) -> Self {
        *self.shared.users() += 1;
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        *self.shared.users() -= 1;
        self.shared.users_changed.notify_one();
    }
}

impl fmt::Debug for Reflector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl WeakReflector {
    /// Whether its task still runs.
    pub(crate) fn is_running(&self) -> bool {
        self.shared.upgrade().is_some_and(|shared| !shared.finished.load(Ordering::Acquire))
    }

    /// A new user of the reflector, unless it has ended.
    pub(crate) fn upgrade(&self) -> Option<Reflector> {
        let shared = self.shared.upgrade()?;
        let mut users = shared.users();
        // The task ends under this lock, so one that is found running stays.
        if shared.finished.load(Ordering::Acquire) {
            return None;
        }
        *users += 1;
        drop(users);
        shared.users_changed.notify_one();
        Some(Reflector { shared })
    }
}

impl Shared {
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> MutexGuard<'_, usize> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn freshness(&self) -> Freshness {
        self.status.load().freshness(self.limits, moment(&*self.clock))
    }

    fn emit(&self, event: ViewEvent) {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(events) = &*events {
            // Nobody listening is no failure.
            drop(events.send(event));
        }
    }

    /// Ends the view: waiting users learn it, streams end, and no new user is taken.
    fn finish(&self) {
        self.finished.store(true, Ordering::Release);
        let mut status = Status::clone(&self.status.load());
        status.closed = true;
        self.status.store(Arc::new(status));
        self.changed.send_modify(|count| *count += 1);
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        let sinks = std::mem::take(&mut self.hub().sinks);
        sinks.iter().filter_map(Weak::upgrade).for_each(|sink| sink.close());
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reflector")
            .field("target", &self.target)
            .field("freshness", &self.freshness())
            .finish_non_exhaustive()
    }
}

/// What only the caller can mend.
fn blunder(status: &Status) -> Option<&Error> {
    status.last_error.as_ref().filter(|error| error.kind() == ErrorKind::InvalidArgument)
}

fn moment(clock: &dyn Clock) -> Moment {
    Moment { mono: Instant::now(), wall: clock.wall() }
}

#[cfg(test)]
mod tests;
