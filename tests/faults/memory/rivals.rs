//! Others touch the records: a second process with the same id, operators that delete, registries that reject.

use std::{collections::BTreeSet, time::Duration};

use registry_core::{
    ErrorKind, Incarnation, Instance, LossCause, MemoryRegistry, OnDuplicate, OnMissing, Phase,
    RegisterOptions, RegistrationEvent, Start,
};
use registry_testkit::faults::{
    Losses, Policy, d1_never_wiped, d2_convergence, losses, r1_reconvergence, r4_callback_discipline,
    r7_isolation,
};
use tokio::time::{Instant, sleep};

use super::{
    support::{TTL, client_of, client_over, figure, instance, log_of, millis, secs},
    world::{READER, World, back_bound},
};

/// The longest that an audit comes late: 60 s ± 20 %.
const AUDIT: Duration = secs(72);

/// Who wrote the record of `a`, each time it changed hands.
struct Owners {
    registry: MemoryRegistry,
    seen: Vec<Option<Incarnation>>,
}

impl Owners {
    fn new(registry: &MemoryRegistry) -> Self {
        Self { registry: registry.clone(), seen: Vec::new() }
    }

    async fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let stored = self.registry.snapshot_of("orders");
            let record = stored.iter().find(|instance| instance.id().as_str() == "a");
            let owner = record.and_then(|record| record.record_version()).map(|version| version.incarnation);
            if self.seen.last() != Some(&owner) {
                self.seen.push(owner);
            }
            sleep(millis(20)).await;
        }
    }

    /// How often the record went from one life to another.
    fn swaps(&self) -> usize {
        let lives: Vec<_> = self.seen.iter().flatten().collect();
        lives.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

fn is_superseded(event: &RegistrationEvent) -> bool {
    matches!(event, RegistrationEvent::Lost { cause: LossCause::Superseded, .. })
}

fn of_rival() -> Instance {
    instance("orders", "a").to_builder().weight(7).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn row_21_of_two_processes_with_one_id_the_later_takes_over_once_and_the_other_does_not_fight_back() {
    for seed in 0..4 {
        let registry = MemoryRegistry::new();
        let client = client_of(&registry, seed).await;
        let first = client.register(instance("orders", "a")).await.unwrap();
        let bystander = client.register(instance("orders", "b")).await.unwrap();
        let (log, silent) = (log_of(&first), log_of(&bystander));
        let mut owners = Owners::new(&registry);
        owners.watch(secs(7)).await;
        let rival = client_over(registry.backend()).await;
        let second = rival.register(of_rival()).await.unwrap();
        let taken = Instant::now();
        let mut noticed = None;
        while taken.elapsed() < secs(300) {
            owners.watch(millis(100)).await;
            if noticed.is_none() && log.count_of(is_superseded) == 1 {
                noticed = Some(taken.elapsed());
            }
        }
        assert!(owners.swaps() <= 1, "{:?}", owners.seen);
        assert_eq!(log.count_of(is_superseded), 1, "{log:?}");
        log.assert_alternates();
        assert_eq!(silent.len(), 0, "R7: {silent:?}");
        assert_eq!((first.phase(), second.phase()), (Phase::Blocked, Phase::Live));
        let noticed = noticed.unwrap();
        assert!(noticed <= AUDIT, "the loser was told after {noticed:?}");
        // Where the rival leaves, the first one returns.
        second.deregister().await;
        let left = Instant::now();
        while first.phase() != Phase::Live {
            owners.watch(millis(100)).await;
            assert!(left.elapsed() <= secs(75), "it never returned");
        }
        assert_eq!(registry.snapshot_of("orders").len(), 2);
        if seed == 0 {
            figure(21, "superseded told after", noticed);
            figure(21, "back after the rival left", left.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn row_21_a_careful_registration_waits_for_the_other_to_leave_and_never_swaps() {
    let registry = MemoryRegistry::new();
    let client = client_of(&registry, 211).await;
    let first = client.register(instance("orders", "a")).await.unwrap();
    let log = log_of(&first);
    let mut owners = Owners::new(&registry);
    owners.watch(secs(3)).await;
    let rival = client_over(registry.backend()).await;
    let careful = RegisterOptions::new().on_duplicate(OnDuplicate::Reject);
    let refused = rival.register_with(of_rival(), careful).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:#}");
    let waiting = rival.register_with(of_rival(), careful.start(Start::Background)).await.unwrap();
    owners.watch(secs(200)).await;
    assert_eq!((owners.swaps(), log.len()), (0, 0), "{log:?}");
    assert_eq!((first.phase(), waiting.phase()), (Phase::Live, Phase::Blocked));
    first.deregister().await;
    let left = Instant::now();
    while waiting.phase() != Phase::Live {
        owners.watch(millis(100)).await;
        assert!(left.elapsed() <= secs(75), "it never came in");
    }
    figure(21, "careful one in after the other left", left.elapsed());
}

#[tokio::test(start_paused = true)]
async fn row_21_an_outage_and_lost_data_do_not_make_two_rivals_swap_more_than_once() {
    for seed in 0..4 {
        let registry = MemoryRegistry::new();
        let client = client_of(&registry, 2_100 + seed).await;
        let first = client.register(instance("orders", "a")).await.unwrap();
        let rival = client_over(registry.backend()).await;
        let second = rival.register(of_rival()).await.unwrap();
        sleep(secs(100)).await;
        let mut owners = Owners::new(&registry);
        registry.faults().unavailable(true);
        sleep(secs(40)).await;
        registry.faults().lose_data();
        registry.faults().heal();
        owners.watch(secs(200)).await;
        assert!(owners.swaps() <= 1, "seed {seed}: {:?}", owners.seen);
        let live = [&first, &second].into_iter().filter(|r| r.phase() == Phase::Live).count();
        assert_eq!(live, 1, "seed {seed}: exactly one is live");
    }
}

#[tokio::test(start_paused = true)]
async fn row_28_a_record_deleted_by_an_operator_is_published_again_after_the_next_audit() {
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let mut world = World::start(28, 5 + round).await;
        world.pass(secs(20 + 13 * round as u64)).await;
        let key = world.keys[1].clone();
        world.registry.faults().delete(&key);
        world.history.gone(&key, "an operator");
        world.usable("deleted");
        let since = world.history.now();
        while world.registry.snapshot_of("orders").len() < world.keys.len() {
            world.pass(millis(20)).await;
            assert!(world.history.now() - since <= AUDIT, "no audit for {AUDIT:?}");
        }
        slowest = slowest.max(world.history.now() - since);
        world.back().await;
        let verdict = r1_reconvergence(&world.history, AUDIT + secs(1)).and_then(|figure| {
            losses(&world.history, std::slice::from_ref(&key), Losses::OneEach)?;
            r4_callback_discipline(&world.history)?;
            r7_isolation(&world.history, std::slice::from_ref(&key))?;
            d2_convergence(&world.history, READER, secs(1))?;
            Ok(figure)
        });
        world.settle(&verdict);
    }
    figure(28, "deleted record back after, of 5 runs at most", slowest);
}

#[tokio::test(start_paused = true)]
async fn row_28_a_deletion_that_is_respected_stays_until_the_instance_is_updated() {
    let policy = Policy::default().on_missing(OnMissing::Respect);
    let mut world = World::start_with(28, 5, policy).await;
    world.pass(secs(20)).await;
    let key = world.keys[1].clone();
    world.registry.faults().delete(&key);
    let since = world.history.now();
    while world.phase(1) != Phase::Blocked {
        world.pass(millis(20)).await;
        assert!(world.history.now() - since <= AUDIT);
    }
    let told = world.history.now() - since;
    world.pass(secs(600)).await;
    assert_eq!(world.registry.snapshot_of("orders").len(), 4, "the operator's word stands");
    assert_eq!(world.logs[1].count_of(|event| matches!(event, RegistrationEvent::Blocked { .. })), 1);
    let updated = world.registration(1).instance().to_builder().weight(3).build().unwrap();
    world.update(updated).await;
    world.usable("updated");
    world.back().await;
    let verdict = r1_reconvergence(&world.history, secs(1)).and_then(|figure| {
        r4_callback_discipline(&world.history)?;
        r7_isolation(&world.history, &[key])?;
        Ok(figure.and("told blocked after", told))
    });
    world.settle(&verdict);
}

/// What may happen to one record under a shared lease.
#[derive(Clone, Copy, Debug)]
enum Hit {
    Deleted,
    RejectedUpdate,
    Superseded,
    Corrupted,
}

#[tokio::test(start_paused = true)]
async fn row_36_whatever_happens_to_one_record_of_a_shared_lease_the_others_hear_nothing() {
    for hit in [Hit::Deleted, Hit::RejectedUpdate, Hit::Superseded, Hit::Corrupted] {
        let mut world = World::start(36, 50).await;
        assert_eq!(world.registry.lease_count(), 1, "one lease for all");
        world.pass(secs(20)).await;
        let key = world.keys[17].clone();
        let faults = world.registry.faults();
        match hit {
            Hit::Deleted => drop(faults.delete(&key)),
            Hit::RejectedUpdate => {
                faults.reject(&key);
                let updated = world.registration(17).instance().to_builder().weight(3).build().unwrap();
                world.update(updated).await;
            }
            Hit::Superseded => faults.put_foreign(instance("orders", key.id.as_str())),
            Hit::Corrupted => faults.corrupt(&key),
        }
        world.history.gone(&key, &format!("{hit:?}"));
        world.mark("one of them is hit");
        world.pass(secs(200)).await;
        let expected = if matches!(hit, Hit::Deleted) { Phase::Live } else { Phase::Blocked };
        assert_eq!(world.phase(17), expected, "{hit:?}: {:?}", world.logs[17]);
        let told: BTreeSet<usize> = (0..50).filter(|n| world.logs[*n].len() > 0).collect();
        assert_eq!(told, BTreeSet::from([17]), "{hit:?}: the logs of all others are silent");
        faults.accept(&key);
        if !matches!(hit, Hit::Deleted) {
            faults.delete(&key);
        }
        world.usable("mended");
        world.back().await;
        let verdict = r1_reconvergence(&world.history, secs(75)).and_then(|figure| {
            r7_isolation(&world.history, std::slice::from_ref(&key))?;
            r4_callback_discipline(&world.history)?;
            d1_never_wiped(&world.history, READER)?;
            Ok(figure.and("after", format!("{hit:?}")))
        });
        world.settle(&verdict);
    }
}

#[tokio::test(start_paused = true)]
async fn row_36_withdrawing_one_of_a_shared_lease_touches_no_other_even_while_the_registry_is_away() {
    let mut world = World::start(36, 20).await;
    world.pass(secs(18)).await;
    world.registry.faults().unavailable(true);
    world.outage("away");
    let key = world.keys[3].clone();
    let log = world.logs.remove(3);
    let outcome = world.withdraw(&key).await.unwrap();
    assert_eq!(outcome, registry_core::Deregistration::TtlWillExpire);
    world.pass(secs(2)).await;
    world.registry.faults().heal();
    world.usable("back");
    world.back().await;
    world.pass(4 * TTL).await;
    assert!(world.logs.iter().all(|log| log.count_of(|e| matches!(e, RegistrationEvent::Lost { .. })) == 0));
    assert_eq!(log.count_of(|event| matches!(event, RegistrationEvent::Deregistered { .. })), 1);
    let verdict = r1_reconvergence(&world.history, back_bound(20)).and_then(|figure| {
        r7_isolation(&world.history, &[key])?;
        registry_testkit::faults::r2_no_ghost(&world.history, TTL)?;
        Ok(figure)
    });
    world.settle(&verdict);
}
