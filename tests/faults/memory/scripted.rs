//! What the memory registry's own faults don't offer: a link with a fate for every single call, and watch sessions
//! whose events are written by hand.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, TryFutureExt};
use registry_core::{
    Backend, Capabilities, Discovery, Error, ErrorKind, Instance, InstanceKey, Lease, MemoryRegistry,
    Registry, Target,
    backend::{
        Cursor, Event, Grant, Lifetime, Listing, Outcome, Presence, Publish, Read, Renewal, WatchStream,
    },
    memory::Operation,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

/// What becomes of one call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// How long the request travels. It arrives even if nobody waits for its answer any more.
    pub(crate) request: Duration,
    /// The request gets lost on its way: no effect, and never an answer.
    pub(crate) is_lost: bool,
    /// Answered with this instead of being carried out.
    pub(crate) refused: Option<Error>,
    /// How long the answer travels; [`Duration::MAX`] is for ever.
    pub(crate) answer: Duration,
}

/// One call, as the link sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) at: Instant,
    pub(crate) operation: Operation,
}

type Script = Box<dyn Fn(Ask) -> Fate + Send + Sync>;

/// The way from one client to a memory registry. Clones are the same way.
#[derive(Clone)]
pub(crate) struct Link {
    registry: MemoryRegistry,
    state: Arc<LinkState>,
}

struct LinkState {
    script: Mutex<Script>,
    asked: Mutex<Vec<Ask>>,
    waiting: AtomicUsize,
    most_waiting: AtomicUsize,
}

impl Link {
    pub(crate) fn new(
        registry: &MemoryRegistry,
        script: impl Fn(Ask) -> Fate + Send + Sync + 'static,
    ) -> Self {
        let state = LinkState {
            script: Mutex::new(Box::new(script)),
            asked: Mutex::default(),
            waiting: AtomicUsize::new(0),
            most_waiting: AtomicUsize::new(0),
        };
        Self { registry: registry.clone(), state: Arc::new(state) }
    }

    /// A link on which nothing happens.
    pub(crate) fn clear(registry: &MemoryRegistry) -> Self {
        Self::new(registry, |_| Fate::default())
    }

    pub(crate) fn set(&self, script: impl Fn(Ask) -> Fate + Send + Sync + 'static) {
        *lock(&self.state.script) = Box::new(script);
    }

    pub(crate) fn backend(&self) -> Backend {
        let mut backend = self.registry.backend();
        backend.registry = Some(Arc::new(self.clone()));
        backend.discovery = Some(Arc::new(self.clone()));
        backend
    }

    /// Every call so far, in order.
    pub(crate) fn asked(&self) -> Vec<Ask> {
        lock(&self.state.asked).clone()
    }

    /// When the calls of one operation were made.
    pub(crate) fn times(&self, operation: Operation) -> Vec<Instant> {
        lock(&self.state.asked).iter().filter(|ask| ask.operation == operation).map(|ask| ask.at).collect()
    }

    /// How many calls somebody waits for now, and the most there ever were.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.state.waiting.load(Ordering::SeqCst), self.state.most_waiting.load(Ordering::SeqCst))
    }

    /// Lets a call travel. Its effect is in a task of its own, so that it comes about although nobody waits.
    async fn travel<T: Send + 'static>(
        &self,
        operation: Operation,
        act: impl Future<Output = T> + Send + 'static,
        refuse: impl FnOnce(Error) -> T + Send,
    ) -> T {
        let ask = Ask { at: Instant::now(), operation };
        lock(&self.state.asked).push(ask);
        let _waiting = Waiting::start(&self.state);
        let fate = (lock(&self.state.script))(ask);
        if fate.is_lost {
            return std::future::pending().await;
        }
        if let Some(error) = fate.refused {
            sleep(fate.request).await;
            return refuse(error.with_context("memory", operation.as_str()));
        }
        let request = fate.request;
        let effect = tokio::spawn(async move {
            if !request.is_zero() {
                sleep(request).await;
            }
            act.await
        });
        let answer = effect.await.expect("the memory registry doesn't panic");
        match fate.answer {
            Duration::ZERO => {}
            Duration::MAX => std::future::pending().await,
            late => sleep(late).await,
        }
        answer
    }
}

/// Counts one call as waited for until it is dropped.
struct Waiting<'a>(&'a LinkState);

