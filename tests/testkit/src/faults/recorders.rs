//! Tasks that look and write down what they see, for as long as they are held.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::StreamExt;
use registry_core::{
    Discovery, InstanceKey, Target,
    backend::{Change, Cursor},
};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    History,
    fleet::{Fleet, Reader},
    observation::{Observation, Records},
};

/// How often statuses are asked, 20 ms: short against every deadline of a registration.
pub const STATUS_EVERY: Duration = Duration::from_millis(20);
/// How often a reader looks and picks, 5 ms: short against every outage, long against a pick.
pub const VIEW_EVERY: Duration = Duration::from_millis(5);
/// How often the registry itself is asked, 50 ms: what can be had of a real server without loading it.
pub const TRUTH_EVERY: Duration = Duration::from_millis(50);
/// The pause before a watch that has failed is opened again.
const REOPEN: Duration = Duration::from_millis(50);

/// Recording tasks of one history; dropping this ends them. A status or view that is asked costs memory only.
#[derive(Debug)]
pub struct Recorders {
    history: History,
    tasks: JoinSet<()>,
}

impl Recorders {
    /// No task yet.
    #[must_use]
    pub fn new(history: &History) -> Self {
        Self { history: history.clone(), tasks: JoinSet::new() }
    }

    /// Samples what a fleet claims of everything it keeps registered, every 20 ms.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as all of these.
    pub fn statuses(&mut self, fleet: &Arc<dyn Fleet>) {
        self.statuses_of(fleet, |fleet: &dyn Fleet| fleet.keys(), STATUS_EVERY);
    }

    /// Samples what a fleet claims of some registrations.
    pub fn statuses_of(
        &mut self,
        fleet: &Arc<dyn Fleet>,
        which: impl Fn(&dyn Fleet) -> Vec<InstanceKey> + Send + Sync + 'static,
        every: Duration,
    ) {
        let (history, fleet) = (self.history.clone(), Arc::clone(fleet));
        self.tasks.spawn(each(every, move || {
            for key in which(&*fleet) {
                // Asked before the clock: the answer may only become older.
                if let Some(phase) = fleet.phase(&key) {
                    let client = Arc::clone(fleet.name());
                    history.record(Observation::Status { client, key, phase });
                }
            }
        }));
    }

    /// Looks at a reader's view and picks, every 5 ms.
    pub fn views(&mut self, reader: &Arc<dyn Reader>) {
        self.views_every(reader, VIEW_EVERY);
    }

    /// Looks at a reader's view and picks.
    pub fn views_every(&mut self, reader: &Arc<dyn Reader>, every: Duration) {
        let (history, reader) = (self.history.clone(), Arc::clone(reader));
        self.tasks.spawn(each(every, move || {
            let before = Instant::now();
            let ok = reader.pick().is_ok();
            let took = before.elapsed();
            history.record(Observation::Pick { reader: Arc::clone(reader.name()), ok, took });
            history.record(Observation::View(reader.view()));
        }));
    }

    /// Asks the registry itself, every 50 ms; `ask` gives `None` when it can't be asked.
    pub fn truths<F, Asking>(&mut self, ask: F)
    where
        F: Fn() -> Asking + Send + Sync + 'static,
        Asking: Future<Output = Option<Records>> + Send,
    {
        self.truths_every(TRUTH_EVERY, ask);
    }

    /// Asks the registry itself.
    pub fn truths_every<F, Asking>(&mut self, every: Duration, ask: F)
    where
        F: Fn() -> Asking + Send + Sync + 'static,
        Asking: Future<Output = Option<Records>> + Send,
    {
        let history = self.history.clone();
        self.tasks.spawn(async move {
            loop {
                let asked = history.now();
                if let Some(records) = ask().await {
                    history.record_answer(asked, history.now(), Observation::Truth(records));
                }
                sleep(every).await;
            }
        });
    }

    /// Writes down a reader's changes.
    pub fn changes(&mut self, reader: &Arc<dyn Reader>) {
        let (history, reader) = (self.history.clone(), Arc::clone(reader));
        self.tasks.spawn(async move {
            while let Some(update) = reader.changed().await {
                let records = super::records(update.snapshot.iter());
                let (reader, diff) = (Arc::clone(reader.name()), Arc::new(update.diff));
                history.record(Observation::Change { reader, diff, records });
            }
        });
    }

    /// Watches through a backend, as the core does: one session after the other, each resumed where the last ended.
    pub fn watch(&mut self, watcher: &str, discovery: Arc<dyn Discovery>, target: Target) {
        let (history, watcher): (_, Arc<str>) = (self.history.clone(), watcher.into());
        self.tasks.spawn(async move {
            let mut cursor: Option<Cursor> = None;
            for session in 1.. {
                let mut events = discovery.watch(&target, cursor.take());
                while let Some(Ok(event)) = events.next().await {
                    cursor = event.cursor.or(cursor);
                    let changes: Arc<[Change]> = event.changes.into();
                    let (revision, source) = (event.evidence.revision, event.evidence.source);
                    let watcher = Arc::clone(&watcher);
                    history.record(Observation::Watched { watcher, session, revision, source, changes });
                }
                sleep(REOPEN).await;
            }
        });
    }

    /// Runs another recorder, as long as the others.
    pub fn other(&mut self, recorder: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(recorder);
    }

    /// Ends all and waits for it.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn each(every: Duration, mut look: impl FnMut() + Send) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look();
    }
}
