//! The loop that carries out what [`State`](super::state::State) decides; it decides nothing itself.

use std::{
    any::Any,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FuturesUnordered, ReadyChunks},
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Moment, Shared, blunder, moment,
    signal::{Action, Input},
};
use crate::{
    Error, ErrorKind, ViewEvent,
    backend::{Cursor, Discovery, Listing, Read, WatchStream},
    disk::DiskFile,
    metrics::{self, ViewFigures, ViewLevels},
    model::{InstanceKey, ServiceName, Target},
};

/// Deadline of one lookup, once it runs.
const LOOKUP_WITHIN: Duration = Duration::from_secs(3);
/// Most events that become one snapshot: a burst of 50 000 must not publish 50 000 of them.
const COALESCED: usize = 256;
/// What the last save may take when the task ends.
const LAST_SAVE_WITHIN: Duration = Duration::from_secs(1);

pub(super) struct Task {
    shared: Arc<Shared>,
    discovery: Arc<dyn Discovery>,
    relists: Arc<Semaphore>,
    file: Option<DiskFile>,
    cancel: CancellationToken,
    linger: Duration,
    watch: Option<(u64, ReadyChunks<WatchStream>)>,
    /// Lookups, loads and saves; few, as the state asks for one of each at a time.
    jobs: FuturesUnordered<BoxFuture<'static, Input>>,
    levels: ViewLevels,
}

impl Task {
    pub(super) fn new(
        shared: Arc<Shared>,
        discovery: Arc<dyn Discovery>,
        relists: Arc<Semaphore>,
        file: Option<DiskFile>,
        cancel: CancellationToken,
        linger: Duration,
    ) -> Self {
        let (watch, jobs, levels) = (None, FuturesUnordered::new(), ViewLevels::default());
        Self { shared, discovery, relists, file, cancel, linger, watch, jobs, levels }
    }

    pub(super) async fn run(mut self, mut failures: mpsc::Receiver<InstanceKey>) {
        // However the task ends, by a panic too, nobody may go on waiting for it.
        let _finish = Finish(Arc::clone(&self.shared));
        let mut abandoned = None;
        let mut input = Input::Tick;
        loop {
            let deadline = self.step(input);
            let users = *self.shared.users();
            abandoned = (users == 0).then(|| abandoned.unwrap_or_else(Instant::now));
            let lingers_until = abandoned.map(|since| since + self.linger);
            input = tokio::select! {
                () = self.cancel.cancelled() => break,
                () = sleep_until_some(lingers_until) => {
                    if self.try_finish() {
                        break;
                    }
                    Input::Tick
                }
                () = self.shared.users_changed.notified() => Input::Tick,
                next = next_items(&mut self.watch) => next,
                Some(done) = self.jobs.next() => done,
                Some(key) = failures.recv() => Input::Failed(key),
                () = sleep_until_some(deadline) => Input::Tick,
            };
        }
        self.watch = None;
        self.save_the_rest().await;
    }

    /// Takes one input to the state, carries out what it says, and returns when to wake it.
    fn step(&mut self, input: Input) -> Option<Instant> {
        let now = moment(&*self.shared.clock);
        let shared = Arc::clone(&self.shared);
        let service = shared.target.service();
        note(service, &input);
        let mut hub = shared.hub();
        let before = (hub.state.told(), blunder(hub.state.status()).is_some());
        let actions = hub.state.step(input, now);
        let mut events = Vec::new();
        for action in actions {
            match action {
                Action::Open { session, cursor } => self.open(session, cursor),
                Action::Close => self.watch = None,
                Action::Lookup { id, read } => self.lookup(id, read),
                Action::LoadDisk => self.load(now),
                Action::SaveDisk(stored) => {
                    if let Some(file) = self.file.clone() {
                        self.jobs.push(save(file, stored).map(Input::DiskSaved).boxed());
                    }
                }
                Action::Apply(change) => {
                    metrics::view_updated(service);
                    hub.sinks.retain(|sink| sink.upgrade().map(|sink| sink.apply(&change)).is_some());
                }
                Action::Emit(event) => events.push(event),
            }
        }
        // Sinks first, then the status: who sees it loaded finds the snapshot there.
        let status = Arc::new(hub.state.status().clone());
        let after = (hub.state.told(), blunder(&status).is_some());
        let held_back = hub.sinks.iter().filter_map(Weak::upgrade).filter_map(|sink| sink.tick()).min();
        let deadline = hub.state.next_deadline(now).into_iter().chain(held_back).min();
        let instances = hub.state.census();
        drop(hub);
        self.levels.tell(
            service,
            ViewFigures {
                state: after.0,
                instances,
                held: status.held,
                rejected: status.rejected,
                proof: status.proof.map(|proof| proof.wall),
            },
        );
        shared.status.store(status);
        for event in events {
            log(&event);
            metrics::view_event(service, &event);
            shared.emit(event);
        }
        if before.0 != after.0 {
            tracing::info!(from = %before.0, to = %after.0, "the view changed its state");
        }
        shared.changed.send_if_modified(|count| {
            *count += u64::from(before != after);
            before != after
        });
        deadline
    }

