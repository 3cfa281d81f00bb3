//! What the registry refuses: credentials, rights, single records.

use super::{
    super::phase::Phase,
    model::Fault,
    sim::{Sim, config, instance, key, secs},
};
use crate::{Capabilities, ErrorKind, keeper::KeeperConfig};

#[test]
fn a_wrong_password_is_blocked_without_a_hot_loop_and_healed_within_a_minute_and_a_bit() {
    let mut sim = Sim::new(1);
    sim.fault(Fault::Refusing(ErrorKind::Unauthenticated));
    sim.register("a");
    sim.run(secs(600));
    assert_eq!(sim.told("a"), ["blocked"]);
    let calls = sim.registry.arrivals.len();
    assert!((8..=22).contains(&calls), "{calls} calls in 10 min");
    sim.fault(Fault::None);
    sim.assert_back_within(secs(75));
    assert_eq!(sim.told("a"), ["blocked", "registered 1"]);
}

#[test]
fn a_password_that_turns_wrong_is_suspect_then_lost_then_blocked_then_recovered() {
    let mut sim = Sim::settled(2, &["a"]);
    sim.fault(Fault::Refusing(ErrorKind::Unauthenticated));
    sim.run(secs(600));
    assert_eq!(sim.told("a"), ["registered 1", "suspect", "lost 1 Expired", "blocked"]);
    sim.fault(Fault::None);
    sim.assert_back_within(secs(75));
    assert_eq!(sim.told("a")[4..], ["recovered 2"]);
}

#[test]
fn missing_rights_are_retried_once_a_minute() {
    let mut sim = Sim::new(3);
    sim.fault(Fault::Refusing(ErrorKind::PermissionDenied));
    sim.register("a");
    sim.run(secs(600));
    assert_eq!((sim.told("a"), sim.phase("a")), (vec!["blocked".into()], Phase::Blocked));
    assert!((8..=14).contains(&sim.registry.arrivals.len()), "{}", sim.registry.arrivals.len());
}

#[test]
fn r7_a_rejected_record_blocks_that_instance_alone_and_an_update_heals_it_at_once() {
    let mut sim = Sim::new(4);
    sim.registry.refuse.insert(key("a"), ErrorKind::InvalidArgument);
    ["a", "b"].into_iter().for_each(|id| sim.register(id));
    sim.run(secs(600));
    assert_eq!(sim.told("a"), ["blocked"]);
    assert_eq!(sim.told("b"), ["registered 1"]);
    let publications = sim.registry.count("publish");
    assert!((9..=15).contains(&publications), "{publications} in 10 min");
    sim.registry.refuse.clear();
    sim.update("a", "better");
    sim.assert_back_within(secs(1));
}

#[test]
fn a_refused_update_leaves_the_old_record_standing_and_its_loss_is_still_told() {
    let mut sim = Sim::settled(5, &["a", "b"]);
    sim.registry.refuse.insert(key("a"), ErrorKind::InvalidArgument);
    sim.update("a", "too large");
    sim.run(secs(300));
    assert_eq!(sim.told("a"), ["registered 1", "blocked"]);
    assert_eq!(sim.registry.records[&key("a")].content, instance("a", "first"), "still there");
    sim.outage(Fault::Down, secs(30));
    assert_eq!(sim.told("a")[2..], ["lost 1 Expired"], "nobody sees it now, and that is said");
    sim.run(secs(30));
    assert_eq!(sim.told("a")[3..], ["blocked"]);
    sim.registry.refuse.clear();
    sim.update("a", "better");
    sim.assert_back_within(secs(1));
    assert_eq!(sim.told("a")[4..], ["recovered 2"]);
    assert_eq!(sim.told("b"), ["registered 1", "suspect", "lost 1 Expired", "recovered 2"]);
}

#[test]
fn a_refused_update_that_is_taken_back_is_live_again_without_a_loss() {
    let mut sim = Sim::settled(6, &["a"]);
    sim.registry.refuse.insert(key("a"), ErrorKind::InvalidArgument);
    sim.update("a", "too large");
    sim.run(secs(300));
    sim.registry.refuse.clear();
    sim.update("a", "first");
    sim.assert_back_within(secs(1));
    assert_eq!(sim.told("a"), ["registered 1", "blocked"]);
}

