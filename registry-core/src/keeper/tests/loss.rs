//! Losing and coming back: outages of any length, revoked leases, wiped registries.

use std::time::Duration;

use super::{
    super::phase::{Phase, RegistrationEvent},
    model::{Fault, Landing},
    sim::{Sim, TTL, config, instance, key, millis, secs},
};
use crate::{Capabilities, backend::Lifetime, keeper::KeeperConfig, model::InstanceKey};

#[test]
fn r5_an_outage_of_any_length_is_one_loss_at_the_safe_deadline_and_one_recovery() {
    for long in [millis(22_500), secs(60), secs(600), secs(86_400)] {
        for fault in [Fault::Down, Fault::Hang(Landing::Never), Fault::Hang(Landing::AtOnce)] {
            let seeds = if long > secs(3_600) { 1 } else { 5 };
            for seed in 0..seeds {
                let mut sim = Sim::settled(seed, &["a", "b"]);
                sim.run(secs(17) + millis(700) * u32::try_from(seed).unwrap());
                let safe = sim.lives[0].keeper.tenure().unwrap().safe().unwrap();
                sim.outage(fault, long);
                assert_eq!(sim.base + sim.when("lost").unwrap(), safe, "{fault:?} for {long:?}");
                sim.assert_back_within(secs(10));
                sim.run(secs(60));
                assert_eq!(
                    sim.told("a"),
                    ["registered 1", "suspect", "lost 1 Expired", "recovered 2"],
                    "{fault:?} for {long:?}"
                );
                assert_eq!(sim.registry.leases(), 1, "the old lease is given back");
            }
        }
    }
}

#[test]
fn a_loss_that_hits_many_is_one_emission() {
    let mut sim = Sim::new(20);
    sim.register_many(500);
    sim.assert_back_within(secs(2));
    sim.lives[0].emissions.clear();
    sim.outage(Fault::Down, secs(30));
    assert_eq!(sim.lives[0].emissions, [500, 500], "all suspect, all lost");
}

#[test]
fn r1_a_lease_revoked_by_the_registry_is_replaced_in_milliseconds_after_the_news() {
    let mut sim = Sim::settled(21, &["a"]);
    sim.registry.revoke_all(sim.now);
    sim.run(secs(6));
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Revoked", "recovered 2"]);
    let lost = sim.when("lost").unwrap();
    let back = sim.when("recovered").unwrap();
    assert!(back - lost <= millis(100), "{:?}", back - lost);
}

/// Of 400 clients of a registry that was away for a while and forgot them all, most that publish within 100 ms. Drawn
/// evenly from 2.5 s it is 16 on average, and more than 40 never.
#[test]
fn h1_the_clients_of_a_registry_that_restarted_empty_before_any_was_lost_come_one_by_one() {
    for heartbeat in [false, true] {
        let mut back: Vec<_> = (0..400).map(|seed| recovers_after_a_restart(seed, heartbeat)).collect();
        back.sort_unstable();
        let most = (back.iter().enumerate())
            .map(|(n, from)| back[n..].iter().take_while(|at| **at < *from + millis(100)).count())
            .max();
        assert!(most <= Some(40), "{most:?} of 400 at once, heartbeat: {heartbeat}");
        assert!(back.last() <= Some(&secs(6)), "the last after {:?}", back.last());
    }
}

#[test]
fn r1_who_was_forgotten_by_a_restart_is_back_in_ten_seconds_also_with_a_long_time_to_live() {
    for ttl in [6, 15, 30, 45, 60].map(secs) {
        for seed in 0..60 {
            let capabilities =
                if seed % 2 == 0 { Capabilities::session() } else { Capabilities::heartbeat() };
            let mut sim = Sim::with(KeeperConfig { ttl, ..config(seed) }, capabilities);
            sim.register("a");
            sim.run(ttl / 4);
            // Less than half the time to live after the first renewal that fails.
            sim.outage(Fault::Down, ttl / 2);
            sim.registry.wipe(sim.now);
            sim.assert_back_within(secs(10));
        }
    }
}

