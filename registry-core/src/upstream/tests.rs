use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::*;
use crate::{
    Ejection, Instance, InstanceKey, Selector, ViewState,
    balance::{Balance, Balancer, Failure, Members, Outcome, PickContext, Picker, Slot, Ticket},
    view::{ViewChange, ViewConfig},
};

/// A source that tests drive.
#[derive(Default)]
pub(super) struct Feed {
    pub(super) refuses: AtomicBool,
    started: AtomicUsize,
    views: Mutex<Vec<Weak<dyn ViewSink>>>,
    failed: Mutex<Vec<InstanceKey>>,
}

impl Source for Feed {
    fn attach(&self, view: Weak<dyn ViewSink>) {
        self.views.lock().unwrap().push(view);
    }

    fn fail(&self, key: &InstanceKey) {
        self.failed.lock().unwrap().push(key.clone());
    }

    fn may_serve(&self) -> bool {
        !self.refuses.load(Ordering::SeqCst)
    }

    fn freshness(&self) -> Freshness {
        Freshness {
            state: ViewState::Stale,
            age: Some(Duration::from_secs(7)),
            source: None,
            held: 0,
            rejected: 0,
            partial: false,
            last_error: None,
        }
    }

    fn events(&self) -> ViewEvents {
        ViewEvents::new(None)
    }
}

impl Feed {
    pub(super) fn apply(&self, change: &ViewChange) {
        let views = self.views.lock().unwrap();
        assert!(!views.is_empty(), "nothing is attached");
        views.iter().filter_map(Weak::upgrade).for_each(|view| view.apply(change));
    }

    pub(super) fn upsert(&self, ids: impl IntoIterator<Item = u32>) {
        let upserts = ids.into_iter().map(|id| instance(id, Status::Serving)).collect();
        self.apply(&ViewChange { upserts, ..ViewChange::default() });
    }

    pub(super) fn remove(&self, ids: impl IntoIterator<Item = u32>) {
        let removals = ids.into_iter().map(key).collect();
        self.apply(&ViewChange { removals, ..ViewChange::default() });
    }
}

pub(super) fn instance(id: u32, status: Status) -> Arc<Instance> {
    let builder = Instance::builder("orders").id(format!("i{id}")).endpoint("http://10.0.0.1:80");
    Arc::new(builder.status(status).build().unwrap())
}

pub(super) fn key(id: u32) -> InstanceKey {
    instance(id, Status::Serving).key()
}

/// An upstream that hasn't started.
pub(super) fn lazy(balance: &Balance) -> (Upstream, Arc<Feed>) {
    lazy_refusing(balance, false)
}

pub(super) fn lazy_refusing(balance: &Balance, expired: bool) -> (Upstream, Arc<Feed>) {
    over(View::new(Selector::new(), balance), expired)
}

pub(super) fn upstream_ejecting(
    ejection: &Ejection,
    ids: impl IntoIterator<Item = u32>,
) -> (Upstream, Arc<Feed>) {
    let config = ViewConfig { ejection: ejection.clone(), ..ViewConfig::default() };
    let (upstream, feed) = over(View::with(config), false);
    upstream.start();
    feed.upsert(ids);
    (upstream, feed)
}

fn over(view: View, expired: bool) -> (Upstream, Arc<Feed>) {
    let feed = Arc::new(Feed::default());
    let source = Arc::clone(&feed);
    let view = Arc::new(view);
    let upstream = Upstream::new(Target::try_from("orders").unwrap(), view, expired, move || {
        source.started.fetch_add(1, Ordering::SeqCst);
        Arc::<Feed>::clone(&source)
    });
    (upstream, feed)
}

pub(super) fn upstream_of(ids: impl IntoIterator<Item = u32>) -> (Upstream, Arc<Feed>) {
    let (upstream, feed) = lazy(&Balance::default());
    upstream.start();
    feed.upsert(ids);
    (upstream, feed)
}

#[test]
fn handles_go_everywhere() {
    fn everywhere<T: Send + Sync + 'static>() {}
    everywhere::<Upstream>();
    everywhere::<Picked>();
    everywhere::<Changes>();
    everywhere::<CallError<std::io::Error>>();
}