#[test]
fn throttled_calls_become_rare_and_obey_the_wish() {
    let mut sim = Sim::new(7);
    sim.fault(Fault::Throttled(Some(secs(20))));
    sim.register("a");
    sim.run(secs(600));
    let calls = sim.registry.arrivals.len();
    assert!((20..=31).contains(&calls), "{calls} calls in 10 min");
    sim.fault(Fault::None);
    sim.assert_back_within(secs(31));

    let mut sim = Sim::new(8);
    sim.fault(Fault::Throttled(None));
    sim.register("a");
    sim.run(secs(600));
    assert!(sim.registry.arrivals.len() <= 50, "{} calls in 10 min", sim.registry.arrivals.len());
}

#[test]
fn a_moments_throttling_of_many_costs_no_more_than_that_of_one() {
    let ids: Vec<String> = (0..30).map(|at| format!("i{at}")).collect();
    for seed in 0..10 {
        let mut sim = Sim::settled(100 + seed, &ids.iter().map(String::as_str).collect::<Vec<_>>());
        sim.fault(Fault::Throttled(None));
        ids.iter().for_each(|id| sim.update(id, "second"));
        sim.run(secs(2));
        sim.fault(Fault::None);
        sim.assert_back_within(secs(3));
    }
}

#[test]
fn what_waits_for_a_throttling_registry_goes_out_with_the_first_success() {
    for seed in 0..10 {
        let own = KeeperConfig { ttl: secs(120), ..config(200 + seed) };
        let mut sim = Sim::with(own, Capabilities::session());
        ["a", "b"].into_iter().for_each(|id| sim.register(id));
        sim.assert_back_within(secs(1));
        sim.fault(Fault::Throttled(None));
        sim.update("a", "second");
        sim.run(secs(70));
        sim.fault(Fault::None);
        sim.update("b", "second");
        sim.run(secs(1));
        assert_eq!(sim.registry.records[&key("a")].content, instance("a", "second"), "{seed}");
    }
}

#[test]
fn a_renewal_that_goes_well_again_ends_the_waiting_too() {
    for seed in 0..10 {
        let own = KeeperConfig { ttl: secs(60), ..config(300 + seed) };
        let mut sim = Sim::with(own, Capabilities::heartbeat());
        ["a", "b"].into_iter().for_each(|id| sim.register(id));
        sim.assert_back_within(secs(1));
        sim.fault(Fault::Throttled(None));
        sim.update("a", "second");
        sim.run(secs(50));
        sim.fault(Fault::None);
        // The longest pause between attempts to renew.
        sim.assert_back_within(secs(10) + secs(1));
        assert_eq!(sim.count("lost"), 0);
    }
}

#[test]
fn who_throttles_writes_only_is_asked_no_more_often_for_all_the_renewals_that_go_well() {
    let mut sim = Sim::settled(400, &["a", "b"]);
    sim.registry.refuse.insert(key("a"), ErrorKind::RateLimited);
    sim.update("a", "second");
    sim.run(secs(60));
    let before = sim.registry.count("publish");
    sim.run(secs(600));
    let calls = sim.registry.count("publish") - before;
    // As many as without what ends a wait early: the renewals are health, which resets the pauses.
    assert!(calls <= 200, "{calls} publications in 10 min");
}

#[test]
fn a_wait_that_was_asked_for_is_kept_whatever_goes_well_meanwhile() {
    let mut sim = Sim::settled(500, &["a", "b"]);
    sim.fault(Fault::Throttled(Some(secs(40))));
    sim.update("a", "second");
    sim.run(secs(1));
    sim.fault(Fault::None);
    sim.run(secs(20));
    sim.update("b", "second");
    sim.run(secs(10));
    assert_eq!(sim.registry.records[&key("b")].content, instance("b", "second"));
    assert_eq!(sim.registry.records[&key("a")].content, instance("a", "first"), "not yet");
    sim.assert_back_within(secs(12));
}

#[test]
fn a_batch_that_fails_is_retried_as_a_batch() {
    let mut sim = Sim::new(9);
    sim.register_many(0);
    sim.register("warm");
    sim.run(secs(1));
    sim.registry.fault = Fault::Down;
    sim.register_many(500);
    sim.run(secs(4));
    let calls = sim.registry.count("publish");
    assert!(calls <= 20, "{calls} publications for one batch that failed");
}

#[test]
fn a_dead_registry_is_asked_at_most_every_other_second_or_so_in_the_long_run() {
    let mut sim = Sim::settled(10, &["a"]);
    sim.fault(Fault::Down);
    sim.run(secs(60));
    let before = sim.registry.arrivals.len();
    sim.run(secs(3_600));
    let calls = sim.registry.arrivals.len() - before;
    assert!((1_000..=2_200).contains(&calls), "{calls} calls an hour");
}
