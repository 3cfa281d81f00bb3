//! The registry is away: killed, wiped, frozen, cut off, without a leader, or not there yet.

use std::time::Duration;

use registry_core::{
    ErrorKind, LossCause, MemoryRegistry, Phase, RegisterOptions, RegistrationEvent, Start, ViewState,
    memory::Operation,
};
use registry_testkit::faults::{
    Figure, History, Losses, Violation, d1_never_wiped, d2_convergence, d3_revisions, d4_event_algebra,
    d5_watch_contract, d6_staleness_shows, d7_hot_path, losses, r1_reconvergence, r3_no_false_life,
    r4_callback_discipline, r5_unlimited_recovery, r6_completeness, x2_cold_start,
};
use tokio::time::sleep;

use super::{
    scripted::{Fate, Link},
    support::{TTL, client_over, figure, instance, log_of, millis, secs},
    world::{READER, World, back_bound},
};

const HOUR: Duration = secs(3_600);
/// 1.5 times the time to live.
const LONGER: Duration = Duration::from_millis(22_500);
/// Half of the time to live: the longest that never costs anything.
const HALF: Duration = Duration::from_millis(7_500);
/// Between two samples of a status.
const SLACK: Duration = millis(20);

/// What every outage has to leave whole.
fn judge(world: &World, expected: Losses) -> Result<Figure, Violation> {
    let history = &world.history;
    let back = r1_reconvergence(history, back_bound(world.keys.len()))?;
    if world.keys.len() <= 1_000 {
        // Looks at each record in each truth: for thousands that takes longer than the test.
        r3_no_false_life(history, TTL, SLACK)?;
    }
    r4_callback_discipline(history)?;
    losses(history, &world.keys, expected)?;
    r6_completeness(history)?;
    // Where the only lease has really run out, the registry says so, and the view is rightly empty until its owner is
    // back: up to then it never is.
    let filled = if world.keys.len() == 1 { history.until(world.usable_at) } else { history.clone() };
    d1_never_wiped(&filled, READER)?;
    let reader = d2_convergence(history, READER, secs(10))?;
    if world.has_changed_view() {
        d3_revisions(history, READER)?;
    }
    d4_event_algebra(history, READER)?;
    d7_hot_path(&filled, READER, Duration::ZERO)?;
    Ok(back.with(&reader).and("registrations", world.keys.len()))
}

