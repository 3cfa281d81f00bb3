//! Publications that land after their instance was withdrawn: they don't stand for long.

use super::{
    super::input::Call,
    model::{Fault, Landing},
    properties::{Act, play},
    sim::{Sim, Traffic, config, instance, key, millis, secs},
};
use crate::{Capabilities, ErrorKind, OnDuplicate, backend::Publish, model::RecordVersion};

/// One client with a neighbour that keeps the lease, of a registry with sessions, of one with beats, and of one whose
/// records are never read back otherwise.
fn shared(seed: u64) -> [Sim; 3] {
    let unaudited = {
        let mut capabilities = Capabilities::session();
        capabilities.audit = false;
        capabilities
    };
    let all = [Capabilities::session(), Capabilities::heartbeat(), unaudited];
    all.map(|capabilities| {
        let mut sim = Sim::with(config(seed), capabilities);
        sim.register("b");
        sim.run(secs(1));
        sim
    })
}

#[test]
fn a_publication_that_lands_after_a_long_stop_is_removed_although_a_removal_was_refused_before() {
    // The refusal of the first removal has nothing to say about the next one, which is another a minute later.
    let script = [
        Act::Want(2),
        Act::Wait(4),
        Act::Want(1),
        Act::Fault(Fault::Hang(Landing::After(millis(3_990)))),
        Act::Stop(27_932),
        Act::Withdraw(1),
        Act::Fault(Fault::Refusing(ErrorKind::PermissionDenied)),
        Act::Wait(2),
    ];
    play(0, true, false, &script);
}

#[test]
fn a_publication_that_was_repeated_and_lands_after_the_withdrawal_is_removed() {
    for late in [secs(5), secs(8), secs(20), secs(40)] {
        for mut sim in shared(1) {
            sim.fault(Fault::Hang(Landing::After(late)));
            sim.register("a");
            sim.run(millis(100));
            // The first copy is on its way; the second is answered.
            sim.fault(Fault::None);
            sim.run(secs(4));
            assert_eq!(sim.told("a"), ["registered 1"]);
            sim.withdraw(0, "a");
            sim.run(millis(500));
            assert_eq!(sim.told("a").last().unwrap(), "deregistered Confirmed");
            sim.run(late + sim.ghost_limit());
            let written = sim.registry.writes.iter().filter(|(_, k)| *k == key("a")).count();
            assert!(written >= 2, "the first copy did land");
            assert!(!sim.registry.records.contains_key(&key("a")), "late by {late:?}");
            sim.run(secs(120));
            assert!(sim.lives[0].keeper.entry(&key("a")).is_none(), "the tombstone is buried");
        }
    }
}

#[test]
fn a_copy_of_an_answered_publication_that_lands_after_the_withdrawal_is_removed() {
    // A backend may ask another endpoint when one doesn't answer: the keeper only hears that it went well.
    let lates = [millis(10), secs(1), secs(5), secs(20), secs(40), secs(43)];
    for (late, seed) in lates.into_iter().flat_map(|late| (0..20).map(move |seed| (late, seed))) {
        for (at, mut sim) in shared(seed).into_iter().enumerate() {
            sim.register("a");
            sim.run(secs(1));
            sim.withdraw(0, "a");
            sim.run(late);
            assert_eq!(sim.told("a"), ["registered 1", "deregistered Confirmed"]);
            let version = RecordVersion { incarnation: sim.lives[0].incarnation, epoch: 1, sequence: 1 };
            let copy = Publish::new(instance("a", "first"), version, OnDuplicate::TakeOver);
            let call = Call::Publish { lease: 1, records: vec![copy] };
            sim.deliver(Traffic::Arrive { life: 0, op: 1_000_000, call });
            assert!(sim.registry.records.contains_key(&key("a")), "the copy did land");
            sim.run(sim.ghost_limit());
            assert!(!sim.registry.records.contains_key(&key("a")), "{at}: late by {late:?}");
            sim.run(secs(120));
            assert!(sim.lives[0].keeper.entry(&key("a")).is_none(), "the tombstone is buried");
            assert_eq!(sim.told("b"), ["registered 1"]);
        }
    }
}

#[test]
fn a_registration_that_was_published_long_ago_leaves_no_tombstone() {
    for mut sim in shared(3) {
        sim.register("a");
        sim.run(secs(60));
        sim.withdraw(0, "a");
        sim.run(secs(1));
        assert!(sim.lives[0].keeper.entry(&key("a")).is_none(), "nothing of it can be on its way");
    }
}
