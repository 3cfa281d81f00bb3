//! The network is bad: slow, lossy, silent, half-open; answers come late or in another order.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use registry_core::{
    ErrorKind, MemoryRegistry, Phase, RegisterOptions, RegistrationEvent, Start, ViewState, Weight,
    backend::{Event, Evidence, SourceId},
    memory::Operation,
};
use registry_testkit::faults::{
    History, Losses, d1_never_wiped, d2_convergence, d4_event_algebra, d6_staleness_shows, d7_hot_path,
    losses, r1_reconvergence, r3_no_false_life, r4_callback_discipline, x2_cold_start,
};
use tokio::time::{Instant, sleep};

use super::{
    scripted::{Ask, Fate, Link, Stage},
    support::{TTL, client_over, client_with, figure, instance, millis, secs},
    world::{READER, World, back_bound},
};

/// Between two samples of a status.
const SLACK: Duration = millis(20);
/// What one client may have under way: a grant or a renewal, a publication, an audit, a revocation, a watch.
const MOST_WAITING: usize = 6;

/// 75 ± 50 ms there and back, with a share of the calls lost.
fn bad(seed: u64, lost: f64) -> impl Fn(Ask) -> Fate + Send + Sync + 'static {
    let rng = Mutex::new(fastrand::Rng::with_seed(seed));
    move |_| {
        let mut rng = rng.lock().unwrap();
        let mut way = || millis(rng.u64(12..=62));
        let (request, answer) = (way(), way());
        Fate { request, answer, is_lost: rng.f64() < lost, ..Fate::default() }
    }
}

#[tokio::test(start_paused = true)]
async fn row_05_over_a_link_that_loses_half_of_all_calls_nobody_claims_a_life_that_others_do_not_see() {
    let (mut lost, mut most) = (0, 0);
    for seed in 0..4 {
        let mut world = World::start(5, 5).await;
        // Somebody with a good link is there too: where everybody's lease really ends, a view is rightly empty.
        let steady = client_over(world.registry.backend()).await;
        let _steady = steady.register(instance("orders", "steady")).await.unwrap();
        world.owner_link.set(bad(seed, 0.5));
        world.reader_link.set(bad(seed + 100, 0.5));
        for _ in 0..4 {
            world.mark("slow and lossy");
            // Connections break too.
            world.registry.faults().disconnect_watches();
            world.pass(secs(60)).await;
        }
        let is_loss = |event: &RegistrationEvent| matches!(event, RegistrationEvent::Lost { .. });
        lost += world.logs[0].count_of(is_loss);
        most = most.max(world.owner_link.waiting().1).max(world.reader_link.waiting().1);
        world.owner_link.set(|_| Fate::default());
        world.reader_link.set(|_| Fate::default());
        world.usable("a good link");
        world.back().await;
        let history = &world.history;
        let verdict = r1_reconvergence(history, back_bound(5)).and_then(|figure| {
            r3_no_false_life(history, TTL, SLACK)?;
            r4_callback_discipline(history)?;
            d1_never_wiped(history, READER)?;
            d2_convergence(history, READER, secs(10))?;
            d4_event_algebra(history, READER)?;
            d7_hot_path(history, READER, Duration::ZERO)?;
            Ok(figure)
        });
        assert!(most <= MOST_WAITING, "H2: {most} calls at once");
        world.settle(&verdict);
    }
    figure(5, "half of all calls lost for 16 min: losses", lost);
    figure(5, "calls of one client at once, at most", most);
}

