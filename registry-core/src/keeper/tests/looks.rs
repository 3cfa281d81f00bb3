//! Leases that nobody renews: looks are all that tells, so looks that fail say something too.

use std::{sync::Arc, time::Duration};

use super::{
    super::{entry::Policy, phase::Phase},
    model::Fault,
    sim::{Sim, config, instance, key, millis, secs},
};
use crate::{Capabilities, ErrorKind, Status, backend::Lifetime};

const EVERY: u64 = 20;

/// Two that are live, and looked at for the first time.
fn looked_at(seed: u64) -> Sim {
    let mut sim = Sim::heartbeat(seed);
    sim.registry.lifetime = Lifetime::Verified { every: secs(EVERY) };
    ["a", "b"].into_iter().for_each(|id| sim.register(id));
    sim.assert_back_within(secs(1));
    while sim.registry.count("inspect") == 0 {
        sim.run(millis(100));
    }
    // Until it is answered.
    sim.run(millis(100));
    sim
}

#[test]
fn looks_that_nobody_answers_are_a_doubt_at_once_and_a_loss_once_two_in_a_row_are_due() {
    for (seed, fault) in [(1, Fault::Down), (2, Fault::Hang(super::model::Landing::Never))] {
        let mut sim = looked_at(seed);
        let last = sim.lives[0].keeper.entry(&key("a")).unwrap().last_ok.unwrap() - sim.base;
        sim.fault(fault);
        // The next look comes a fifth late at most, and takes no longer than a call may.
        sim.run(last + secs(EVERY + 8) - sim.now);
        assert_eq!(sim.phase("a"), Phase::Suspect, "{fault:?}");
        sim.run(last + secs(2 * EVERY) - millis(10) - sim.now);
        assert_eq!(sim.phase("a"), Phase::Suspect, "{fault:?}");
        sim.run(millis(20));
        assert_eq!(sim.phase("a"), Phase::Lost, "{fault:?}");
        sim.run(secs(3_600));
        for id in ["a", "b"] {
            assert_eq!(sim.told(id), ["registered 1", "suspect", "lost 1 Expired"], "{fault:?}");
        }
        sim.fault(Fault::None);
        sim.assert_back_within(secs(10));
        assert_eq!(sim.told("a").last().unwrap(), "recovered 2");
    }
}

#[test]
fn an_outage_of_half_a_look_costs_a_doubt_at_most() {
    for seed in 0..40 {
        let mut sim = looked_at(seed);
        sim.run(millis(500 * seed));
        sim.outage(Fault::Hang(super::model::Landing::Never), secs(EVERY / 2));
        sim.run(secs(120));
        for id in ["a", "b"] {
            assert_eq!(sim.phase(id), Phase::Live);
            let told = sim.told(id);
            assert!(
                told == ["registered 1"] || told == ["registered 1", "suspect", "cleared"],
                "{seed}: {told:?}"
            );
        }
    }
}

#[test]
fn a_registry_that_refuses_to_tell_is_there_so_that_nothing_is_doubted() {
    for kind in [ErrorKind::PermissionDenied, ErrorKind::Unauthenticated, ErrorKind::RateLimited] {
        let mut sim = looked_at(3);
        sim.registry.refuse_reads = Some(kind);
        sim.run(secs(600));
        assert_eq!(sim.told("a"), ["registered 1"], "{kind:?}");
        // Its silence counts from the last time that it said anything.
        sim.registry.refuse_reads = None;
        sim.outage(Fault::Down, secs(EVERY / 2));
        sim.run(secs(120));
        assert!(!sim.told("a").iter().any(|told| told.starts_with("lost")), "{kind:?} {:?}", sim.told("a"));
    }
}

#[test]
fn one_that_is_gone_when_looks_are_answered_again_is_not_cleared_first() {
    let mut sim = looked_at(4);
    sim.fault(Fault::Down);
    for _ in 0..300 {
        if sim.phase("a") == Phase::Live {
            sim.run(millis(100));
        }
    }
    sim.registry.delete(&key("a"), sim.now);
    sim.fault(Fault::None);
    sim.run(secs(10));
    assert_eq!(sim.told("a"), ["registered 1", "suspect", "lost 1 Missing", "recovered 2"]);
    assert_eq!(sim.told("b"), ["registered 1", "suspect", "cleared"]);
}

/// Two that are suspect, as nobody answers looks any more.
fn suspects(seed: u64) -> Sim {
    let mut sim = looked_at(seed);
    sim.registry.refuse_reads = Some(ErrorKind::Unavailable);
    while sim.phase("a") == Phase::Live {
        sim.run(millis(100));
    }
    sim
}

#[test]
fn an_update_of_a_suspect_leaves_it_to_the_next_look_to_clear_it() {
    let cases = [(5, Status::Serving, false), (6, Status::Serving, true), (7, Status::Draining, false)];
    for (seed, status, is_retried) in cases {
        let mut sim = suspects(seed);
        if is_retried {
            sim.registry.refuse.insert(key("a"), ErrorKind::Unavailable);
        }
        let update = Arc::new(instance("a", "second").to_builder().status(status).build().unwrap());
        sim.want(0, Arc::clone(&update), Policy::default());
        sim.run(millis(10));
        sim.registry.refuse.clear();
        while sim.registry.records[&key("a")].content != update {
            sim.run(millis(10));
        }
        // The next look is answered already.
        sim.run(millis(10));
        sim.registry.refuse_reads = None;
        sim.run(secs(6));
        for id in ["a", "b"] {
            assert_eq!(sim.told(id), ["registered 1", "suspect", "cleared"], "{seed}: {id}");
        }
    }
}

