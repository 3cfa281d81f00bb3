//! Two lives with one id.

use super::{
    super::{entry::Policy, phase::Phase},
    model::Fault,
    sim::{Sim, config, instance, key, millis, secs},
};
use crate::{Capabilities, OnDuplicate};

fn rival(sim: &mut Sim) -> usize {
    let rival = sim.join(config(77), Capabilities::session());
    sim.want(rival, instance("a", "rival"), Policy::default());
    rival
}

#[test]
fn of_two_lives_with_one_id_the_older_is_superseded_once_and_does_not_fight_back() {
    let mut sim = Sim::settled(1, &["a", "b"]);
    rival(&mut sim);
    sim.run(secs(1_000));
    assert_eq!(sim.told("a"), ["registered 1", "lost 1 Superseded", "blocked"]);
    assert_eq!(sim.told("b"), ["registered 1"], "R7");
    let owners = sim.registry.owners.iter().filter(|(_, k, _)| *k == key("a")).count();
    assert_eq!(owners, 2, "the first write, and one swap");
    assert_eq!(sim.registry.records[&key("a")].content, instance("a", "rival"));
}

#[test]
fn the_loser_returns_when_the_rival_is_gone() {
    let mut sim = Sim::settled(2, &["a"]);
    let other = rival(&mut sim);
    sim.run(secs(200));
    sim.withdraw(other, "a");
    sim.assert_back_within(secs(75));
    assert_eq!(sim.told("a")[3..], ["recovered 2"]);
}

#[test]
fn at_most_one_swap_even_over_outages_and_wiped_registries() {
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, &["a"]);
        let rival = rival(&mut sim);
        sim.run(secs(100));
        sim.registry.owners.clear();
        sim.outage(Fault::Down, secs(40));
        sim.run(secs(200));
        let writers: Vec<_> = sim.registry.owners.iter().filter_map(|(_, _, owner)| *owner).collect();
        assert!(writers.len() <= 1, "the record expired, and one of them has it now");
        let live =
            [0, rival].map(|life| sim.lives[life].keeper.entry(&key("a")).unwrap().phase == Phase::Live);
        assert_ne!(live[0], live[1], "exactly one is live");
    }
}

#[test]
fn a_restart_inside_the_time_to_live_takes_over_from_its_predecessor_at_once() {
    let mut sim = Sim::new(3);
    sim.registry.usurp(&instance("a", "predecessor"), sim.now);
    sim.register("a");
    sim.assert_back_within(secs(1));
}

#[test]
fn a_careful_registration_waits_until_the_other_record_is_gone() {
    let mut sim = Sim::new(4);
    sim.registry.usurp(&instance("a", "other"), sim.now);
    let careful = Policy { on_duplicate: OnDuplicate::Reject, ..Policy::default() };
    sim.want(0, instance("a", "mine"), careful);
    sim.register("b");
    sim.run(secs(300));
    assert_eq!(sim.told("a"), ["blocked"]);
    assert_eq!(sim.told("b"), ["registered 1"]);
    sim.registry.delete(&key("a"), sim.now);
    sim.assert_back_within(secs(75));
    assert_eq!(sim.told("a"), ["blocked", "registered 1"]);
}

#[test]
fn a_withdrawal_leaves_the_rivals_record_alone() {
    let mut sim = Sim::settled(5, &["a", "b"]);
    rival(&mut sim);
    sim.run(millis(100));
    sim.withdraw(0, "a");
    sim.run(secs(100));
    assert_eq!(sim.registry.records[&key("a")].content, instance("a", "rival"));
    assert_eq!(sim.told("a").last().unwrap(), "deregistered Confirmed");
    sim.withdraw(0, "b");
    sim.run(secs(100));
    assert_eq!(sim.registry.records[&key("a")].content, instance("a", "rival"));
}

#[test]
fn a_superseded_update_does_not_win_the_record_back() {
    let mut sim = Sim::settled(6, &["a"]);
    rival(&mut sim);
    sim.run(secs(10));
    sim.update("a", "again");
    sim.run(secs(300));
    assert_eq!(sim.registry.records[&key("a")].content, instance("a", "rival"));
    assert_eq!(sim.count("lost"), 1);
    assert_eq!(sim.phase("a"), Phase::Blocked);
}