#[tokio::test(start_paused = true)]
async fn row_05_a_slow_link_costs_no_loss() {
    let mut world = World::start(5, 5).await;
    world.owner_link.set(bad(7, 0.0));
    world.reader_link.set(bad(8, 0.0));
    world.usable("slow");
    world.pass(secs(80)).await;
    world.back().await;
    let verdict = losses(&world.history, &world.keys, Losses::None).and_then(|figure| {
        d1_never_wiped(&world.history, READER)?;
        d7_hot_path(&world.history, READER, Duration::ZERO)?;
        Ok(figure)
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_05_where_answers_trickle_in_slower_than_any_deadline_calls_are_given_up_and_do_not_pile_up() {
    let mut world = World::start(5, 5).await;
    world.pass(secs(20)).await;
    // A kilobyte at a byte per second.
    for link in [&world.owner_link, &world.reader_link] {
        link.set(|_| Fate { answer: secs(1_000), ..Fate::default() });
    }
    world.registry.faults().on(Operation::Watch).hang(true);
    world.outage("trickle");
    world.pass(secs(600)).await;
    let most = world.owner_link.waiting().1.max(world.reader_link.waiting().1);
    for link in [&world.owner_link, &world.reader_link] {
        link.set(|_| Fate::default());
    }
    world.registry.faults().heal();
    world.usable("flows again");
    world.back().await;
    assert!(most <= MOST_WAITING, "H2: {most} calls at once");
    assert_eq!(world.owner_link.waiting().0 + world.reader_link.waiting().0, 0, "H2: nothing is left over");
    let history = &world.history;
    let verdict = r1_reconvergence(history, back_bound(5)).and_then(|figure| {
        r3_no_false_life(history, TTL, SLACK)?;
        d1_never_wiped(history, READER)?;
        d7_hot_path(history, READER, Duration::ZERO)?;
        Ok(figure.and("calls at once, at most", most))
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_06_a_watch_that_goes_silent_shows_within_its_proof_time_and_harms_no_registration() {
    let mut world = World::start(6, 10).await;
    world.pass(secs(18)).await;
    world.registry.faults().on(Operation::Watch).hang(true);
    world.history.outage("the watch is half-open");
    world.mark("half-open");
    world.pass(secs(60)).await;
    let stale = d6_staleness_shows(&world.history.until(world.history.now()), READER, secs(15) + SLACK);
    world.registry.faults().heal();
    world.usable("whole");
    world.back().await;
    let history = &world.history;
    let verdict = stale.and_then(|figure| {
        losses(history, &world.keys, Losses::None)?;
        d1_never_wiped(history, READER)?;
        let back = d2_convergence(history, READER, secs(10))?;
        Ok(figure.with(&back))
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_06_renewals_that_go_silent_alone_are_told_in_time() {
    let mut world = World::start(6, 10).await;
    world.pass(secs(18)).await;
    world.registry.faults().on(Operation::Renew).hang(true);
    world.mark("renewals are half-open");
    let begin = world.history.now();
    while world.phase(0) != Phase::Lost {
        world.pass(millis(5)).await;
        assert!(world.history.now() - begin <= TTL, "R3");
    }
    let told = world.history.now() - begin;
    world.pass(secs(60)).await;
    world.registry.faults().heal();
    world.usable("whole");
    world.back().await;
    let history = &world.history;
    let verdict = r1_reconvergence(history, back_bound(10)).and_then(|figure| {
        r3_no_false_life(history, TTL, SLACK)?;
        r4_callback_discipline(history)?;
        d1_never_wiped(history, READER)?;
        d4_event_algebra(history, READER)?;
        Ok(figure.and("told lost after", told))
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_07_a_registry_that_accepts_and_never_answers_holds_nobody_longer_than_their_deadline() {
    fastrand::seed(7);
    let history = History::new();
    let registry = MemoryRegistry::new();
    let link = Link::new(&registry, |_| Fate { is_lost: true, ..Fate::default() });
    let client = client_over(link.backend()).await;
    let (registered, discovered) = tokio::join!(
        history.call("register", client.register(instance("orders", "a"))),
        history.call("discover", client.discover("orders")),
    );
    assert!(registered.is_err() && discovered.is_err());
    let verdict = x2_cold_start(&history, "register", ErrorKind::Timeout, secs(5)).and_then(|figure| {
        Ok(figure.with(&x2_cold_start(&history, "discover", ErrorKind::NotReady, secs(5))?))
    });
    let background = RegisterOptions::new().start(Start::Background);
    let registration = client.register_with(instance("orders", "b"), background).await.unwrap();
    let upstream = client.discover_lazy("orders").unwrap();
    drop(upstream.pick());
    sleep(secs(600)).await;
    let (_, most) = link.waiting();
    assert!(most <= MOST_WAITING, "H2: {most} calls at once");
    let grants = link.times(Operation::Grant);
    let longest = grants.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest <= secs(8) + millis(10), "a call of 3 s and a pause of 5 s, was {longest:?}");
    link.set(|_| Fate::default());
    let answered = Instant::now();
    while registration.phase() != Phase::Live || upstream.snapshot().is_empty() {
        sleep(millis(10)).await;
        assert!(answered.elapsed() <= secs(10), "R1");
    }
    assert_eq!(registry.snapshot_of("orders").len(), 1, "nothing of the registration that failed");
    let back = answered.elapsed();
    figure(7, "", verdict.unwrap().and("calls at once, at most", most).and("back after", back).to_string());
}

#[tokio::test(start_paused = true)]
async fn row_07_a_watch_that_never_comes_to_its_list_is_given_up_and_tried_again() {
    let stage = Stage::new();
    let client = client_over(stage.backend()).await;
    let endless: Vec<_> = (0..3).map(|_| stage.session()).collect();
    let talk = tokio::spawn(async move {
        // Bytes all the time, and never the end of the answer.
        loop {
            for session in &endless {
                let event = Event::new(Vec::new(), None, Evidence::at(SourceId::new("one"), 1));
                drop(session.try_send(Ok(event)));
            }
            sleep(millis(100)).await;
        }
    });
    let begun = Instant::now();
    let error = client.discover("orders").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(begun.elapsed() <= secs(5) + millis(500), "X2: {:?}", begun.elapsed());
    let upstream = client.discover_lazy("orders").unwrap();
    drop(upstream.pick());
    sleep(secs(20)).await;
    assert!(stage.opened().len() >= 3, "each is given up after 5 s: {:?}", stage.opened());
    talk.abort();
    figure(7, "endless answer: sessions given up in 25 s", stage.opened().len());
}

#[tokio::test(start_paused = true)]
async fn row_37_renewals_count_from_when_they_were_sent_however_late_they_are_answered() {
    let mut lost = 0;
    for seed in 0..6 {
        let mut world = World::start(37, 3).await;
        let rng = Mutex::new(fastrand::Rng::with_seed(seed));
        world.owner_link.set(move |ask| match ask.operation {
            Operation::Renew => {
                let mut rng = rng.lock().unwrap();
                // Some in time, some after the next was sent, some after the lease has ended.
                let late = [0, 1_000, 2_400, 4_000, 9_000, 20_000];
                let mut way = || millis(late[rng.usize(..late.len())]);
                Fate { request: way() / 2, answer: way(), ..Fate::default() }
            }
            _ => Fate::default(),
        });
        for _ in 0..4 {
            world.mark("renewals are late");
            world.pass(secs(80)).await;
        }
        world.owner_link.set(|_| Fate::default());
        world.usable("in time");
        world.back().await;
        let is_loss = |event: &RegistrationEvent| matches!(event, RegistrationEvent::Lost { .. });
        lost += world.logs[0].count_of(is_loss);
        let history = &world.history;
        let verdict = r1_reconvergence(history, back_bound(3)).and_then(|figure| {
            r3_no_false_life(history, TTL, SLACK)?;
            r4_callback_discipline(history)?;
            Ok(figure)
        });
        world.settle(&verdict);
    }
    figure(37, "late renewals for 32 min: losses told, false lives 0:", lost);
}

/// Two renewals are under way, as the process slept after the first: `first` and `second` are how long their answers
/// take. The lease ended at the registry while it slept.
async fn swapped(first: Duration, second: Duration) -> usize {
    fastrand::seed(37);
    let registry = MemoryRegistry::new();
    let count = AtomicUsize::new(0);
    let delays = Arc::new(Mutex::new(None::<[Duration; 2]>));
    let told = Arc::clone(&delays);
    let link = Link::new(&registry, move |ask| match (ask.operation, *told.lock().unwrap()) {
        (Operation::Renew, Some(delays)) => {
            let at = count.fetch_add(1, Ordering::SeqCst);
            Fate { answer: delays.get(at).copied().unwrap_or(Duration::MAX), ..Fate::default() }
        }
        // Nothing comes back by a new lease.
        (Operation::Grant, Some(_)) => Fate { is_lost: true, ..Fate::default() },
        _ => Fate::default(),
    });
    let clock = Arc::new(registry_core::ManualClock::new());
    let wall = Arc::<registry_core::ManualClock>::clone(&clock);
    let client = client_with(link.backend(), |builder| builder.clock(wall)).await;
    let registration = client.register(instance("orders", "a")).await.unwrap();
    sleep(secs(20)).await;
    *delays.lock().unwrap() = Some([first, second]);
    let renewals = link.times(Operation::Renew).len();
    while link.times(Operation::Renew).len() == renewals {
        sleep(millis(1)).await;
    }
    sleep(millis(100)).await;
    clock.step(60_000);
    registry.faults().forget_leases();
    // An update wakes the keeper, which sees that it slept.
    registration.set_weight(Weight::new(7).unwrap()).unwrap();
    for _ in 0..20_000 {
        assert_ne!(registration.phase(), Phase::Live, "R3: an answer of before the suspend counts");
        sleep(millis(1)).await;
    }
    link.times(Operation::Renew).len() - renewals
}

#[tokio::test(start_paused = true)]
async fn row_37_of_two_renewals_under_way_the_one_of_before_a_suspend_proves_nothing_in_any_order() {
    for (first, second) in [(1_000, 500), (500, 1_000), (500, 400), (1_000, 900), (2_300, 10), (300, 2_300)] {
        let renewals = swapped(millis(first), millis(second)).await;
        assert_eq!(renewals, 2, "both were under way");
    }
    figure(37, "orders of two answers without a false life", 6_usize);
}

#[tokio::test(start_paused = true)]
async fn row_06_a_half_open_watch_and_a_half_open_renewal_together_are_back_within_the_bound() {
    let mut world = World::start(6, 10).await;
    world.pass(secs(18)).await;
    world.owner_link.set(|ask| Fate { is_lost: ask.operation == Operation::Renew, ..Fate::default() });
    world.registry.faults().on(Operation::Watch).hang(true);
    world.mark("both are half-open");
    world.pass(secs(40)).await;
    assert_ne!(world.upstream.freshness().state, ViewState::Fresh);
    world.owner_link.set(|_| Fate::default());
    world.registry.faults().heal();
    world.usable("whole");
    world.back().await;
    let history = &world.history;
    let verdict = r1_reconvergence(history, back_bound(10)).and_then(|figure| {
        r3_no_false_life(history, TTL, SLACK)?;
        r4_callback_discipline(history)?;
        d1_never_wiped(history, READER)?;
        Ok(figure.with(&d2_convergence(history, READER, secs(10))?))
    });
    world.settle(&verdict);
}