async fn killed(n: usize, outage: Duration, expected: Losses) {
    let mut world = World::start(1, n).await;
    world.pass(secs(20)).await;
    world.registry.faults().unavailable(true);
    world.outage("killed");
    world.pass(outage).await;
    world.registry.faults().restart();
    world.registry.faults().heal();
    world.usable("restarted with its data");
    world.back().await;
    let verdict = judge(&world, expected);
    let verdict = verdict.and_then(|figure| {
        r5_unlimited_recovery(&world.history, back_bound(n)).map(|_| figure.and("outage", outage))
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_01_a_registry_killed_for_a_second_costs_no_loss() {
    killed(100, secs(1), Losses::None).await;
}

#[tokio::test(start_paused = true)]
async fn row_01_a_registry_killed_for_one_and_a_half_times_to_live_costs_one_loss_each() {
    killed(100, LONGER, Losses::OneEach).await;
}

#[tokio::test(start_paused = true)]
async fn row_01_one_registration_is_back_after_ten_minutes() {
    killed(1, secs(600), Losses::OneEach).await;
}

#[tokio::test(start_paused = true)]
async fn row_01_a_hundred_registrations_are_back_after_ten_minutes() {
    killed(100, secs(600), Losses::OneEach).await;
}

#[tokio::test(start_paused = true)]
async fn row_01_five_thousand_registrations_are_back_after_one_and_a_half_times_to_live() {
    killed(5_000, LONGER, Losses::OneEach).await;
}

#[tokio::test(start_paused = true)]
async fn row_01_a_registry_that_was_away_for_a_day_has_everybody_back() {
    killed(3, 24 * HOUR, Losses::OneEach).await;
}

async fn wiped(n: usize) {
    let mut world = World::start(2, n).await;
    world.pass(secs(20)).await;
    world.registry.faults().unavailable(true);
    world.outage("killed");
    world.pass(secs(2)).await;
    world.gone_all("the data is lost");
    world.registry.faults().lose_data();
    world.registry.faults().heal();
    world.usable("restarted without its data");
    world.back().await;
    // Whoever does not come back after the registry's new beginning is held for two times to live.
    world.pass(2 * TTL + secs(2)).await;
    let verdict = judge(&world, Losses::OneEach);
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_02_one_registration_is_back_in_a_registry_that_lost_its_data() {
    wiped(1).await;
}

#[tokio::test(start_paused = true)]
async fn row_02_a_hundred_registrations_are_back_in_a_registry_that_lost_its_data() {
    wiped(100).await;
}

#[tokio::test(start_paused = true)]
async fn row_02_five_thousand_registrations_are_back_in_a_registry_that_lost_its_data() {
    wiped(5_000).await;
}

async fn frozen(time: Duration, expected: Losses) {
    let mut world = World::start(3, 20).await;
    world.pass(secs(17)).await;
    world.registry.faults().hang(true);
    world.outage("frozen");
    world.pass(time).await;
    world.registry.faults().hang(false);
    world.usable("thawed");
    world.back().await;
    let verdict = judge(&world, expected).and_then(|figure| {
        let figure = figure.and("frozen for", time);
        if time < secs(15) {
            return Ok(figure);
        }
        // One sample later than the proof's own limit.
        Ok(figure.with(&d6_staleness_shows(&world.history, READER, secs(15) + SLACK)?))
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_03_a_registry_frozen_for_a_second_costs_no_loss() {
    frozen(secs(1), Losses::None).await;
}

#[tokio::test(start_paused = true)]
async fn row_03_a_registry_frozen_for_half_the_time_to_live_costs_no_loss() {
    frozen(HALF, Losses::None).await;
}

#[tokio::test(start_paused = true)]
async fn row_03_a_registry_frozen_for_two_times_to_live_costs_one_loss_each_and_the_view_says_it_is_stale() {
    frozen(2 * TTL, Losses::OneEach).await;
}

/// Whoever is cut off hears nothing; `oneway` lets the requests through.
async fn cut(outage: Duration, oneway: bool, expected: Losses) {
    let mut world = World::start(4, 10).await;
    world.pass(secs(18)).await;
    for link in [&world.owner_link, &world.reader_link] {
        link.set(move |_| match oneway {
            true => Fate { answer: Duration::MAX, ..Fate::default() },
            false => Fate { is_lost: true, ..Fate::default() },
        });
    }
    world.registry.faults().on(Operation::Watch).hang(true);
    world.outage(if oneway { "answers don't arrive" } else { "nothing arrives" });
    world.pass(outage).await;
    for link in [&world.owner_link, &world.reader_link] {
        link.set(|_| Fate::default());
    }
    world.registry.faults().heal();
    world.usable("the link is whole");
    world.back().await;
    let verdict = judge(&world, expected).and_then(|figure| {
        let figure = figure.and("cut for", outage);
        r5_unlimited_recovery(&world.history, back_bound(10))?;
        if outage < secs(16) {
            return Ok(figure);
        }
        Ok(figure.with(&d6_staleness_shows(&world.history, READER, secs(15) + SLACK)?))
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_04_a_cut_of_a_second_costs_no_loss() {
    cut(secs(1), false, Losses::None).await;
}

#[tokio::test(start_paused = true)]
async fn row_04_a_cut_of_one_and_a_half_times_to_live_costs_one_loss_each() {
    cut(LONGER, false, Losses::OneEach).await;
}

#[tokio::test(start_paused = true)]
async fn row_04_a_cut_of_ten_minutes_costs_one_loss_each() {
    cut(secs(600), false, Losses::OneEach).await;
}

#[tokio::test(start_paused = true)]
async fn row_04_after_a_cut_of_a_day_everybody_is_back() {
    cut(24 * HOUR, false, Losses::OneEach).await;
}

#[tokio::test(start_paused = true)]
async fn row_04_where_requests_arrive_and_answers_do_not_nobody_claims_to_live() {
    cut(LONGER, true, Losses::OneEach).await;
}

#[tokio::test(start_paused = true)]
async fn row_04_where_answers_do_not_arrive_for_a_second_nothing_is_lost() {
    cut(secs(1), true, Losses::None).await;
}

#[tokio::test(start_paused = true)]
async fn row_04_an_owner_cut_off_alone_no_longer_claims_to_live_when_readers_stop_seeing_it() {
    let mut world = World::start(4, 1).await;
    let others = client_over(world.registry.backend()).await;
    let mut standing = Vec::new();
    for n in 0..3 {
        standing.push(others.register(instance("orders", &format!("other{n}"))).await.unwrap());
    }
    world.pass(secs(18)).await;
    world.owner_link.set(|_| Fate { is_lost: true, ..Fate::default() });
    world.outage("the owner alone");
    let mut lost_to_gone = None;
    let mut lost = None;
    for _ in 0..4_000 {
        world.pass(millis(10)).await;
        let claims = world.phase(0) == Phase::Live;
        let seen = world.upstream.snapshot().iter().any(|i| i.key() == world.keys[0]);
        assert!(seen || !claims, "R3: nobody sees it, and it claims to live");
        let now = world.history.now();
        if world.phase(0) == Phase::Lost {
            lost = lost.or(Some(now));
        }
        if !seen && lost_to_gone.is_none() {
            lost_to_gone = lost.map(|lost| now - lost);
        }
    }
    world.owner_link.set(|_| Fate::default());
    world.usable("the link is whole");
    world.back().await;
    let history = &world.history;
    let verdict = r1_reconvergence(history, back_bound(1)).and_then(|back| {
        r3_no_false_life(history, TTL, SLACK)?;
        d1_never_wiped(history, READER)?;
        losses(history, &world.keys, Losses::OneEach)?;
        Ok(back.and("told lost before readers saw it go by", lost_to_gone.unwrap()))
    });
    world.settle(&verdict);
}

async fn leaderless(time: Duration, expected: Losses) {
    let mut world = World::start(9, 20).await;
    world.watch_backend();
    world.pass(secs(19)).await;
    world.registry.faults().unavailable(true);
    world.outage("no leader");
    world.pass(time).await;
    // A new leader gives every lease its full time again.
    world.registry.faults().restart();
    world.registry.faults().heal();
    world.usable("a leader");
    world.back().await;
    world.pass(secs(10)).await;
    let verdict = judge(&world, expected).and_then(|figure| {
        let watch = d5_watch_contract(&world.history, World::WATCHER)?;
        Ok(figure.and("no leader for", time).with(&watch))
    });
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_09_a_leader_that_moves_costs_no_loss() {
    leaderless(Duration::ZERO, Losses::None).await;
}

#[tokio::test(start_paused = true)]
async fn row_09_no_leader_for_half_the_time_to_live_costs_no_loss() {
    leaderless(HALF, Losses::None).await;
}

#[tokio::test(start_paused = true)]
async fn row_09_no_leader_for_longer_than_the_time_to_live_costs_one_loss_each() {
    leaderless(LONGER, Losses::OneEach).await;
}

#[tokio::test(start_paused = true)]
async fn row_29_of_all_updates_during_an_outage_the_newest_is_what_the_registry_gets() {
    for loses_data in [false, true] {
        let mut world = World::start(29, 5).await;
        world.pass(secs(10)).await;
        world.registry.faults().unavailable(true);
        world.outage("away");
        for round in 1..=5_u32 {
            world.pass(secs(6)).await;
            for n in 0..world.keys.len() {
                let updated = world.registration(n).instance().to_builder();
                let updated = updated.metadata("round", round.to_string()).weight(round).build().unwrap();
                world.update(updated).await;
            }
        }
        if loses_data {
            world.gone_all("the data is lost");
            world.registry.faults().lose_data();
        }
        world.registry.faults().heal();
        world.usable("back");
        world.back().await;
        for stored in world.registry.snapshot_of("orders") {
            assert_eq!(stored.metadata().get("round"), Some("5"), "the newest, not the one that was lost");
        }
        let publishes = world.registry.calls(Operation::Publish);
        let verdict = judge(&world, Losses::OneEach).map(|f| f.and("publications in all", publishes));
        world.settle(&verdict);
    }
}

#[tokio::test(start_paused = true)]
async fn row_29_an_update_in_an_outage_that_costs_no_loss_is_published_too() {
    let mut world = World::start(29, 5).await;
    world.pass(secs(20)).await;
    world.registry.faults().unavailable(true);
    world.outage("away");
    let updated = world.registration(0).instance().to_builder().weight(7).build().unwrap();
    world.update(updated).await;
    world.pass(secs(5)).await;
    world.registry.faults().heal();
    world.usable("back");
    world.back().await;
    let verdict = judge(&world, Losses::None);
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_38_without_a_registry_new_nodes_fail_in_time_and_old_ones_are_whole_soon_after_it_appears() {
    let history = History::new();
    fastrand::seed(38);
    let registry = MemoryRegistry::new();
    registry.faults().unavailable(true);
    let link = Link::clear(&registry);
    let client = client_over(link.backend()).await;
    let (registered, discovered) = (
        history.call("register", client.register(instance("orders", "fast"))),
        history.call("discover", client.discover("orders")),
    );
    let (registered, discovered) = tokio::join!(registered, discovered);
    assert!(registered.is_err() && discovered.is_err());
    let verdict = x2_cold_start(&history, "register", ErrorKind::Timeout, secs(5)).and_then(|figure| {
        Ok(figure.with(&x2_cold_start(&history, "discover", ErrorKind::NotReady, secs(5))?))
    });
    // It was asked for once, and the subscription goes on trying.
    let upstream = client.discover_lazy("orders").unwrap();
    assert_eq!(upstream.pick().unwrap_err().kind(), ErrorKind::NotReady);
    let background = RegisterOptions::new().start(Start::Background);
    let patient = client.register_with(instance("orders", "patient"), background).await.unwrap();
    let events = log_of(&patient);
    sleep(HOUR).await;
    assert_eq!(patient.phase(), Phase::Registering);
    assert_eq!(events.len(), 0, "nothing was lost that never was there: {events:?}");
    registry.faults().unavailable(false);
    let appeared = history.now();
    registry.until(|registry| registry.snapshot_of("orders").len() == 1).await;
    let back = history.now() - appeared;
    assert!(back <= secs(10), "R1: {back:?}");
    upstream.ready_within(1, secs(10)).await.unwrap();
    let seen = history.now() - appeared;
    sleep(secs(30)).await;
    assert_eq!(upstream.freshness().state, ViewState::Fresh);
    let stored = registry.snapshot_of("orders");
    assert!(stored.len() == 1 && stored[0].id().as_str() == "patient", "nothing half-registered: {stored:?}");
    assert_eq!(events.count_of(|event| matches!(event, RegistrationEvent::Registered { .. })), 1);
    figure(38, "", verdict.unwrap().and("registered after", back).and("seen after", seen).to_string());
}

#[tokio::test(start_paused = true)]
async fn row_38_a_node_that_runs_while_the_registry_is_away_serves_on_and_is_ready() {
    let mut world = World::start(38, 3).await;
    world.pass(secs(20)).await;
    world.registry.faults().unavailable(true);
    world.outage("away");
    world.pass(HOUR).await;
    assert!(world.owner.health().is_ready(), "a node that runs never stops for the registry's sake");
    assert!(world.reader.health().is_ready());
    let lost = |event: &RegistrationEvent| {
        matches!(event, RegistrationEvent::Lost { cause: LossCause::Expired, .. })
    };
    assert_eq!(world.logs.iter().map(|log| log.count_of(lost)).sum::<usize>(), 3);
    world.registry.faults().heal();
    world.usable("appeared");
    world.back().await;
    let verdict = judge(&world, Losses::OneEach);
    world.settle(&verdict);
}
