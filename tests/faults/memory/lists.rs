//! What a registry says of its lists: compacted history, empty and short pushes, repeated, swapped and old events.

use std::{sync::Arc, time::Duration};

use registry_core::{
    Client, Instance, MemoryRegistry, Registration, Status, Target, Upstream, ViewEvent, ViewState,
    backend::{Change, Cursor, Event, Evidence, Listing, SourceId},
    memory::Operation,
};
use registry_testkit::faults::{
    History, Reader, Recorders, UpstreamReader, d1_never_wiped, d2_convergence, d3_revisions,
    d4_event_algebra, d5_watch_contract, d7_hot_path, d8_single_removals,
};
use tokio::time::{Instant, sleep};

use super::{
    scripted::Stage,
    support::{client_over, figure, instance, millis, secs},
    world::{READER, World},
};

/// The default hold of the shrink guard.
const HOLD: Duration = secs(30);

#[tokio::test(start_paused = true)]
async fn row_10_a_history_compacted_while_disconnected_is_listed_afresh_and_only_the_difference_is_told() {
    let mut world = World::start(10, 20).await;
    world.watch_backend();
    world.pass(secs(11)).await;
    let changes = world.upstream.snapshot().version();
    world.registry.faults().on(Operation::Watch).unavailable(true);
    world.outage("watches are cut");
    world.pass(secs(2)).await;
    let late = client_over(world.registry.backend()).await;
    let mut standing = Vec::new();
    for n in 0..3 {
        standing.push(late.register(instance("orders", &format!("late{n}"))).await.unwrap());
    }
    for n in 0..3 {
        let key = world.keys[0].clone();
        let updated = world.registration(n).instance().to_builder().weight(7).build().unwrap();
        world.update(updated).await;
        world.withdraw(&key).await;
    }
    world.pass(secs(1)).await;
    world.registry.faults().compact();
    world.registry.faults().heal();
    world.usable("watches open");
    world.back().await;
    let history = &world.history;
    let steps = world.upstream.snapshot().version() - changes;
    let verdict = d2_convergence(history, READER, secs(10)).and_then(|figure| {
        d1_never_wiped(history, READER)?;
        d3_revisions(history, READER)?;
        let steps_of = d4_event_algebra(history, READER)?;
        d5_watch_contract(history, World::WATCHER)?;
        d7_hot_path(history, READER, Duration::ZERO)?;
        Ok(figure.and("in one step:", steps).with(&steps_of))
    });
    assert_eq!(steps, 1, "the relist is one difference of 3 added, 3 removed, 3 changed");
    drop(standing);
    world.settle(&verdict);
}

/// Some services with instances, each seen by a reader.
struct Shop {
    registry: MemoryRegistry,
    history: History,
    _standing: Vec<Registration>,
    upstreams: Vec<Upstream>,
    readers: Vec<Arc<dyn Reader>>,
    recorders: Recorders,
    _clients: [Client; 2],
}

fn name(n: usize) -> String {
    format!("s{n}")
}

fn target(n: usize) -> Target {
    Target::try_from(name(n).as_str()).unwrap()
}

impl Shop {
    async fn open(row: u64, services: usize, instances: usize) -> Self {
        fastrand::seed(row);
        let registry = MemoryRegistry::new();
        let owner = client_over(registry.backend()).await;
        let client = client_over(registry.backend()).await;
        let history = History::new();
        let mut standing = Vec::new();
        let mut upstreams = Vec::new();
        let mut readers = Vec::new();
        let mut recorders = Recorders::new(&history);
        for service in 0..services {
            for id in 0..instances {
                standing.push(owner.register(instance(&name(service), &format!("i{id}"))).await.unwrap());
            }
            let upstream = client.discover(name(service).as_str()).await.unwrap();
            upstream.ready(instances).await.unwrap();
            let reader: Arc<dyn Reader> = Arc::new(UpstreamReader::new(&name(service), upstream.clone()));
            recorders.changes(&reader);
            recorders.views_every(&reader, millis(1));
            upstreams.push(upstream);
            readers.push(reader);
        }
        sleep(secs(6)).await;
        Self {
            registry,
            history,
            _standing: standing,
            upstreams,
            readers,
            recorders,
            _clients: [owner, client],
        }
    }