#[test]
fn a_lazy_upstream_starts_once_at_its_first_use_and_says_that_it_is_not_ready() {
    let (upstream, feed) = lazy(&Balance::default());
    assert_eq!(feed.started.load(Ordering::SeqCst), 0);
    for _ in 0..3 {
        let error = upstream.clone().pick().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotReady);
        assert_eq!(error.to_string(), "nothing is known about orders yet; the view is stale, 7s old");
    }
    assert_eq!(feed.started.load(Ordering::SeqCst), 1);
    feed.upsert([1]);
    assert_eq!(upstream.pick().unwrap().key(), key(1));
}

#[test]
fn an_expired_view_is_refused_only_where_that_was_asked_for() {
    for refuses in [false, true] {
        let (upstream, feed) = lazy_refusing(&Balance::default(), refuses);
        upstream.start();
        feed.upsert([1]);
        assert!(upstream.pick().is_ok());
        feed.refuses.store(true, Ordering::SeqCst);
        assert_eq!(upstream.pick().err().map(|e| e.kind()), refuses.then_some(ErrorKind::NotReady));
        assert_eq!(upstream.with_pick(|_| ()).is_err(), refuses);
        assert_eq!(upstream.snapshot().len(), 1);
        feed.refuses.store(false, Ordering::SeqCst);
        assert!(upstream.pick().is_ok());
    }
}

#[test]
fn picking_from_an_empty_service_says_what_is_known() {
    let (upstream, feed) = upstream_of([1]);
    feed.remove([1]);
    let error = upstream.with_pick(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoInstance);
    assert_eq!(
        error.to_string(),
        "no instance of orders can be picked: 0 known, 0 ejected, 0 draining, 0 down; the view is stale, 7s old"
    );
}

#[test]
fn a_pick_owns_its_instance_whatever_becomes_of_the_service() {
    let (upstream, feed) = upstream_of([1]);
    let picked = upstream.pick().unwrap();
    feed.remove([1]);
    drop(upstream);
    assert_eq!(picked.key(), key(1));
    assert_eq!(picked.endpoint().port(), 80);
    picked.report(Outcome::success());
}

#[test]
fn the_view_lives_as_long_as_an_upstream_or_its_changes() {
    let (upstream, feed) = upstream_of([1]);
    let is_alive = || feed.views.lock().unwrap()[0].upgrade().is_some();
    let (picked, changes) = (upstream.pick().unwrap(), upstream.changes());
    drop(upstream);
    assert!(is_alive());
    drop(changes);
    assert!(!is_alive());
    assert_eq!(picked.key(), key(1), "a pick needs no view");
}

#[tokio::test(start_paused = true)]
async fn the_first_update_has_everything_and_a_slow_reader_gets_the_newest() {
    let (upstream, feed) = upstream_of([1, 2]);
    let mut changes = upstream.changes();
    let first = changes.next().await.unwrap();
    assert_eq!((first.diff.from, first.diff.to, first.diff.added.len()), (0, 1, 2));
    feed.upsert([3]);
    feed.upsert([4]);
    feed.remove([3, 1]);
    let second = changes.next().await.unwrap();
    assert_eq!((second.diff.from, second.diff.to), (1, 4));
    assert_eq!(second.diff.added.iter().map(|i| i.key()).collect::<Vec<_>>(), [key(4)]);
    assert_eq!(second.diff.removed.iter().map(|i| i.key()).collect::<Vec<_>>(), [key(1)]);
    assert_eq!(second.snapshot.len(), 2);
    let none = tokio::time::timeout(Duration::from_secs(60), changes.next()).await;
    assert!(none.is_err(), "nothing changed");
}

#[tokio::test(start_paused = true)]
async fn changes_wait_for_the_first_view_and_end_with_the_client() {
    let (upstream, feed) = lazy(&Balance::default());
    let mut changes = upstream.changes();
    let reader = tokio::spawn(async move {
        let first = changes.next().await.unwrap();
        assert!(first.diff.is_empty() && first.snapshot.is_empty());
        changes.next().await
    });
    feed.upsert([]);
    tokio::task::yield_now().await;
    upstream.shared.view.close();
    assert!(reader.await.unwrap().is_none());
    feed.upsert([1]);
    assert!(upstream.pick().is_ok(), "picks outlive the client");
}

