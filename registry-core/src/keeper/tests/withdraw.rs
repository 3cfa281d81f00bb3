//! Taking a registration out: never waits for ever, leaves no ghost.

use super::{
    super::phase::Phase,
    model::{Fault, Landing},
    sim::{Sim, config, instance, key, millis, secs},
};
use crate::{Capabilities, ErrorKind, backend::Lifetime};

#[test]
fn r2_a_withdrawal_is_confirmed_by_the_registry_and_touches_no_other() {
    let mut sim = Sim::settled(1, &["a", "b"]);
    sim.withdraw(0, "a");
    sim.run(millis(100));
    assert_eq!(sim.told("a"), ["registered 1", "deregistered Confirmed"]);
    assert!(!sim.registry.records.contains_key(&key("a")));
    sim.run(secs(60));
    assert_eq!(sim.told("b"), ["registered 1"]);
    assert_eq!(sim.registry.count("revoke"), 0);
}

#[test]
fn the_withdrawal_of_the_last_gives_the_lease_back_and_ends_in_silence() {
    let mut sim = Sim::settled(2, &["a", "b"]);
    sim.withdraw(0, "a");
    sim.withdraw(0, "b");
    sim.run(secs(1));
    assert_eq!((sim.registry.leases(), sim.registry.records.len()), (0, 0));
    assert_eq!(sim.count("deregistered Confirmed"), 2);
    assert!(sim.lives[0].keeper.is_idle());
    let calls = sim.registry.arrivals.len();
    sim.run(secs(3_600));
    assert_eq!(sim.registry.arrivals.len(), calls);
}

#[test]
fn a_withdrawal_never_waits_longer_than_it_was_told_whatever_the_registry_does() {
    for fault in [
        Fault::Down,
        Fault::Hang(Landing::Never),
        Fault::Hang(Landing::AtOnce),
        Fault::Refusing(ErrorKind::PermissionDenied),
        Fault::Refusing(ErrorKind::Unauthenticated),
        Fault::Throttled(Some(secs(60))),
    ] {
        for others in [false, true] {
            let mut sim = Sim::settled(3, &["a"]);
            if others {
                sim.register("b");
                sim.run(secs(1));
            }
            sim.fault(fault);
            let since = sim.now;
            sim.withdraw(0, "a");
            sim.run(secs(10));
            assert_eq!(sim.told("a").last().unwrap(), "deregistered TtlWillExpire", "{fault:?}");
            assert_eq!(sim.when("deregistered").unwrap() - since, secs(3));
            sim.fault(Fault::None);
            sim.run(secs(75));
            assert!(!sim.registry.records.contains_key(&key("a")), "{fault:?}: the trying went on");
        }
    }
}

#[test]
fn r2_leases_that_stood_still_with_the_registry_give_no_withdrawn_record_a_second_life() {
    for others in [false, true] {
        for down in [secs(5), secs(20), secs(60), secs(3_600)] {
            let mut sim = Sim::settled(7, &["a"]);
            if others {
                sim.register("b");
                sim.run(secs(1));
            }
            sim.fault(Fault::Down);
            sim.registry.stands_still = true;
            sim.withdraw(0, "a");
            sim.run(down);
            assert!(sim.registry.records.contains_key(&key("a")), "without a quorum nothing expires");
            sim.registry.runs_again(sim.now);
            sim.fault(Fault::None);
            // Much shorter than the time to live that has begun anew.
            sim.run(secs(8));
            assert!(!sim.registry.records.contains_key(&key("a")), "down for {down:?}, others: {others}");
            sim.run(secs(120));
            assert_eq!(sim.registry.leases(), usize::from(others));
            assert!(sim.lives[0].keeper.entry(&key("a")).is_none(), "the tombstone is buried");
        }
    }
}

#[test]
fn r2_a_withdrawal_during_a_publication_leaves_nothing() {
    for others in [false, true] {
        for at in 0..12 {
            let mut sim = Sim::new(4);
            if others {
                sim.register("b");
                sim.run(secs(1));
            }
            sim.register("a");
            sim.run(millis(at));
            sim.withdraw(0, "a");
            sim.run(secs(100));
            assert!(!sim.registry.records.contains_key(&key("a")));
            assert_eq!(sim.told("a").last().unwrap(), "deregistered Confirmed");
            assert_eq!(sim.registry.leases(), usize::from(others));
        }
    }
}

#[test]
fn r2_a_publication_that_lands_late_is_removed_by_the_tombstone() {
    for (late, seed) in
        [4, 8, 20, 40, 44].into_iter().flat_map(|late| (0..20).map(move |seed| (secs(late), seed)))
    {
        let mut sim = Sim::settled(seed, &["b"]);
        sim.fault(Fault::Hang(Landing::After(late)));
        sim.register("a");
        sim.run(millis(100));
        sim.withdraw(0, "a");
        sim.fault(Fault::None);
        sim.run(late + secs(1));
        assert!(sim.registry.writes.iter().any(|(_, k)| *k == key("a")), "it did land");
        sim.run(sim.ghost_limit());
        assert!(!sim.registry.records.contains_key(&key("a")), "late by {late:?}");
        sim.run(secs(120));
        assert_eq!(sim.told("b"), ["registered 1"]);
        assert!(sim.lives[0].keeper.entry(&key("a")).is_none(), "the tombstone is buried");
    }
}

