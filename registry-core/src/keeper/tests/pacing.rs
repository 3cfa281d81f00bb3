//! Many registrations on one client.

use super::{
    super::input::Input,
    model::Fault,
    sim::{Sim, key, millis, secs},
};

#[test]
fn r6_one_hundred_and_five_thousand_registrations_all_return() {
    for count in [1, 100, 5_000] {
        let mut sim = Sim::new(1);
        sim.register_many(count);
        let first = sim.assert_back_within(secs(2));
        assert!(first <= millis(100), "a first publication is not paced: {first:?}");
        sim.outage(Fault::Down, secs(30));
        assert_eq!(sim.count("lost"), count);
        let paced = secs(u64::try_from(count.saturating_sub(1_000)).unwrap() / 200);
        let since = sim.now;
        sim.assert_back_within(secs(10) + paced);
        assert_eq!(sim.count("recovered"), count);
        let writes = |from: u64, to: u64| {
            let within = |at: &std::time::Duration| (since + secs(from)..since + secs(to)).contains(at);
            sim.registry.writes.iter().filter(|(at, _)| within(at)).count()
        };
        for from in 0..40 {
            let (most, burst) = (writes(from, from + 10), if from < 10 { 1_000 } else { 0 });
            assert!(most <= burst + 2_050, "{most} publications within 10 s, from {from} s on");
        }
    }
}

#[test]
fn paced_publications_leave_in_groups_not_one_by_one() {
    let mut sim = Sim::new(2);
    sim.register_many(5_000);
    sim.run(secs(1));
    sim.registry.arrivals.clear();
    sim.registry.revoke_all(sim.now);
    sim.run(secs(40));
    let calls = sim.registry.count("publish");
    assert!(calls <= 110, "{calls} calls for 5,000 records");
    assert!(sim.is_converged());
}

#[test]
fn new_registrations_do_not_queue_behind_paced_ones() {
    let mut sim = Sim::new(3);
    sim.register_many(5_000);
    sim.run(secs(1));
    sim.registry.revoke_all(sim.now);
    sim.run(secs(6));
    sim.register("new");
    sim.run(millis(50));
    assert_eq!(sim.told("new"), ["registered 1"]);
}

#[test]
fn five_thousand_withdrawals_end() {
    let mut sim = Sim::new(4);
    sim.register_many(5_000);
    sim.run(secs(1));
    sim.registry.revoke_all(sim.now);
    sim.run(secs(6));
    sim.lives[0].desired.clear();
    let by = sim.base + sim.mono(0) + secs(3);
    let inputs = (0..5_000).map(|n| Input::Withdraw { key: key(&format!("i{n}")), by }).collect();
    sim.step(0, Input::Many(inputs));
    sim.run(secs(5));
    assert!(sim.lives[0].keeper.is_idle() && sim.registry.records.is_empty());
}
