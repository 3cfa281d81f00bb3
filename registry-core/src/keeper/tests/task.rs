//! The task on tokio's paused clock, against a registry that hangs, panics or counts on command.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{Cell, ClientEvent, Deregistration, Keeper, KeeperParts, Phase, Policy, RegistrationEvent},
    sim::{config, instance, key, millis, secs},
};
use crate::{
    Capabilities, Clock, Error, Lease, ManualClock, Registry,
    backend::{Grant, Lifetime, Outcome, Presence, Publish, Renewal},
    feed::{Feed, Item},
    model::{Instance, InstanceKey},
};

/// A registry that always says yes, unless it is told to hang or panic.
#[derive(Debug, Default)]
struct Fake {
    hang: AtomicBool,
    panic: AtomicBool,
    renewals: AtomicUsize,
    published: Mutex<Vec<Vec<Publish>>>,
    inspect_hangs: AtomicBool,
}

#[derive(Debug)]
struct FakeLease(Arc<Fake>, Duration);

#[derive(Debug)]
struct FakeRegistry(Arc<Fake>);

impl Fake {
    async fn pass(&self) {
        assert!(!self.panic.load(Ordering::SeqCst), "the backend has a bug");
        if self.hang.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Registry for FakeRegistry {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        self.0.pass().await;
        Ok(Arc::new(FakeLease(Arc::clone(&self.0), grant.ttl)))
    }
}

#[async_trait]
impl Lease for FakeLease {
    fn lifetime(&self) -> Lifetime {
        Lifetime::Leased { ttl: self.1 }
    }

    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        self.0.pass().await;
        self.0.published.lock().unwrap().push(records.to_vec());
        vec![Ok(()); records.len()]
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        self.0.pass().await;
        vec![Ok(()); instances.len()]
    }

    async fn renew(&self, _: Instant) -> Result<Renewal, Error> {
        self.0.renewals.fetch_add(1, Ordering::SeqCst);
        self.0.pass().await;
        Ok(Renewal::granted(self.1))
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        if self.0.inspect_hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(vec![Presence::Unknown; keys.len()])
    }

    async fn revoke(&self) -> Result<(), Error> {
        self.0.pass().await;
        Ok(())
    }
}

/// A wall clock that can be stepped, and that panics once when told to: the one thing inside a step from outside.
#[derive(Debug, Default)]
struct Trap {
    clock: ManualClock,
    armed: AtomicUsize,
}

impl Clock for Trap {
    fn wall(&self) -> Duration {
        // One reader at a time, so reading and writing apart loses nothing.
        let armed = self.armed.load(Ordering::SeqCst);
        self.armed.store(armed.saturating_sub(1), Ordering::SeqCst);
        assert_eq!(armed, 0, "the clock broke");
        self.clock.wall()
    }
}