impl<'a> Waiting<'a> {
    fn start(state: &'a LinkState) -> Self {
        let now = state.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_waiting.fetch_max(now, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Registry for Link {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        let (registry, grant) = (self.registry.clone(), *grant);
        let inner = self
            .travel(Operation::Grant, async move { Registry::grant(&registry, &grant).await }, Err)
            .await?;
        Ok(Arc::new(LinkedLease { inner, link: self.clone() }))
    }
}

#[async_trait]
impl Discovery for Link {
    async fn lookup(&self, target: &Target, read: &Read) -> Result<Listing, Error> {
        let (registry, target, read) = (self.registry.clone(), target.clone(), read.clone());
        let act = async move { registry.lookup(&target, &read).await };
        self.travel(Operation::Lookup, act, Err).await
    }

    fn watch(&self, target: &Target, cursor: Option<Cursor>) -> WatchStream {
        let (link, target) = (self.clone(), target.clone());
        let open = async move {
            link.travel(Operation::Watch, std::future::ready(Ok(())), Err).await?;
            Ok(Discovery::watch(&link.registry, &target, cursor))
        };
        open.try_flatten_stream().boxed()
    }
}

struct LinkedLease {
    inner: Arc<dyn Lease>,
    link: Link,
}

#[async_trait]
impl Lease for LinkedLease {
    fn lifetime(&self) -> Lifetime {
        self.inner.lifetime()
    }

    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        let (inner, records) = (Arc::clone(&self.inner), records.to_vec());
        let many = records.len();
        let act = async move { inner.publish(&records).await };
        self.link.travel(Operation::Publish, act, |error| vec![Err(error); many]).await
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        let (inner, instances) = (Arc::clone(&self.inner), instances.to_vec());
        let many = instances.len();
        let act = async move { inner.withdraw(&instances).await };
        self.link.travel(Operation::Withdraw, act, |error| vec![Err(error); many]).await
    }

    async fn renew(&self, deadline: Instant) -> Result<Renewal, Error> {
        let inner = Arc::clone(&self.inner);
        self.link.travel(Operation::Renew, async move { inner.renew(deadline).await }, Err).await
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        let (inner, keys) = (Arc::clone(&self.inner), keys.to_vec());
        self.link.travel(Operation::Inspect, async move { inner.inspect(&keys).await }, Err).await
    }

    async fn revoke(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        self.link.travel(Operation::Revoke, async move { inner.revoke().await }, Err).await
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl fmt::Debug for LinkedLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkedLease")
    }
}

type Item = Result<Event, Error>;

/// A registry that can only be watched: each session plays what the test sends to it.
#[derive(Debug, Default)]
pub(crate) struct Stage {
    sessions: Mutex<VecDeque<mpsc::Receiver<Item>>>,
    opened: Mutex<Vec<Option<Cursor>>>,
    listing: Mutex<Option<Listing>>,
}

impl Stage {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn backend(self: &Arc<Self>) -> Backend {
        let discovery: Arc<Self> = Arc::clone(self);
        Backend::new("scripted", Capabilities::session()).with_discovery(discovery)
    }

    /// Prepares the next session, of at most 1,024 events that wait; dropping its end here ends it.
    pub(crate) fn session(&self) -> mpsc::Sender<Item> {
        let (sender, receiver) = mpsc::channel(1_024);
        lock(&self.sessions).push_back(receiver);
        sender
    }

    /// What lookups answer from now on; `None` fails them.
    pub(crate) fn answer(&self, listing: Option<Listing>) {
        *lock(&self.listing) = listing;
    }

    /// The cursors that the sessions were asked to resume from.
    pub(crate) fn opened(&self) -> Vec<Option<Cursor>> {
        lock(&self.opened).clone()
    }
}

#[async_trait]
impl Discovery for Stage {
    async fn lookup(&self, _target: &Target, _read: &Read) -> Result<Listing, Error> {
        lock(&self.listing).clone().ok_or_else(down)
    }

    fn watch(&self, _target: &Target, cursor: Option<Cursor>) -> WatchStream {
        lock(&self.opened).push(cursor);
        match lock(&self.sessions).pop_front() {
            Some(session) => futures_util::stream::unfold(session, |mut session| async {
                session.recv().await.map(|item| (item, session))
            })
            .boxed(),
            None => futures_util::stream::iter([Err(down())]).boxed(),
        }
    }
}

fn down() -> Error {
    Error::new(ErrorKind::Unavailable, "connection refused")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