#[test]
fn a_tombstone_that_the_registry_refuses_to_look_at_costs_no_busy_loop() {
    let mut sim = Sim::settled(6, &["b"]);
    sim.fault(Fault::Hang(Landing::After(secs(20))));
    sim.register("a");
    sim.run(millis(100));
    sim.withdraw(0, "a");
    sim.fault(Fault::None);
    sim.run(secs(15));
    // It lands, and the look finds it, but the removal fails until long after the tombstone's time.
    sim.registry.refuse_withdrawals = Some(ErrorKind::Unavailable);
    sim.run(secs(200));
    assert!(sim.registry.records.contains_key(&key("a")));
    sim.registry.refuse_withdrawals = None;
    sim.healthy_since = sim.now;
    sim.run(secs(20));
    assert!(!sim.registry.records.contains_key(&key("a")));
}

#[test]
fn a_registration_under_a_withdrawn_key_is_published_with_its_own_content() {
    for at in 0..15 {
        for fault in [Fault::None, Fault::Hang(Landing::AtOnce), Fault::Hang(Landing::After(secs(5)))] {
            let mut sim = Sim::settled(7, &["b"]);
            sim.fault(fault);
            sim.register("a");
            sim.run(millis(at));
            sim.withdraw(0, "a");
            sim.run(millis(at / 2));
            sim.want(0, instance("a", "second life"), super::super::entry::Policy::default());
            sim.fault(Fault::None);
            sim.assert_back_within(secs(10));
            sim.run(secs(100));
            assert!(sim.is_converged(), "nothing older may win later");
            let ends = sim.told("a").iter().filter(|e| e.starts_with("deregistered")).count();
            assert_eq!(ends, 1, "the first registration is told its end: {:?}", sim.told("a"));
        }
    }
}

#[test]
fn what_is_dropped_while_registering_is_gone_for_good() {
    for fault in [Fault::Down, Fault::Hang(Landing::Never), Fault::Hang(Landing::AtOnce)] {
        let mut sim = Sim::new(8);
        sim.fault(fault);
        sim.register("a");
        sim.run(secs(1));
        sim.withdraw(0, "a");
        sim.run(secs(20));
        sim.fault(Fault::None);
        sim.run(secs(60));
        assert!(sim.registry.records.is_empty());
        assert!(sim.lives[0].keeper.is_idle(), "{fault:?}");
        assert_eq!(sim.count("deregistered"), 1);
    }
}

#[test]
fn a_withdrawal_in_an_outage_is_carried_out_when_the_registry_is_back() {
    for long in [secs(5), secs(16), secs(60)] {
        let mut sim = Sim::settled(9, &["a", "b"]);
        sim.run(secs(3));
        sim.fault(Fault::Hang(Landing::Never));
        sim.withdraw(0, "a");
        sim.run(long);
        sim.fault(Fault::None);
        sim.run(secs(11));
        assert!(!sim.registry.records.contains_key(&key("a")));
        assert!(sim.is_converged());
    }
}

#[test]
fn wanted_again_while_the_lease_is_being_given_back() {
    for fault in [Fault::None, Fault::Down, Fault::Hang(Landing::Never), Fault::Hang(Landing::AtOnce)] {
        let mut sim = Sim::settled(10, &["a"]);
        sim.fault(fault);
        sim.withdraw(0, "a");
        sim.run(millis(1));
        sim.register("b");
        sim.run(millis(100));
        sim.fault(Fault::None);
        sim.assert_back_within(secs(10));
        sim.run(secs(60));
        assert!(!sim.registry.records.contains_key(&key("a")));
        assert_eq!(sim.registry.leases(), 1);
        sim.withdraw(0, "b");
        sim.run(secs(60));
        assert!(sim.lives[0].keeper.is_idle());
    }
}

#[test]
fn records_that_never_expire_are_withdrawn_until_the_registry_confirms() {
    let mut sim = Sim::with(config(11), {
        let mut capabilities = Capabilities::session();
        capabilities.audit = false;
        capabilities
    });
    sim.registry.lifetime = Lifetime::Permanent;
    sim.register("a");
    sim.run(secs(1));
    sim.fault(Fault::Down);
    sim.withdraw(0, "a");
    sim.run(secs(3_600));
    assert_eq!(sim.told("a").last().unwrap(), "deregistered TtlWillExpire");
    sim.fault(Fault::None);
    sim.run(secs(10));
    assert!(sim.registry.records.is_empty());
    assert!(sim.lives[0].keeper.is_idle());
}

#[test]
fn withdrawing_twice_or_something_unknown_does_nothing() {
    let mut sim = Sim::settled(12, &["a", "b"]);
    sim.withdraw(0, "nobody");
    sim.withdraw(0, "a");
    sim.withdraw(0, "a");
    sim.run(secs(1));
    sim.withdraw(0, "a");
    sim.run(secs(1));
    assert_eq!(sim.told("a"), ["registered 1", "deregistered Confirmed"]);
    assert_eq!(sim.phase("b"), Phase::Live);
}
