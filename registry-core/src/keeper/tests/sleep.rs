//! Clocks that jump, processes that are stopped, machines that are suspended.

use super::{
    super::phase::Phase,
    sim::{Sim, TTL, key, millis, secs},
};

const YEAR: i64 = 365 * 86_400 * 1_000;

#[test]
fn r3_a_suspended_machine_claims_nothing_before_it_has_renewed() {
    // The monotonic clock stood still: only the wall clock tells.
    for long in [secs(16), secs(45), secs(3_600), secs(86_400 * 30)] {
        for phase in 0..20 {
            let mut sim = Sim::settled(phase, &["a"]);
            sim.run(secs(20) + millis(250) * u32::try_from(phase).unwrap());
            sim.suspend(0, long);
            sim.run(long);
            assert!(!sim.is_claimed(0, &key("a")), "awake for no time at all after {long:?}");
            sim.assert_back_within(secs(10));
            assert_eq!(sim.count("lost"), 1, "{:?}", sim.told("a"));
        }
    }
}

#[test]
fn r3_a_renewal_on_its_way_over_a_suspend_proves_nothing() {
    for at in 0..6 {
        let mut sim = Sim::settled(at, &["a"]);
        // Until the next renewal is on its way.
        let renewals = sim.registry.count("renew");
        while sim.registry.count("renew") == renewals {
            sim.run(millis(1));
        }
        sim.suspend(0, secs(60));
        sim.run(secs(60));
        for _ in 0..200 {
            sim.run(millis(5));
        }
        sim.assert_back_within(secs(10));
    }
}

#[test]
fn r3_a_first_registration_interrupted_by_a_suspend_is_not_claimed_before_its_time() {
    for at in 0..10 {
        for mut sim in [Sim::new(at), Sim::heartbeat(at)] {
            sim.register("a");
            sim.run(millis(at));
            sim.suspend(0, secs(100));
            sim.run(secs(100));
            for _ in 0..200 {
                sim.run(millis(5));
            }
            sim.assert_back_within(secs(10));
        }
    }
}

#[test]
fn a_process_stopped_for_three_times_the_time_to_live_tells_one_loss_and_comes_back() {
    for phase in 0..20 {
        let mut sim = Sim::settled(phase, &["a", "b"]);
        sim.run(secs(17) + millis(250) * u32::try_from(phase).unwrap());
        sim.stop(0, 3 * TTL);
        sim.run(3 * TTL);
        sim.assert_back_within(secs(10));
        assert_eq!((sim.count("lost"), sim.count("recovered")), (2, 2));
    }
}

#[test]
fn a_late_wake_renews_first_and_loses_nothing_while_time_remains() {
    let mut sim = Sim::settled(1, &["a"]);
    sim.run(secs(20));
    sim.stop(0, secs(9));
    let renewals = sim.registry.count("renew");
    sim.run(secs(9) + millis(5));
    assert_eq!(sim.registry.count("renew"), renewals + 1);
    sim.run(secs(1));
    assert_eq!(sim.told("a"), ["registered 1", "suspect", "cleared"]);
}

#[test]
fn a_wall_clock_set_ten_years_off_costs_one_renewal_and_no_loss() {
    for jump in [10 * YEAR, -10 * YEAR, 3_600_000, -3_600_000] {
        let mut sim = Sim::settled(2, &["a"]);
        sim.run(secs(21));
        sim.lives[0].wall_off += jump;
        sim.run(secs(600));
        assert_eq!(sim.count("lost"), 0);
        assert_eq!(sim.phase("a"), Phase::Live);
        let doubts = sim.count("suspect");
        assert_eq!(doubts, usize::from(jump > 0), "backwards is ignored");
        assert_eq!(sim.count("cleared"), doubts);
    }
}

#[test]
fn a_wall_clock_that_jumps_all_the_time_does_not_keep_the_registration_away() {
    let mut sim = Sim::new(3);
    sim.register("a");
    for n in 0..600 {
        sim.lives[0].wall_off += 10_000 * if n % 2 == 0 { 1 } else { -1 };
        sim.run(millis(100));
    }
    assert_eq!(sim.count("lost"), 0);
    sim.assert_back_within(secs(1));
}
