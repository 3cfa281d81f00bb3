//! Row 18: an instance that comes and goes five times a second, seen through damping.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use registry_core::{
    Attempt, Client, Damping, Discover, Instance, InstanceKey, Status, Target, Upstream,
    backend::{Change, Cursor, Event, Evidence, SourceId},
};
use registry_testkit::faults::{
    History, Observation, Reader, Recorders, Resources, Tolerance, UpstreamReader, d1_never_wiped,
    d4_event_algebra, h2_bounded,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    scripted::Stage,
    support::{client_over, figure, instance, millis, secs},
    world::READER,
};

const EPOCH: Duration = secs(10);
/// Divides the epoch: flaps fall on the very instant in which what is held back is due.
const EVERY: Duration = millis(200);
const STEADY: usize = 20;
/// Of the row; enough for ten epochs.
const FLAPS: usize = 500;

/// A registry of many steady instances and one that flaps, and a reader of it.
struct Show {
    session: mpsc::Sender<Result<Event, registry_core::Error>>,
    revision: u64,
    flapping: Arc<Instance>,
    is_up: Arc<AtomicBool>,
    upstream: Upstream,
    /// When the reader was told of an instance that came, went or changed.
    updates: Arc<Mutex<Vec<Instant>>>,
    history: History,
    _recorders: Recorders,
    _client: Client,
}

impl Show {
    async fn open(damping: Damping) -> Self {
        fastrand::seed(18);
        let stage = Stage::new();
        let session = stage.session();
        let client = client_over(stage.backend()).await;
        let flapping = Arc::new(instance("orders", "flapping"));
        let mut first = vec![Arc::clone(&flapping)];
        first.extend((0..STEADY).map(|n| Arc::new(instance("orders", &format!("steady{n}")))));
        session.try_send(Ok(event(Change::Reset(first), 1))).unwrap();
        let discover = Discover::new(Target::try_from("orders").unwrap()).damping(damping);
        let upstream = client.discover_with(discover).await.unwrap();
        let history = History::new();
        let reader: Arc<dyn Reader> = Arc::new(UpstreamReader::new(READER, upstream.clone()));
        let mut recorders = Recorders::new(&history);
        recorders.changes(&reader);
        recorders.views_every(&reader, millis(50));
        let updates = Arc::<Mutex<Vec<_>>>::default();
        let (mut changes, told) = (upstream.changes(), Arc::clone(&updates));
        changes.next().await.unwrap();
        tokio::spawn(async move {
            while let Some(update) = changes.next().await {
                // That the instance is ejected, as calls to it fail, is no news of the registry's.
                if !update.diff.is_empty() {
                    told.lock().unwrap().push(Instant::now());
                }
            }
        });
        let is_up = Arc::new(AtomicBool::new(true));
        let _recorders = recorders;
        Self {
            session,
            revision: 1,
            flapping,
            is_up,
            upstream,
            updates,
            history,
            _recorders,
            _client: client,
        }
    }

    fn send(&mut self, change: Change) {
        self.revision += 1;
        self.session.try_send(Ok(event(change, self.revision))).unwrap();
    }

    /// It disappears if it is there, and the other way round.
    async fn flap(&mut self) {
        let is_up = !self.is_up.fetch_xor(true, Ordering::SeqCst);
        let change = if is_up {
            Change::Upsert(Arc::clone(&self.flapping))
        } else {
            Change::Remove(self.flapping.key())
        };
        self.send(change);
        sleep(EVERY).await;
    }

    fn shows(&self, key: &InstanceKey) -> bool {
        self.upstream.snapshot().get(&key.id).is_some()
    }

    /// The most updates within any ten seconds.
    fn most(&self) -> usize {
        let updates = self.updates.lock().unwrap();
        let within = |from: &Instant| updates.iter().filter(|at| *at >= from && **at - *from < EPOCH).count();
        updates.iter().map(within).max().unwrap_or(0)
    }
}

fn event(change: Change, revision: u64) -> Event {
    let cursor = Some(Cursor::new(revision.to_string()));
    Event::new(vec![change], cursor, Evidence::at(SourceId::new("one"), revision))
}

/// Calls the service until dropped: how many calls there were, and how many attempts hit the instance while it was down.
#[derive(Default)]
struct Calls {
    all: AtomicUsize,
    hit: AtomicUsize,
    failed: AtomicUsize,
}