#[test]
fn a_restart_is_a_doubt_that_a_look_settles_at_once() {
    let mut sim = looked_at(8);
    sim.restart(0);
    assert_eq!(sim.phase("a"), Phase::Suspect);
    sim.run(millis(100));
    sim.register("c");
    sim.run(millis(100));
    for id in ["a", "b"] {
        assert_eq!(sim.told(id), ["registered 1", "restarted", "suspect", "cleared"]);
    }
    assert_eq!(sim.told("c"), ["registered 1"], "of the restart it knows nothing");

    let mut sim = looked_at(9);
    sim.fault(Fault::Down);
    sim.restart(0);
    sim.run(secs(2 * EVERY));
    assert_eq!(sim.told("a"), ["registered 1", "restarted", "suspect", "lost 1 Expired"]);
}

#[test]
fn what_no_time_can_end_is_not_in_doubt_after_a_restart_or_a_sleep() {
    for (seed, lifetime) in [(10, Lifetime::Permanent), (11, Lifetime::Verified { every: secs(EVERY) })] {
        let mut own = Capabilities::session();
        own.audit = false;
        let mut sim = Sim::with(config(seed), own);
        sim.registry.lifetime = lifetime;
        sim.register("a");
        // The lease is asked for before the sleep, and granted after it.
        sim.suspend(0, secs(3_600));
        sim.run(secs(3_700));
        assert_eq!(sim.told("a"), ["registered 1"], "{lifetime:?}");
        if lifetime == Lifetime::Permanent {
            sim.restart(0);
            sim.run(secs(60));
            assert_eq!(sim.told("a"), ["registered 1", "restarted"]);
        }
    }
}

#[test]
fn one_of_which_no_look_tells_anything_is_lost_by_its_own_silence_whatever_is_told_of_others() {
    let mut sim = looked_at(12);
    let last = sim.lives[0].keeper.entry(&key("a")).unwrap().last_ok.unwrap() - sim.base;
    sim.registry.untold.insert(key("a"));
    sim.run(last + secs(2 * EVERY) - millis(10) - sim.now);
    assert_eq!(sim.told("a"), ["registered 1"]);
    sim.run(secs(1));
    // To publish it is to be heard of it.
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Expired", "recovered 2"]);
    let looks = sim.registry.count("inspect");
    assert!(looks <= 8, "{looks} looks");
    sim.registry.untold.clear();
    sim.run(secs(600));
    assert_eq!(sim.told("a").len(), 3);
    assert_eq!(sim.told("b"), ["registered 1"]);
}

#[test]
fn half_a_look_in_which_nothing_is_told_of_one_costs_nothing() {
    for seed in 0..40 {
        let mut sim = looked_at(seed);
        sim.run(millis(500 * seed));
        sim.registry.untold.insert(key("a"));
        sim.run(secs(EVERY / 2));
        sim.registry.untold.clear();
        sim.run(secs(120));
        assert_eq!(sim.told("a"), ["registered 1"], "{seed}");
    }
}

#[test]
fn a_suspect_is_cleared_by_what_is_told_of_it_alone() {
    let mut sim = suspects(13);
    sim.registry.untold.insert(key("a"));
    sim.registry.refuse_reads = None;
    sim.run(secs(4));
    assert_eq!(sim.told("b"), ["registered 1", "suspect", "cleared"]);
    assert_eq!(sim.told("a"), ["registered 1", "suspect"]);
    sim.registry.untold.clear();
    sim.run(secs(EVERY / 4 + 2));
    assert_eq!(sim.told("a"), ["registered 1", "suspect", "cleared"]);
}

#[test]
fn an_older_record_that_a_look_finds_is_there_all_the_same() {
    let mut sim = looked_at(14);
    sim.registry.refuse.insert(key("a"), ErrorKind::PermissionDenied);
    sim.update("a", "second");
    sim.run(secs(600));
    assert_eq!(sim.told("a"), ["registered 1", "blocked"]);
}

#[test]
fn looks_leave_half_a_second_between_them_however_short_the_registry_wants_it() {
    for (every, most) in [(Duration::ZERO, 26), (secs(1), 14)] {
        let mut sim = Sim::heartbeat(15);
        sim.registry.lifetime = Lifetime::Verified { every };
        sim.register("a");
        sim.run(secs(10));
        let looks = sim.registry.count("inspect");
        assert!((6..=most).contains(&looks), "{every:?}: {looks} looks");
        sim.fault(Fault::Down);
        sim.run(secs(10));
        let more = sim.registry.count("inspect") - looks;
        assert!(more <= 5, "{every:?}: {more} looks that nobody answers");
        assert_eq!(sim.phase("a"), Phase::Lost);
    }
}
