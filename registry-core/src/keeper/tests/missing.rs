//! Records that vanish although the lease lives: operators delete by hand, registries forget.

use super::{
    super::{
        entry::{OnMissing, Policy},
        phase::Phase,
    },
    model::Fault,
    sim::{Sim, instance, key, millis, secs},
};
use crate::backend::Lifetime;

const RESPECT: Policy = Policy { on_duplicate: crate::OnDuplicate::TakeOver, on_missing: OnMissing::Respect };

#[test]
fn a_record_deleted_by_an_operator_is_found_by_the_audit_and_published_again() {
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, &["a", "b"]);
        sim.run(secs(100) + millis(seed * 500));
        sim.registry.delete(&key("a"), sim.now);
        let took = sim.assert_back_within(secs(73));
        assert!(took <= secs(72) + millis(100));
        assert_eq!(sim.told("a"), ["registered 1", "lost 1 Missing", "recovered 2"]);
        assert_eq!(sim.told("b"), ["registered 1"], "R7");
        assert_eq!(sim.registry.count("grant"), 1, "under the same lease");
    }
}

#[test]
fn a_record_that_was_never_stored_although_the_registry_said_so_is_found_in_five_seconds() {
    let mut sim = Sim::settled(1, &["a"]);
    sim.registry.delete(&key("a"), sim.now);
    sim.assert_back_within(secs(6));
}

#[test]
fn a_respected_deletion_stays_until_the_next_update_even_over_the_loss_of_the_lease() {
    let mut sim = Sim::new(2);
    sim.want(0, instance("a", "first"), RESPECT);
    sim.register("b");
    sim.assert_back_within(secs(1));
    sim.registry.delete(&key("a"), sim.now);
    sim.run(secs(80));
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Missing", "blocked"]);
    sim.registry.revoke_all(sim.now);
    sim.run(secs(60));
    sim.outage(Fault::Down, secs(60));
    sim.run(secs(60));
    sim.outage(Fault::Refusing(crate::ErrorKind::Unauthenticated), secs(60));
    sim.run(secs(200));
    assert_eq!(sim.phase("a"), Phase::Blocked);
    assert!(!sim.registry.records.contains_key(&key("a")));
    assert_eq!(sim.phase("b"), Phase::Live);
    sim.want(0, instance("a", "second"), RESPECT);
    sim.assert_back_within(secs(1));
    assert_eq!(sim.told("a").last().unwrap(), "recovered 2");
}

#[test]
fn a_respected_deletion_that_is_withdrawn_is_confirmed_at_once() {
    let mut sim = Sim::new(3);
    sim.want(0, instance("a", "first"), RESPECT);
    sim.register("b");
    sim.assert_back_within(secs(1));
    sim.registry.delete(&key("a"), sim.now);
    sim.run(secs(80));
    sim.withdraw(0, "a");
    assert_eq!(sim.told("a").last().unwrap(), "deregistered Confirmed");
}

#[test]
fn one_that_the_registrys_own_check_fails_is_lost_until_it_passes_and_is_no_deletion_to_respect() {
    let mut sim = Sim::new(5);
    sim.registry.lifetime = Lifetime::Verified { every: secs(20) };
    sim.want(0, instance("a", "first"), RESPECT);
    sim.register("b");
    sim.assert_back_within(secs(1));
    sim.registry.failing.insert(key("a"));
    sim.run(secs(25));
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Failing"]);
    sim.run(secs(300));
    assert_eq!((sim.phase("a"), sim.phase("b")), (Phase::Lost, Phase::Live));
    sim.registry.failing.clear();
    sim.assert_back_within(secs(10));
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Failing", "recovered 2"]);
    assert_eq!(sim.told("b"), ["registered 1"]);
    sim.registry.failing.insert(key("b"));
    sim.withdraw(0, "b");
    sim.run(secs(1));
    assert_eq!(sim.told("b").last().unwrap(), "deregistered Confirmed");
}

#[test]
fn an_update_that_fails_hides_no_loss() {
    let mut sim = Sim::new(6);
    sim.registry.lifetime = Lifetime::Verified { every: secs(20) };
    sim.register("a");
    sim.assert_back_within(secs(1));
    sim.run(secs(1));
    sim.registry.failing.insert(key("a"));
    sim.update("a", "second");
    sim.run(secs(30));
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Failing"]);
    sim.registry.failing.clear();
    sim.assert_back_within(secs(10));
    assert_eq!(sim.told("a").last().unwrap(), "recovered 2");
}

#[test]
fn an_older_version_at_the_registry_is_replaced_without_a_loss() {
    let mut sim = Sim::settled(4, &["a"]);
    sim.registry.records.get_mut(&key("a")).unwrap().version.sequence = 0;
    sim.run(secs(6));
    assert_eq!(sim.registry.records[&key("a")].version.sequence, 1);
    assert_eq!(sim.told("a"), ["registered 1"]);
}

#[test]
fn r7_a_beat_that_is_denied_loses_that_instance_alone_and_at_once() {
    let mut sim = Sim::heartbeat(5);
    ["a", "b"].into_iter().for_each(|id| sim.register(id));
    sim.run(secs(20));
    sim.registry.delete(&key("a"), sim.now);
    sim.assert_back_within(secs(6));
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Missing", "recovered 2"]);
    assert_eq!(sim.told("b"), ["registered 1"]);
}

#[test]
fn an_audit_that_is_refused_is_repeated_slowly_and_harms_nothing() {
    let mut sim = Sim::settled(6, &["a"]);
    sim.run(secs(4));
    sim.registry.refuse_reads = Some(crate::ErrorKind::PermissionDenied);
    sim.run(secs(600));
    assert_eq!(sim.told("a"), ["registered 1"]);
    assert!(sim.registry.count("inspect") <= 14, "{} reads in 10 min", sim.registry.count("inspect"));
}

#[test]
fn an_update_that_crosses_a_respected_deletion_is_kept_up_as_any_other() {
    let mut sim = Sim::heartbeat(9);
    sim.want(0, instance("a", "first"), RESPECT);
    sim.register("b");
    sim.run(secs(20));
    let renew_at = sim.lives[0].keeper.tenure().unwrap().renew_at.unwrap();
    sim.run(renew_at.saturating_duration_since(sim.base) - sim.now - millis(50));
    sim.registry.latency = millis(300);
    sim.registry.delete(&key("a"), sim.now);
    sim.run(millis(100));
    // The beat that tells of the deletion is on its way.
    sim.want(0, instance("a", "second"), RESPECT);
    sim.run(secs(2));
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Missing", "blocked", "recovered 2"]);
    sim.registry.latency = millis(2);
    sim.outage(Fault::Down, secs(40));
    sim.assert_back_within(secs(10));
    assert_eq!(sim.registry.records[&key("a")].content, instance("a", "second"));
}