    fn open(&mut self, session: u64, cursor: Option<Cursor>) {
        // A backend that panics is one failed session, not a dead view.
        let opened =
            std::panic::catch_unwind(AssertUnwindSafe(|| self.discovery.watch(&self.shared.target, cursor)));
        let stream: WatchStream = match opened {
            Ok(stream) => stream,
            Err(panic) => futures_util::stream::iter([Err(panicked(&*panic))]).boxed(),
        };
        self.watch = Some((session, stream.ready_chunks(COALESCED)));
    }

    fn lookup(&mut self, id: u64, read: Read) {
        let (discovery, relists) = (Arc::clone(&self.discovery), Arc::clone(&self.relists));
        let target = self.shared.target.clone();
        self.jobs.push(
            async move {
                let answer = lookup(&*discovery, &relists, &target, &read);
                let answer = AssertUnwindSafe(answer).catch_unwind().await;
                Input::Listed { id, answer: answer.unwrap_or_else(|panic| Err(panicked(&*panic))) }
            }
            .boxed(),
        );
    }

    fn load(&mut self, now: Moment) {
        if let Some(file) = self.file.clone() {
            self.jobs.push(async move { Input::DiskLoaded(file.load(now.wall).await) }.boxed());
        }
    }

    /// Ends for want of users, unless one came just now.
    fn try_finish(&self) -> bool {
        let users = self.shared.users();
        if *users == 0 {
            self.shared.finish();
        }
        *users == 0
    }

    async fn save_the_rest(self) {
        let unsaved = self.shared.hub().state.unsaved();
        if let (Some(file), Some(stored)) = (self.file, unsaved)
            && timeout(LAST_SAVE_WITHIN, save(file, stored)).await.is_err()
        {
            tracing::warn!("the last save of the view took too long");
        }
    }
}

async fn lookup(
    discovery: &dyn Discovery,
    relists: &Semaphore,
    target: &Target,
    read: &Read,
) -> Result<Listing, Error> {
    let _permit = relists
        .acquire()
        .await
        .map_err(|e| Error::new(ErrorKind::Closed, "the client is closed").with_source(e))?;
    timeout(LOOKUP_WITHIN, discovery.lookup(target, read)).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Timeout, format!("no answer to the lookup of {}", target.service())))
    })
}

async fn save(file: DiskFile, stored: crate::disk::Stored) -> bool {
    let saved = file.save(stored).await;
    if let Err(error) = &saved {
        tracing::warn!(%error, "saving views is off for a minute");
    }
    saved.is_ok()
}

/// The next items of the session; never ready without one.
async fn next_items(watch: &mut Option<(u64, ReadyChunks<WatchStream>)>) -> Input {
    let Some((session, stream)) = watch else { return std::future::pending().await };
    let session = *session;
    match AssertUnwindSafe(stream.next()).catch_unwind().await {
        Ok(Some(items)) => Input::Watched { session, items },
        Ok(None) => {
            *watch = None;
            Input::Ended { session }
        }
        Err(panic) => {
            *watch = None;
            Input::Watched { session, items: vec![Err(panicked(&*panic))] }
        }
    }
}

async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let message =
        panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Protocol, format!("the backend panicked: {}", message.unwrap_or("no message")))
}

/// Counts what was reported.
fn note(service: &ServiceName, input: &Input) {
    match input {
        Input::Watched { items, .. } => {
            let errors = items.iter().filter_map(|item| item.as_ref().err());
            errors.for_each(|error| metrics::watch_broke(service, Some(error.kind())));
        }
        Input::Ended { .. } => metrics::watch_broke(service, None),
        Input::Listed { answer, .. } => {
            metrics::relisted(service, answer.as_ref().map(|_| ()).map_err(Error::kind));
        }
        Input::DiskSaved(saved) => metrics::view_saved(service, *saved),
        Input::Tick | Input::DiskLoaded(_) | Input::Failed(_) => {}
    }
}

fn log(event: &ViewEvent) {
    match event {
        ViewEvent::SuspiciousShrink { from, to, held } => {
            tracing::warn!(from, to, held, "many instances vanished at once; they are held");
        }
        ViewEvent::ShrinkApplied { removed } => tracing::info!(removed, "held instances were removed"),
        ViewEvent::Rejected { count, .. } => tracing::warn!(count, "records were left out of the view"),
        ViewEvent::Fresh
        | ViewEvent::Stale
        | ViewEvent::Expired
        | ViewEvent::SourceDegraded
        | ViewEvent::Lagged { .. }
        // Those of an upstream, which logs them itself.
        | ViewEvent::Ejected { .. }
        | ViewEvent::Restored { .. }
        | ViewEvent::PanicBegan { .. }
        | ViewEvent::PanicEnded => {}
    }
}

struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}
