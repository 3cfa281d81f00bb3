//! Clocks that stand still or jump.

use std::time::Duration;

use registry_core::{Phase, RegistrationEvent, ViewState, memory::Operation};
use registry_testkit::faults::{
    Losses, d1_never_wiped, d4_event_algebra, d7_hot_path, losses, r1_reconvergence, r3_no_false_life,
    r4_callback_discipline,
};
use tokio::time::Instant;

use super::{
    support::{TTL, figure, millis, secs},
    world::{READER, World, back_bound},
};

const HOUR: i64 = 3_600 * 1_000;
const YEARS: i64 = 10 * 365 * 24 * HOUR;

#[tokio::test(start_paused = true)]
async fn row_13_after_a_suspend_nobody_claims_to_live_before_the_registry_has_said_so() {
    let mut slowest = Duration::ZERO;
    for (round, asleep) in [secs(16), secs(60), secs(3_600), secs(86_400)].into_iter().enumerate() {
        for offset in 0..3 {
            let mut world = World::start(13, 3).await;
            // Anywhere between two renewals.
            world.pass(secs(20) + millis(1_600 * offset)).await;
            // The monotonic clock stands still; the registry's time goes on, and its leases end.
            world.gone_all("expired during the suspend");
            world.clock.step(i64::try_from(asleep.as_millis()).unwrap());
            world.registry.faults().forget_leases();
            for n in 0..3 {
                assert_ne!(world.phase(n), Phase::Live, "R3: awake for no time at all after {asleep:?}");
            }
            assert_ne!(world.upstream.freshness().state, ViewState::Fresh, "the view can't be fresh either");
            world.usable("awake");
            while world.registry.snapshot_of("orders").len() < 3 {
                let claims = (0..3).filter(|n| world.phase(*n) == Phase::Live).count();
                assert_eq!(claims, 0, "R3: nobody sees them");
                world.pass(millis(1)).await;
            }
            world.back().await;
            let history = &world.history;
            let verdict = r1_reconvergence(history, back_bound(3)).and_then(|figure| {
                r3_no_false_life(history, TTL, millis(20))?;
                r4_callback_discipline(history)?;
                losses(history, &world.keys, Losses::OneEach)?;
                d4_event_algebra(history, READER)?;
                Ok(figure.and("asleep for", asleep))
            });
            if round == 0 {
                slowest = slowest.max(since_usable(&world));
            }
            world.settle(&verdict);
        }
    }
    figure(13, "back after a suspend, at most", slowest);
}

fn since_usable(world: &World) -> Duration {
    // `back` has watched for three seconds more.
    let usable = world.history.entries().into_iter().rev().find_map(|entry| match entry.what {
        registry_testkit::faults::Observation::Usable(_) => Some(entry.at),
        _ => None,
    });
    (world.history.now() - usable.unwrap_or_default()).saturating_sub(secs(3))
}

#[tokio::test(start_paused = true)]
async fn row_13_a_suspend_shorter_than_the_lease_costs_one_renewal_and_no_loss() {
    let mut world = World::start(13, 3).await;
    world.pass(secs(20)).await;
    let renewals = world.registry.calls(Operation::Renew);
    world.clock.step(8_000);
    assert_ne!(world.phase(0), Phase::Live, "not before the registry has said so");
    world.usable("awake");
    world.back().await;
    world.pass(secs(1)).await;
    assert!(world.registry.calls(Operation::Renew) > renewals, "it asks at once");
    let verdict = r1_reconvergence(&world.history, secs(6)).and_then(|figure| {
        losses(&world.history, &world.keys, Losses::None)?;
        d1_never_wiped(&world.history, READER)?;
        Ok(figure)
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_14_a_wall_clock_that_is_set_by_an_hour_or_ten_years_costs_no_loss() {
    for step in [HOUR, -HOUR, YEARS, -YEARS] {
        let mut world = World::start(14, 3).await;
        world.pass(secs(20)).await;
        let renewals = world.registry.calls(Operation::Renew);
        world.clock.step(step);
        world.usable("the clock was set");
        world.pass(secs(5)).await;
        let extra = world.registry.calls(Operation::Renew) - renewals;
        assert!(extra <= 2, "one renewal more than usual at most, was {extra}");
        world.pass(secs(55)).await;
        let history = &world.history;
        let verdict = losses(history, &world.keys, Losses::None).and_then(|_| {
            d1_never_wiped(history, READER)?;
            d7_hot_path(history, READER, Duration::ZERO)?;
            let figure = r1_reconvergence(history, secs(6))?;
            Ok(figure.and("clock set by hours:", format!("{}", step / HOUR)))
        });
        world.settle(&verdict);
    }
}

/// When the registry is asked during an outage in which the clock is set, relative to its beginning.
async fn asked_during_an_outage(step: i64) -> (Vec<Duration>, Vec<Duration>) {
    let mut world = World::start(14, 3).await;
    world.pass(secs(20)).await;
    world.registry.faults().unavailable(true);
    world.outage("away");
    let begin = Instant::now();
    world.pass(secs(60)).await;
    world.clock.step(step);
    world.pass(secs(240)).await;
    let times = |link: &super::scripted::Link, operation| {
        let times = link.times(operation).into_iter().filter(|at| *at >= begin);
        times.map(|at| at - begin).collect::<Vec<_>>()
    };
    (times(&world.owner_link, Operation::Grant), times(&world.reader_link, Operation::Watch))
}

#[tokio::test(start_paused = true)]
async fn row_14_a_wall_clock_that_is_set_changes_no_backoff() {
    let still = asked_during_an_outage(0).await;
    for step in [HOUR, -HOUR, YEARS, -YEARS] {
        let set = asked_during_an_outage(step).await;
        for (usual, now) in [(&still.0, &set.0), (&still.1, &set.1)] {
            let gap = |times: &[Duration]| {
                let late = times.iter().filter(|at| **at > secs(65)).collect::<Vec<_>>();
                late.windows(2).map(|pair| *pair[1] - *pair[0]).max().unwrap()
            };
            assert!(gap(now) <= secs(6), "the longest pause is {:?} with the clock set by {step}", gap(now));
            let (least, most) = (usual.len() * 7 / 10, usual.len() * 13 / 10);
            assert!((least..=most).contains(&now.len()), "{} attempts, usually {}", now.len(), usual.len());
        }
        figure(
            14,
            &format!("clock set by {} h: grants, watches asked for in 5 min", step / HOUR),
            format!("{}, {}", set.0.len(), set.1.len()),
        );
    }
}

#[tokio::test(start_paused = true)]
async fn row_14_a_wall_clock_that_jumps_all_the_time_loses_nobody() {
    let mut world = World::start(14, 3).await;
    let mut rng = fastrand::Rng::with_seed(14);
    for _ in 0..300 {
        world.pass(millis(rng.u64(50..2_000))).await;
        world.clock.step(rng.i64(-YEARS..YEARS));
    }
    world.usable("the clock runs again");
    world.back().await;
    let lost = |event: &RegistrationEvent| matches!(event, RegistrationEvent::Lost { .. });
    assert_eq!(world.logs.iter().map(|log| log.count_of(lost)).sum::<usize>(), 0);
    let verdict = d1_never_wiped(&world.history, READER).and_then(|figure| {
        losses(&world.history, &world.keys, Losses::None)?;
        Ok(figure.and("clock jumps", 300_usize))
    });
    world.settle(&verdict);
}