struct Setup {
    keeper: Keeper,
    fake: Arc<Fake>,
    clock: Arc<Trap>,
    events: Arc<Feed<ClientEvent>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

fn setup() -> Setup {
    let fake = Arc::new(Fake::default());
    let clock = Arc::new(Trap::default());
    let events = Arc::new(Feed::new());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let parts = KeeperParts {
        runtime: tokio::runtime::Handle::current(),
        thread: None,
        name: "fake",
        registry: Arc::new(FakeRegistry(Arc::clone(&fake))),
        capabilities: Capabilities::session(),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        alive: None,
        events: Arc::clone(&events),
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    let keeper = Keeper::spawn(config(1), parts);
    Setup { keeper, fake, clock, events, tasks, stop }
}

impl Setup {
    async fn live(&self, id: &str) -> Arc<Cell> {
        let cell = self.keeper.register(instance(id, "first"), Policy::default());
        let state = timeout(secs(5), cell.wait_for(|s| s.phase == Phase::Live)).await.unwrap();
        assert_eq!(state.phase, Phase::Live);
        cell
    }
}

#[tokio::test(start_paused = true)]
async fn the_cell_and_both_streams_tell_a_registration_and_its_end() {
    let setup = setup();
    let mut all = setup.events.subscribe();
    let cell = setup.keeper.register(instance("a", "first"), Policy::default());
    let mut own = cell.feed.subscribe();
    let state = cell.wait_for(|s| s.phase == Phase::Live).await;
    assert!(state.is_current && state.cause.is_none());
    assert!(matches!(own.next().await, Some(Item::Event(RegistrationEvent::Registered { epoch: 1 }))));
    let Some(Item::Event(event)) = all.next().await else { panic!("expected an event") };
    assert_eq!((event.registry, event.events.len(), &event.events[0].0), ("fake", 1, &key("a")));

    setup.keeper.withdraw(&key("a"), secs(3));
    let state = cell.wait_for(|s| s.phase == Phase::Absent).await;
    assert_eq!(state.outcome, Some(Deregistration::Confirmed));
    assert!(matches!(own.next().await, Some(Item::Event(RegistrationEvent::Deregistered { .. }))));
    assert!(own.next().await.is_none(), "the stream ends");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_for_ever_does_not_stop_the_loop() {
    let setup = setup();
    let cell = setup.live("a").await;
    setup.fake.inspect_hangs.store(true, Ordering::SeqCst);
    sleep(secs(120)).await;
    assert_eq!(cell.read().phase, Phase::Live);
    assert!(setup.fake.renewals.load(Ordering::SeqCst) >= 24);

    setup.fake.hang.store(true, Ordering::SeqCst);
    let lost = timeout(secs(15), cell.wait_for(|s| s.phase == Phase::Lost)).await.unwrap();
    assert_eq!(lost.epoch, 2);
    setup.fake.hang.store(false, Ordering::SeqCst);
    timeout(secs(10), cell.wait_for(|s| s.phase == Phase::Live)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_is_survived() {
    let setup = setup();
    let cell = setup.live("a").await;
    setup.fake.panic.store(true, Ordering::SeqCst);
    sleep(secs(60)).await;
    assert_eq!(cell.read().phase, Phase::Lost);
    setup.fake.panic.store(false, Ordering::SeqCst);
    timeout(secs(10), cell.wait_for(|s| s.phase == Phase::Live)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_the_keeper_restarts_it_with_the_same_map() {
    let setup = setup();
    let cell = setup.live("a").await;
    let mut own = cell.feed.subscribe();
    // The next step breaks, and so do the first three restarts.
    setup.clock.armed.store(4, Ordering::SeqCst);
    sleep(secs(20)).await;
    assert_eq!(cell.read().phase, Phase::Live);
    assert!(matches!(own.next().await, Some(Item::Event(RegistrationEvent::KeeperRestarted))));
    let renewals = setup.fake.renewals.load(Ordering::SeqCst);
    sleep(secs(30)).await;
    assert!(setup.fake.renewals.load(Ordering::SeqCst) >= renewals + 5);
    setup.live("b").await;
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_outlives_a_panic() {
    let setup = setup();
    setup.live("a").await;
    setup.clock.armed.store(2, Ordering::SeqCst);
    setup.live("b").await;
    setup.keeper.withdraw(&key("a"), secs(3));
    setup.clock.armed.store(1, Ordering::SeqCst);
    setup.live("c").await;
    assert!(setup.fake.renewals.load(Ordering::SeqCst) > 0, "the lease was doubted, and renewed");
}

#[tokio::test(start_paused = true)]
async fn r3_a_starved_keeper_claims_no_life() {
    let setup = setup();
    let cell = setup.live("a").await;
    sleep(secs(7)).await;
    // The executor is blocked for the time to live: the first poll moves the clock, and no task has run since.
    let mut blocked = std::pin::pin!(advance(secs(15)));
    std::future::poll_fn(|cx| {
        assert!(blocked.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    assert_eq!(cell.read().phase, Phase::Suspect);
    blocked.await;
    let lost = timeout(secs(5), cell.wait_for(|s| s.epoch == 2)).await.unwrap();
    assert_eq!(lost.epoch, 2);
    timeout(secs(10), cell.wait_for(|s| s.phase == Phase::Live)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn r3_a_suspend_is_seen_by_the_reader_before_the_keeper_wakes() {
    let setup = setup();
    let cell = setup.live("a").await;
    setup.clock.clock.step(3_600_000);
    assert_eq!(cell.read().phase, Phase::Suspect, "no task has run since");
    sleep(secs(10)).await;
    assert_eq!(cell.read().phase, Phase::Live);
}

#[tokio::test(start_paused = true)]
async fn many_edits_before_the_task_runs_are_one_publication_of_the_newest() {
    let setup = setup();
    let cells: Vec<_> = (0..50)
        .map(|n| setup.keeper.register(instance(&format!("i{n}"), "first"), Policy::default()))
        .collect();
    for n in 0..100 {
        setup.keeper.update(&cells[7], instance("i7", &format!("note {n}")), Policy::default());
    }
    for cell in &cells {
        cell.wait_for(|s| s.phase == Phase::Live && s.is_current).await;
    }
    let published = setup.fake.published.lock().unwrap();
    assert_eq!(published.iter().map(Vec::len).collect::<Vec<_>>(), [50], "one batch");
    let seventh = published[0].iter().find(|p| p.instance.key() == key("i7")).unwrap();
    assert_eq!(*seventh.instance, *instance("i7", "note 99"));
}

#[tokio::test(start_paused = true)]
async fn a_withdrawal_beats_updates_on_both_sides_of_it() {
    let setup = setup();
    let cell = setup.live("a").await;
    setup.keeper.update(&cell, instance("a", "second"), Policy::default());
    setup.keeper.withdraw(&key("a"), secs(3));
    setup.keeper.update(&cell, instance("a", "third"), Policy::default());
    let state = timeout(secs(4), cell.wait_for(|s| s.outcome.is_some())).await.unwrap();
    assert_eq!(state.phase, Phase::Absent);
    setup.keeper.update(&cell, instance("a", "fourth"), Policy::default());
    sleep(secs(60)).await;
    assert_eq!(cell.read().phase, Phase::Absent);
    assert_eq!(setup.fake.published.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_registration_under_a_withdrawn_key_ends_the_old_one_and_lives() {
    for hang in [false, true] {
        let setup = setup();
        let old = setup.live("a").await;
        setup.fake.hang.store(hang, Ordering::SeqCst);
        setup.keeper.withdraw(&key("a"), secs(60));
        let new = setup.keeper.register(instance("a", "second"), Policy::default());
        let ended = timeout(secs(1), old.wait_for(|s| s.outcome.is_some())).await.unwrap();
        assert_eq!(ended.phase, Phase::Absent);
        setup.fake.hang.store(false, Ordering::SeqCst);
        timeout(secs(10), new.wait_for(|s| s.phase == Phase::Live)).await.unwrap();
        assert_eq!(old.read().phase, Phase::Absent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_or_absent_reader_never_delays_a_renewal() {
    let setup = setup();
    let cell = setup.live("a").await;
    let _unread = (cell.feed.subscribe(), setup.events.subscribe());
    sleep(secs(600)).await;
    let renewals = setup.fake.renewals.load(Ordering::SeqCst);
    assert!((120..=136).contains(&renewals), "{renewals} renewals in 10 min");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_woken_when_the_keeper_ends() {
    let setup = setup();
    let cell = setup.live("a").await;
    setup.fake.hang.store(true, Ordering::SeqCst);
    setup.stop.cancel();
    let state = timeout(secs(1), cell.wait_for(|s| s.phase == Phase::Absent)).await.unwrap();
    assert_eq!(state.phase, Phase::Suspect, "nothing is claimed any more");
    let late = setup.keeper.register(instance("b", "first"), Policy::default());
    timeout(millis(1), late.wait_for(|s| s.phase == Phase::Live)).await.unwrap();
    setup.tasks.close();
    timeout(secs(1), setup.tasks.wait()).await.unwrap();
}