    /// Judges every reader; the number of steps that the first took.
    fn judge(&self) -> u64 {
        for reader in &self.readers {
            let name = reader.name();
            d1_never_wiped(&self.history, name).unwrap();
            d4_event_algebra(&self.history, name).unwrap();
            d7_hot_path(&self.history, name, Duration::ZERO).unwrap();
        }
        self.upstreams[0].snapshot().version()
    }

    fn held(&self) -> usize {
        self.upstreams[0].freshness().held
    }
}

#[tokio::test(start_paused = true)]
async fn row_15_an_explicit_empty_push_for_one_or_for_all_services_empties_nobody_and_passes() {
    for all in [false, true] {
        let shop = Shop::open(15, 4, 5).await;
        let hit = if all { 4 } else { 1 };
        for n in 0..hit {
            shop.registry.faults().push_empty(&target(n));
        }
        sleep(millis(10)).await;
        assert_eq!(shop.held(), 5, "kept as suspects");
        // The second opinion after half of the hold disagrees.
        let since = Instant::now();
        while shop.held() > 0 {
            sleep(millis(50)).await;
            assert!(since.elapsed() <= HOLD, "still in doubt");
        }
        let cleared = since.elapsed();
        assert!(cleared >= HOLD / 2 - secs(1), "{cleared:?}");
        sleep(HOLD).await;
        let steps = shop.judge();
        assert!(shop.upstreams.iter().all(|upstream| upstream.snapshot().len() == 5));
        figure(15, &format!("empty push for {hit} of 4 services, steps {steps}, doubt gone after"), cleared);
        shop.recorders.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_15_an_empty_list_on_reconnect_empties_nobody() {
    let stage = Stage::new();
    let (first, second, third) = (stage.session(), stage.session(), stage.session());
    let client = client_over(stage.backend()).await;
    first.try_send(Ok(list(&["a", "b", "c"], 7))).unwrap();
    let upstream = client.discover("orders").await.unwrap();
    let history = History::new();
    let reader: Arc<dyn Reader> = Arc::new(UpstreamReader::new(READER, upstream.clone()));
    let mut recorders = Recorders::new(&history);
    recorders.changes(&reader);
    recorders.views_every(&reader, millis(1));
    sleep(secs(5)).await;
    drop(first);
    // The replica that answers now has not caught up: nothing there, at a later revision.
    second.try_send(Ok(list(&[], 8))).unwrap();
    sleep(secs(5)).await;
    assert_eq!((upstream.snapshot().len(), upstream.freshness().held), (3, 3));
    drop(second);
    third.try_send(Ok(list(&["a", "b", "c"], 9))).unwrap();
    sleep(secs(5)).await;
    assert_eq!((upstream.snapshot().len(), upstream.freshness().held), (3, 0));
    sleep(2 * HOLD).await;
    d1_never_wiped(&history, READER).unwrap();
    d4_event_algebra(&history, READER).unwrap();
    let removed = upstream.snapshot();
    assert_eq!(removed.len(), 3);
    drop((third, recorders));
    figure(15, "empty list on reconnect, instances kept", 3_usize);
}

#[tokio::test(start_paused = true)]
async fn row_15_an_empty_list_from_one_replica_is_outvoted_by_another() {
    let stage = Stage::new();
    let (first, second) = (stage.session(), stage.session());
    let client = client_over(stage.backend()).await;
    first.try_send(Ok(list(&["a", "b", "c", "d"], 7))).unwrap();
    let upstream = client.discover("orders").await.unwrap();
    drop(first);
    second.try_send(Ok(list(&[], 8))).unwrap();
    stage.answer(Some(listing(&["a", "b", "c", "d"], 9)));
    let since = Instant::now();
    while upstream.freshness().held == 0 {
        sleep(millis(1)).await;
    }
    while upstream.freshness().held > 0 {
        second.try_send(Ok(sign_of_life(8))).unwrap();
        sleep(secs(1)).await;
        assert_eq!(upstream.snapshot().len(), 4, "D1");
        assert!(since.elapsed() <= HOLD);
    }
    figure(15, "one replica's empty list outvoted after", since.elapsed());
}

#[tokio::test(start_paused = true)]
async fn row_15_a_real_zero_is_believed_after_the_hold_and_no_later() {
    // All of them are really gone, which only a list says: the watch was away meanwhile.
    let shop = Shop::open(16, 1, 5).await;
    let mut events = shop.upstreams[0].events();
    shop.registry.faults().push_empty(&target(0));
    shop.registry.faults().drop_from_lookups(&target(0), Some(0));
    let since = Instant::now();
    while !shop.upstreams[0].snapshot().is_empty() {
        sleep(millis(10)).await;
        assert!(since.elapsed() <= HOLD + secs(1), "a real zero is hidden for ever");
    }
    let applied = since.elapsed();
    assert!(applied >= HOLD / 2 - secs(1), "no second opinion could agree sooner: {applied:?}");
    let shrunk = events.next().await;
    assert!(
        matches!(shrunk, Some(ViewEvent::SuspiciousShrink { from: 5, to: 0, held: 5, .. })),
        "{shrunk:?}"
    );
    assert!(matches!(events.next().await, Some(ViewEvent::ShrinkApplied { removed: 5, .. })));
    d4_event_algebra(&shop.history, "s0").unwrap();
    figure(15, "real zero, confirmed by a second opinion, applied after", applied);
    shop.recorders.stop().await;

    // The same without a second opinion: the hold itself ends it.
    let shop = Shop::open(17, 1, 5).await;
    shop.registry.faults().push_empty(&target(0));
    shop.registry.faults().on(Operation::Lookup).unavailable(true);
    let since = Instant::now();
    while !shop.upstreams[0].snapshot().is_empty() {
        sleep(millis(10)).await;
        assert!(since.elapsed() <= HOLD + secs(1), "a real zero is hidden for ever");
    }
    let applied = since.elapsed();
    assert!(applied >= HOLD, "{applied:?}");
    figure(15, "real zero, unconfirmed, applied after", applied);
}

#[tokio::test(start_paused = true)]
async fn row_15_explicit_single_removals_apply_within_a_second_with_the_guard_on() {
    let mut world = World::start(15, 6).await;
    world.pass(secs(7)).await;
    for _ in 0..3 {
        let key = world.keys[0].clone();
        world.withdraw(&key).await;
        world.pass(secs(3)).await;
    }
    let verdict = d8_single_removals(&world.history, READER, secs(1)).and_then(|figure| {
        d1_never_wiped(&world.history, READER)?;
        d4_event_algebra(&world.history, READER)?;
        Ok(figure)
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_16_a_list_eighty_percent_short_and_then_full_churns_nobody() {
    for within in [secs(1), secs(10), secs(29)] {
        let shop = Shop::open(16, 1, 20).await;
        let before = shop.upstreams[0].snapshot();
        shop.registry.faults().push_partial(&target(0), 4);
        // A second opinion of the same mistaken replica: not asked for before half of the hold.
        shop.registry.faults().on(Operation::Lookup).unavailable(true);
        sleep(millis(10)).await;
        assert_eq!(shop.held(), 16);
        assert_eq!(shop.upstreams[0].snapshot().usable_len(), 20, "suspects are served");
        sleep(within - millis(10)).await;
        shop.registry.faults().push_full(&target(0));
        sleep(HOLD + secs(5)).await;
        let after = shop.upstreams[0].snapshot();
        let diff = registry_core::Diff::between(&before, &after);
        assert!(diff.is_empty(), "churn: {diff:?}");
        assert_eq!(shop.held(), 0);
        let steps = shop.judge();
        figure(16, "80 % short, full again after", within);
        figure(16, "steps, none of them a removal:", steps);
        shop.recorders.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn row_16_a_short_list_that_stays_short_removes_after_the_hold_those_who_are_gone() {
    let shop = Shop::open(18, 1, 20).await;
    shop.registry.faults().push_partial(&target(0), 4);
    shop.registry.faults().drop_from_lookups(&target(0), Some(4));
    let since = Instant::now();
    while shop.upstreams[0].snapshot().len() > 4 {
        sleep(millis(10)).await;
        assert!(since.elapsed() <= HOLD + secs(1));
    }
    shop.judge();
    figure(16, "80 % really gone, applied after", since.elapsed());
}

// === row 22 ===

fn source() -> SourceId {
    SourceId::new("one")
}

fn record(id: &str) -> Arc<Instance> {
    Arc::new(instance("orders", id))
}

fn event(changes: Vec<Change>, revision: u64) -> Event {
    Event::new(changes, Some(Cursor::new(revision.to_string())), Evidence::at(source(), revision))
}

fn list(ids: &[&str], revision: u64) -> Event {
    event(vec![Change::Reset(ids.iter().map(|id| record(id)).collect())], revision)
}

fn sign_of_life(revision: u64) -> Event {
    event(Vec::new(), revision)
}

fn listing(ids: &[&str], revision: u64) -> Listing {
    Listing::new(ids.iter().map(|id| record(id)).collect(), Evidence::at(source(), revision))
}

#[tokio::test(start_paused = true)]
async fn row_22_duplicate_swapped_and_replayed_events_never_take_the_view_back() {
    let mut runs = 0_usize;
    for seed in 0..20 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::start(22, 6).await;
        let faults = world.registry.faults();
        let other = client_over(world.registry.backend()).await;
        let mut standing: Vec<Registration> = Vec::new();
        for step in 0..30 {
            match rng.u8(0..8) {
                0 => faults.duplicate_events(rng.bool()),
                1 => faults.reorder_events(rng.bool()),
                2 => faults.late_events(millis(rng.u64(0..300))),
                3 => faults.replay(&World::target(), rng.usize(1..20)),
                4 | 5 => {
                    standing.push(other.register(instance("orders", &format!("x{step}"))).await.unwrap());
                }
                6 if !standing.is_empty() => {
                    standing.swap_remove(rng.usize(..standing.len())).deregister().await;
                }
                _ => {
                    let n = rng.usize(..world.keys.len());
                    let next = world.registration(n).instance().to_builder().weight(rng.u32(1..999));
                    world.update(next.build().unwrap()).await;
                }
            }
            world.pass(millis(rng.u64(0..200))).await;
        }
        faults.heal();
        // A new list brings what swapped events have hidden: of two the later one wins, the earlier is dropped.
        faults.on(Operation::Watch).unavailable(true);
        standing.push(other.register(instance("orders", "last")).await.unwrap());
        faults.compact();
        faults.heal();
        world.usable("in order again");
        world.back().await;
        let history = &world.history;
        let verdict = d2_convergence(history, READER, secs(10)).and_then(|figure| {
            d1_never_wiped(history, READER)?;
            d3_revisions(history, READER)?;
            Ok(figure.with(&d4_event_algebra(history, READER)?))
        });
        verdict.as_ref().unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        runs += 1;
        world.settle(&verdict);
    }
    figure(22, "seeded scripts", runs);
}

#[tokio::test(start_paused = true)]
async fn row_22_a_removal_of_somebody_unknown_and_events_of_an_old_revision_change_nothing() {
    let stage = Stage::new();
    let session = stage.session();
    let client = client_over(stage.backend()).await;
    session.try_send(Ok(list(&["a", "b", "c"], 10))).unwrap();
    let upstream = client.discover("orders").await.unwrap();
    let before = upstream.snapshot();
    for stale in [
        event(vec![Change::Remove(instance("orders", "nobody").key())], 11),
        event(vec![Change::Remove(instance("orders", "a").key())], 9),
        event(vec![Change::Upsert(record("ghost"))], 8),
        event(vec![Change::Upsert(record("a"))], 12),
        event(vec![Change::Upsert(record("a"))], 12),
    ] {
        session.try_send(Ok(stale)).unwrap();
        sleep(millis(10)).await;
        assert_eq!(upstream.snapshot().len(), 3);
        assert!(registry_core::Diff::between(&before, &upstream.snapshot()).is_empty(), "D4");
    }
    assert!(upstream.snapshot().revision() >= before.revision(), "D3");
    assert_eq!(upstream.freshness().state, ViewState::Fresh);
    assert_eq!(stage.opened().len(), 1, "none of it is worth a reconnect");
    // What is new still arrives.
    let draining = instance("orders", "b").to_builder().status(Status::Draining).build().unwrap();
    session.try_send(Ok(event(vec![Change::Upsert(Arc::new(draining))], 13))).unwrap();
    sleep(millis(10)).await;
    assert_eq!(upstream.snapshot().usable_len(), 2);
    figure(22, "stale events ignored", 5_usize);
}