#[test]
fn r1_who_was_forgotten_while_an_attempt_hung_is_back_in_ten_seconds_too() {
    for ttl in [6, 15, 20, 24].map(secs) {
        for seed in 0..200 {
            let capabilities =
                if seed % 2 == 0 { Capabilities::session() } else { Capabilities::heartbeat() };
            let mut sim = Sim::with(KeeperConfig { ttl, ..config(seed) }, capabilities);
            sim.register("a");
            sim.run(ttl / 4);
            sim.outage(Fault::Down, ttl.mul_f64(0.1 + 0.4 * fastrand::Rng::with_seed(seed).f64()));
            // A host that boots: what is sent to it is swallowed.
            sim.outage(Fault::Hang(Landing::Never), ttl / 20);
            sim.registry.wipe(sim.now);
            sim.assert_back_within(secs(10));
        }
    }
}

#[test]
fn one_whose_beats_fail_for_ever_delays_no_record_of_others_that_an_operator_deletes() {
    for seed in 0..20 {
        let mut sim = Sim::heartbeat(seed);
        ["a", "b"].into_iter().for_each(|id| sim.register(id));
        sim.assert_back_within(secs(1));
        sim.registry.mute.insert(key("a"));
        sim.run(secs(8));
        sim.registry.delete(&key("b"), sim.now);
        sim.run(secs(8));
        let when = |name: &str| {
            let of_b = |e: &&(Duration, InstanceKey, RegistrationEvent)| {
                e.1 == key("b") && super::rules::name(&e.2).starts_with(name)
            };
            sim.lives[0].events.iter().find(of_b).map(|(at, ..)| *at)
        };
        let (lost, back) = (when("lost"), when("recovered"));
        let (Some(lost), Some(back)) = (lost, back) else { panic!("{seed}: {lost:?}, {back:?}") };
        assert!(back - lost <= millis(300), "{seed}: {:?}", back - lost);
    }
}

/// How long after the registry is there again it has been told of an instance.
fn recovers_after_a_restart(seed: u64, heartbeat: bool) -> Duration {
    let mut sim = if heartbeat { Sim::heartbeat(seed) } else { Sim::new(seed) };
    sim.register("a");
    sim.assert_back_within(secs(1));
    // Every client has failed at least once, and no safe deadline has passed.
    sim.outage(Fault::Down, secs(7));
    sim.registry.wipe(sim.now);
    let ready = sim.now;
    sim.assert_back_within(secs(10));
    assert_eq!(sim.count("lost 1"), 1);
    sim.when("recovered").unwrap() - ready
}

#[test]
fn a_registry_that_grants_and_denies_at_once_is_not_asked_in_a_hot_loop() {
    let mut sim = Sim::settled(22, &["a"]);
    for _ in 0..20_000 {
        sim.registry.revoke_all(sim.now);
        sim.run(millis(3));
    }
    let grants = sim.registry.count("grant");
    assert!(grants <= 60, "{grants} grants in a minute");
    sim.assert_back_within(secs(10));
}

#[test]
fn r6_a_wiped_registry_gets_everything_back() {
    for count in [1, 100] {
        let mut sim = Sim::new(23);
        sim.register_many(count);
        sim.assert_back_within(secs(2));
        sim.fault(Fault::Down);
        sim.run(secs(3));
        sim.registry.wipe(sim.now);
        sim.fault(Fault::None);
        sim.assert_back_within(secs(10));
    }
}

#[test]
fn an_update_during_an_outage_publishes_only_the_newest() {
    let mut sim = Sim::settled(24, &["a"]);
    sim.fault(Fault::Down);
    for n in 0..50 {
        sim.update("a", &format!("note {n}"));
        sim.run(secs(1));
    }
    let before = sim.registry.writes.len();
    sim.fault(Fault::None);
    sim.assert_back_within(secs(10));
    assert_eq!(sim.registry.writes.len(), before + 1);
    assert_eq!(sim.registry.records[&key("a")].content, instance("a", "note 49"));
}

#[test]
fn an_update_while_a_publication_is_under_way_follows_it() {
    let mut sim = Sim::new(25);
    sim.register("a");
    sim.run(millis(5));
    sim.update("a", "second");
    sim.update("a", "third");
    sim.assert_back_within(secs(1));
    assert_eq!(sim.registry.writes.len(), 2);
    assert_eq!(sim.told("a"), ["registered 1"]);
}

#[test]
fn a_registry_absent_at_the_start_gets_the_registration_when_it_appears() {
    let mut sim = Sim::new(26);
    sim.fault(Fault::Down);
    sim.register("a");
    sim.run(secs(3_600));
    assert_eq!((sim.phase("a"), sim.told("a").len()), (Phase::Registering, 0));
    sim.fault(Fault::None);
    sim.assert_back_within(secs(10));
    assert_eq!(sim.told("a"), ["registered 1"]);
}