#[tokio::test(start_paused = true)]
async fn ready_counts_usable_instances_only() {
    let (upstream, feed) = lazy(&Balance::default());
    let waiting = upstream.clone();
    let ready = tokio::spawn(async move { waiting.ready(2).await });
    tokio::task::yield_now().await;
    feed.upsert([1]);
    feed.apply(&ViewChange { upserts: vec![instance(2, Status::Draining)], ..ViewChange::default() });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!ready.is_finished());
    feed.upsert([2]);
    assert!(ready.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn ready_0_waits_for_the_first_view() {
    let (upstream, feed) = lazy(&Balance::default());
    assert!(upstream.ready_within(0, Duration::from_secs(5)).await.is_err());
    feed.upsert([]);
    assert!(upstream.ready(0).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn ready_gives_up_in_time_and_when_the_client_is_closed() {
    let (upstream, _feed) = upstream_of([1]);
    let error = upstream.ready_within(2, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.to_string().starts_with("orders has 1 of 2 usable instances after 5s"), "{error}");
    upstream.shared.view.close();
    assert_eq!(upstream.ready(2).await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(upstream.ready(1).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_removes_a_suspect_and_nobody_else() {
    let (upstream, feed) = upstream_of(0..2);
    let refuse = |_| async { Err::<(), _>(Attempt::retry(())) };
    let _ = upstream.call(refuse).await;
    assert!(feed.failed.lock().unwrap().is_empty());
    let suspects = Some(Arc::new(HashSet::from([key(1)])));
    feed.apply(&ViewChange { suspects, ..ViewChange::default() });
    let late = |_| async { Err::<(), _>(Attempt::retry(()).because(Failure::Timeout)) };
    let _ = upstream.call(late).await;
    assert!(feed.failed.lock().unwrap().is_empty(), "a slow instance is not a dead one");
    let _ = upstream.call(refuse).await;
    assert!(feed.failed.lock().unwrap().iter().all(|failed| *failed == key(1)));
    assert!(!feed.failed.lock().unwrap().is_empty());
}

/// Notes every begin and end.
#[derive(Debug, Default)]
pub(super) struct Observer {
    pub(super) begun: AtomicUsize,
    pub(super) ended: Mutex<Vec<(Slot, Ticket, Option<Outcome>)>>,
}

#[derive(Debug)]
struct Observing(Arc<Observer>);

#[derive(Debug)]
struct First;

impl Picker for First {
    fn pick(&self, draw: &crate::balance::Draw<'_>) -> usize {
        draw.attempt() as usize
    }
}

impl Balancer for Observing {
    fn picker(&self, _: &Members) -> Arc<dyn Picker> {
        Arc::new(First)
    }

    fn observes(&self) -> bool {
        true
    }

    fn begin(&self, _: Slot) -> Ticket {
        Ticket(self.0.begun.fetch_add(1, Ordering::SeqCst) as u64)
    }

    fn end(&self, slot: Slot, ticket: Ticket, outcome: Option<&Outcome>) {
        self.0.ended.lock().unwrap().push((slot, ticket, outcome.copied()));
    }
}

pub(super) fn observed() -> (Upstream, Arc<Observer>) {
    let observer = Arc::new(Observer::default());
    let seen = Arc::clone(&observer);
    let (upstream, feed) =
        lazy(&Balance::custom("observing", move || Arc::new(Observing(Arc::clone(&seen)))));
    upstream.start();
    feed.upsert(0..3);
    (upstream, observer)
}

#[tokio::test(start_paused = true)]
async fn every_pick_begins_and_ends_once_with_its_ticket_and_outcome() {
    let (upstream, observer) = observed();
    let ended = || std::mem::take(&mut *observer.ended.lock().unwrap());
    drop(upstream.pick().unwrap());
    upstream.pick().unwrap().report(Outcome::failure(Failure::Server));
    upstream.with_pick(|_| ()).unwrap();
    let outcomes: Vec<_> = ended().into_iter().map(|(_, ticket, outcome)| (ticket.0, outcome)).collect();
    assert_eq!(outcomes, [(0, None), (1, Some(Outcome::failure(Failure::Server))), (2, None)]);

    let second = Duration::from_secs(1);
    let mut attempt = 0;
    let answer: Result<(), CallError<()>> = upstream
        .call(|_| {
            attempt += 1;
            let fails = attempt == 1;
            async move {
                tokio::time::sleep(second).await;
                if fails { Err(Attempt::retry(())) } else { Ok(()) }
            }
        })
        .await;
    assert!(answer.is_ok());
    let (slots, outcomes): (Vec<_>, Vec<_>) = ended().into_iter().map(|(slot, _, o)| (slot, o)).unzip();
    assert_ne!(slots[0], slots[1]);
    assert_eq!(
        outcomes,
        [Outcome::failure(Failure::Connect), Outcome::success()].map(|o| Some(o.took(second)))
    );
    assert_eq!(observer.begun.load(Ordering::SeqCst), 5);
}

#[test]
fn a_pick_ends_even_if_its_closure_panics() {
    let (upstream, observer) = observed();
    let panics = std::panic::AssertUnwindSafe(|| upstream.with_pick(|_| panic!("on purpose")));
    assert!(std::panic::catch_unwind(panics).is_err());
    assert_eq!(observer.ended.lock().unwrap().len(), 1);
}

#[test]
fn the_caller_passes_what_it_knows_to_the_policy() {
    #[derive(Debug)]
    struct ByKey;
    impl Balancer for ByKey {
        fn picker(&self, _: &Members) -> Arc<dyn Picker> {
            Arc::new(Self)
        }
    }
    impl Picker for ByKey {
        fn pick(&self, draw: &crate::balance::Draw<'_>) -> usize {
            assert_eq!(draw.context().get_zone(), Some("z1"));
            draw.context().get_hash_key().unwrap() as usize
        }
    }
    let (upstream, feed) = lazy(&Balance::custom("by key", || Arc::new(ByKey)));
    upstream.start();
    feed.upsert(0..3);
    for at in 0..3 {
        let picked = upstream.pick_with(&PickContext::new().hash_key(at).zone("z1")).unwrap();
        assert_eq!(picked.key(), key(at as u32));
    }
}

#[tokio::test]
async fn a_fixed_upstream_is_ready_at_once() {
    let instances = [(*instance(1, Status::Serving)).clone(), (*instance(2, Status::Down)).clone()];
    let upstream = Upstream::fixed(Target::try_from("orders").unwrap(), instances, &Balance::default());
    assert!(upstream.ready(1).await.is_ok());
    assert_eq!((upstream.snapshot().len(), upstream.freshness().state), (2, ViewState::Fresh));
    assert_eq!(upstream.pick().unwrap().key(), key(1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_cut_off_says_nothing_of_how_long_its_instance_takes() {
    let (upstream, feed) = lazy(&Balance::peak_ewma());
    upstream.start();
    feed.upsert([0, 1]);
    let request = async || {
        let open = OpenPick::begin(upstream.pick().unwrap());
        let key = open.picked().key();
        tokio::time::advance(Duration::from_millis(10)).await;
        open.succeed();
        key
    };
    for _ in 0..100 {
        request().await;
    }
    let stream = OpenPick::begin(upstream.pick().unwrap());
    let key = stream.picked().key();
    for _ in 0..6_000 {
        request().await;
        tokio::time::advance(Duration::from_millis(90)).await;
    }
    stream.cut_off();
    let mut share = 0;
    for _ in 0..100 {
        share += u32::from(request().await == key);
    }
    assert!(share > 20, "{share} of 100 requests");
}

#[tokio::test]
async fn requests_to_instances_that_came_later_are_counted_and_taken_back_too() {
    fastrand::seed(5);
    let (upstream, feed) = lazy(&Balance::least_request());
    upstream.start();
    // There is room for this one, and little more, from the start.
    feed.upsert(0..1);
    drop(upstream.pick().unwrap());
    feed.upsert(1..100);
    let mut held: Vec<_> =
        (0..400).map(|_| upstream.with_pick(|_| upstream.pick().unwrap()).unwrap()).collect();
    let mut busy = HashMap::<_, u32>::new();
    held.iter().for_each(|picked| *busy.entry(picked.id().clone()).or_default() += 1);
    // Of 400 that nobody counted, one of 100 would have 8 or more; who was drawn seldom may have fewer than 4 all the same.
    assert!(busy.len() > 90 && busy.values().all(|requests| *requests <= 7), "{busy:?}");
    let half = held.split_off(200);
    std::thread::spawn(|| drop(half)).join().unwrap();
    drop(held);
    // What was still counted for one would keep it from its share.
    let mut shares = HashMap::<_, u32>::new();
    for _ in 0..20_000 {
        *shares.entry(upstream.with_pick(|instance| instance.id().clone()).unwrap()).or_default() += 1;
    }
    assert!(shares.len() == 100 && shares.values().all(|share| (120..=290).contains(share)), "{shares:?}");
}
