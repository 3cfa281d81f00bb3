//! Publications that land after their instance was withdrawn: they don't stand for long.

use super::{
    model::{Fault, Landing},
    properties::{Act, play},
    sim::{Sim, config, key, millis, secs},
};
use crate::{Capabilities, ErrorKind};

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