#[test]
fn a_lasting_loss_is_told_once_per_loss_and_only_if_anybody_wants_to_know() {
    let mut sim =
        Sim::with(KeeperConfig { lasting_loss: Some(secs(30)), ..config(27) }, Capabilities::session());
    sim.register("a");
    sim.run(secs(10));
    for _ in 0..2 {
        sim.outage(Fault::Down, secs(300));
        sim.assert_back_within(secs(10));
        sim.run(secs(30));
    }
    let lasts: Vec<_> = (sim.lives[0].events.iter())
        .filter_map(|(_, _, e)| match e {
            RegistrationEvent::LossLasts { downtime } => Some(*downtime),
            _ => None,
        })
        .collect();
    assert_eq!(lasts, [secs(30), secs(30)]);
    let mut quiet = Sim::settled(28, &["a"]);
    quiet.outage(Fault::Down, secs(300));
    assert_eq!(quiet.count("loss lasts"), 0);
}

#[test]
fn a_withheld_liveness_lets_the_registration_run_out_and_comes_back_with_it() {
    let mut sim = Sim::settled(29, &["a"]);
    sim.lives[0].alive = false;
    sim.run(secs(60));
    assert_eq!(sim.told("a"), ["registered 1", "suspect", "lost 1 Withheld"]);
    assert!(sim.registry.records.is_empty());
    assert!(sim.registry.count("grant") == 1, "a dead application asks for no lease");
    sim.lives[0].alive = true;
    sim.assert_back_within(secs(10));
    assert_eq!(sim.told("a")[3..], ["recovered 2"]);

    let mut beats = Sim::heartbeat(30);
    beats.register("a");
    beats.run(secs(20));
    beats.lives[0].alive = false;
    beats.run(secs(60));
    assert_eq!(beats.told("a"), ["registered 1", "suspect", "lost 1 Withheld"]);
    assert!(beats.registry.records.is_empty());
    beats.lives[0].alive = true;
    beats.assert_back_within(secs(10));
}

#[test]
fn a_short_withholding_costs_nothing() {
    let mut sim = Sim::settled(31, &["a"]);
    sim.lives[0].alive = false;
    sim.run(secs(7));
    sim.lives[0].alive = true;
    sim.run(secs(60));
    assert_eq!(sim.told("a"), ["registered 1", "suspect", "cleared"]);
}

#[test]
fn a_panic_keeps_the_map_and_doubts_the_lease() {
    let mut sim = Sim::settled(32, &["a"]);
    sim.update("a", "second");
    sim.restart(0);
    sim.assert_back_within(secs(1));
    sim.run(secs(60));
    assert_eq!(sim.told("a"), ["registered 1", "restarted", "suspect", "cleared"]);
    for at in [0, 3, 5, 9] {
        let mut sim = Sim::new(33);
        sim.register("a");
        sim.run(millis(at));
        sim.restart(0);
        sim.assert_back_within(secs(10));
        sim.withdraw(0, "a");
        sim.run(millis(at));
        sim.restart(0);
        sim.run(secs(120));
        assert!(sim.registry.records.is_empty());
        assert!(sim.lives[0].keeper.is_idle());
    }
}

#[test]
fn the_time_to_live_is_the_granted_one_not_the_wanted_one() {
    let mut sim = Sim::new(34);
    sim.registry.lifetime = Lifetime::Leased { ttl: 4 * TTL };
    sim.register("a");
    sim.run(secs(1));
    sim.outage(Fault::Down, secs(50));
    assert_eq!(sim.count("lost"), 0);
    sim.run(secs(10));
    assert_eq!(sim.phase("a"), Phase::Live);
}

#[test]
fn r1_beats_of_their_own_come_back_after_any_outage() {
    for long in [secs(20), secs(600)] {
        for fault in [Fault::Down, Fault::Hang(Landing::Never), Fault::Hang(Landing::AtOnce)] {
            let mut sim = Sim::heartbeat(35);
            ["a", "b", "c"].into_iter().for_each(|id| sim.register(id));
            sim.run(secs(30));
            sim.outage(fault, long);
            assert_eq!(sim.count("lost"), 3);
            sim.assert_back_within(secs(10));
            sim.run(secs(60));
            assert_eq!(sim.told("b"), ["registered 1", "suspect", "lost 1 Expired", "recovered 2"]);
        }
    }
}
