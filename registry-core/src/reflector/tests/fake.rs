//! A scripted registry and a sink that remembers.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::super::{Reflector, ReflectorConfig, ReflectorParts};
use crate::{
    Error, ErrorKind, ManualClock,
    backend::{Capabilities, Cursor, Discovery, Event, Listing, Read, WatchStream},
    disk::DiskView,
    model::{Instance, InstanceKey, Target},
    view::{ViewChange, ViewSink},
};

type Item = Result<Event, Error>;

/// Each `watch` takes the next script; without one it fails like an unreachable registry.
#[derive(Debug, Default)]
pub(super) struct Fake {
    scripts: Mutex<VecDeque<mpsc::Receiver<Item>>>,
    pub(super) cursors: Mutex<Vec<Option<Cursor>>>,
    pub(super) panics: Mutex<usize>,
    pub(super) looking: AtomicUsize,
    pub(super) most_looking: AtomicUsize,
    pub(super) lookups: AtomicUsize,
}

impl Fake {
    /// Prepares a session and returns the end that feeds it; dropping that ends the session.
    pub(super) fn session(&self) -> mpsc::Sender<Item> {
        let (sender, receiver) = mpsc::channel(1 << 16);
        self.scripts.lock().unwrap().push_back(receiver);
        sender
    }

    pub(super) fn sessions(&self) -> usize {
        self.cursors.lock().unwrap().len()
    }
}

#[async_trait]
impl Discovery for Fake {
    /// Never answers: the core's deadline has to end it.
    async fn lookup(&self, _target: &Target, _read: &Read) -> Result<Listing, Error> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let looking = Looking::start(self);
        self.most_looking.fetch_max(self.looking.load(Ordering::SeqCst), Ordering::SeqCst);
        std::future::pending::<()>().await;
        drop(looking);
        Ok(Listing::default())
    }

    fn watch(&self, _target: &Target, cursor: Option<Cursor>) -> WatchStream {
        self.cursors.lock().unwrap().push(cursor);
        let mut panics = self.panics.lock().unwrap();
        if *panics > 0 {
            *panics -= 1;
            drop(panics);
            panic!("a bug of the backend");
        }
        match self.scripts.lock().unwrap().pop_front() {
            Some(script) => futures_util::stream::unfold(script, |mut script| async {
                script.recv().await.map(|item| (item, script))
            })
            .boxed(),
            None => {
                let down = Error::new(ErrorKind::Unavailable, "connection refused");
                futures_util::stream::iter([Err(down)]).boxed()
            }
        }
    }
}

/// Counts one lookup as running until it is dropped.
struct Looking<'a>(&'a Fake);

impl<'a> Looking<'a> {
    fn start(fake: &'a Fake) -> Self {
        fake.looking.fetch_add(1, Ordering::SeqCst);
        Self(fake)
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.looking.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Folds what it is told and insists that it makes sense.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) view: Mutex<HashMap<InstanceKey, Arc<Instance>>>,
    pub(super) applied: AtomicUsize,
}

impl Memory {
    pub(super) fn len(&self) -> usize {
        self.view.lock().unwrap().len()
    }

    pub(super) fn weak(self: &Arc<Self>) -> Weak<dyn ViewSink> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }
}

impl ViewSink for Memory {
    fn apply(&self, change: &ViewChange) {
        self.applied.fetch_add(1, Ordering::SeqCst);
        let mut view = self.view.lock().unwrap();
        for instance in &change.upserts {
            view.insert(instance.key(), Arc::clone(instance));
        }
        for key in &change.removals {
            assert!(view.remove(key).is_some(), "{key} was never there");
        }
    }
}

/// What a client would hold.
pub(super) struct Rig {
    pub(super) fake: Arc<Fake>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) tasks: TaskTracker,
    pub(super) cancel: CancellationToken,
    relists: Arc<Semaphore>,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self {
            fake: Arc::default(),
            clock: Arc::new(ManualClock::new()),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
            relists: Arc::new(Semaphore::new(3)),
        }
    }

    pub(super) fn spawn(&self) -> Reflector {
        self.spawn_with(ReflectorConfig::default(), None)
    }

    pub(super) fn spawn_with(&self, config: ReflectorConfig, disk: Option<DiskView>) -> Reflector {
        let clock: Arc<ManualClock> = Arc::clone(&self.clock);
        let parts = ReflectorParts {
            clock,
            relists: Arc::clone(&self.relists),
            disk,
            tasks: self.tasks.clone(),
            cancel: self.cancel.clone(),
            runtime: tokio::runtime::Handle::current(),
        };
        let config = ReflectorConfig { seed: Some(1), ..config };
        let discovery: Arc<Fake> = Arc::clone(&self.fake);
        let target = Target::try_from("orders").unwrap();
        Reflector::spawn(target, discovery, &Capabilities::session(), config, parts)
    }
}

/// Lets time pass until `holds`, at most a virtual hour.
pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..360_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never held");
}