impl Calls {
    async fn go_on(self: Arc<Self>, upstream: Upstream, is_up: Arc<AtomicBool>, down: InstanceKey) {
        loop {
            let result = upstream.call(|instance| {
                let refuses = instance.key() == down && !is_up.load(Ordering::SeqCst);
                self.hit.fetch_add(usize::from(refuses), Ordering::SeqCst);
                async move { if refuses { Err(Attempt::retry("refused")) } else { Ok(()) } }
            });
            let failed = result.await.is_err();
            self.all.fetch_add(1, Ordering::SeqCst);
            self.failed.fetch_add(usize::from(failed), Ordering::SeqCst);
            sleep(millis(7)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_18_a_flapping_instance_is_published_twice_per_ten_seconds_and_costs_no_call() {
    let mut show = Show::open(Damping::Epoch(EPOCH)).await;
    let calls = Arc::new(Calls::default());
    let (upstream, is_up) = (show.upstream.clone(), Arc::clone(&show.is_up));
    let caller = tokio::spawn(Arc::clone(&calls).go_on(upstream, is_up, show.flapping.key()));
    show.history.record(Observation::Resources(Resources::now()));
    let since = Instant::now();
    for _ in 0..FLAPS {
        show.flap().await;
    }
    let first = show.updates.lock().unwrap()[0] - since;
    assert!(first < millis(10), "the first removal is told at once, not after {first:?}");
    let most = show.most();
    assert!(most <= 2, "{most} updates within 10 s");
    let told = show.updates.lock().unwrap().len();
    assert!(told >= FLAPS / 50, "the newest state is told each epoch: {told}");

    // It stays away: at last the view shows that, and nothing else happens.
    if show.is_up.load(Ordering::SeqCst) {
        show.flap().await;
    }
    let still = Instant::now();
    while show.shows(&show.flapping.key()) {
        sleep(millis(10)).await;
        assert!(still.elapsed() <= EPOCH, "D2: the last word is told within an epoch");
    }
    let right = still.elapsed();
    sleep(6 * EPOCH).await;
    assert!(!show.shows(&show.flapping.key()));
    show.history.record(Observation::Resources(Resources::now()));
    caller.abort();

    let count = |n: &AtomicUsize| n.load(Ordering::SeqCst);
    let (all, hit, failed) = (count(&calls.all), count(&calls.hit), count(&calls.failed));
    assert!(hit * (STEADY + 1) <= all, "L1: {hit} of {all} attempts hit the instance while it was down");
    assert_eq!(failed, 0, "L1: every call found another instance");
    d1_never_wiped(&show.history, READER).unwrap();
    d4_event_algebra(&show.history, READER).unwrap();
    h2_bounded(&show.history, Tolerance::tasks_only()).unwrap();
    figure(18, "flaps of one of 21 instances", FLAPS);
    figure(18, "most updates within 10 s", most);
    figure(18, "attempts in a thousand that hit it while it was down, calls failed 0:", 1_000 * hit / all);
    figure(18, "reader right after", right);
}

#[tokio::test(start_paused = true)]
async fn row_18_a_status_that_flaps_is_damped_and_a_farewell_is_heard_at_once() {
    let mut show = Show::open(Damping::Epoch(EPOCH)).await;
    let with = |show: &Show, status| {
        Change::Upsert(Arc::new(show.flapping.to_builder().status(status).build().unwrap()))
    };
    for n in 0..200 {
        let change = with(&show, if n % 2 == 0 { Status::Down } else { Status::Serving });
        show.send(change);
        sleep(EVERY).await;
    }
    let most = show.most();
    assert!(most <= 2, "{most} updates within 10 s");
    let change = with(&show, Status::Draining);
    show.send(change);
    sleep(millis(1)).await;
    let snapshot = show.upstream.snapshot();
    assert_eq!(snapshot.get(show.flapping.id()).unwrap().status(), Status::Draining);
    figure(18, "flapping status, most updates within 10 s", most);
}

#[tokio::test(start_paused = true)]
async fn row_18_without_damping_every_flap_is_an_update() {
    let mut show = Show::open(Damping::Off).await;
    for _ in 0..FLAPS / 5 {
        show.flap().await;
    }
    let most = show.most();
    assert!(most >= 40, "{most}: the rows above prove nothing");
    figure(18, "without damping, most updates within 10 s", most);
}
