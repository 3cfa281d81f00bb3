//! R1 for any time to live: back 10 s after the registry is, however the calls of the outage failed.
//!
//! An outage that no call has met is learned of by the next renewal, a third of the time to live later, or by the audit:
//! nothing here is about those.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    super::phase::Phase,
    model::{Fault, Landing},
    properties::cases,
    sim::{Sim, config, millis, secs},
};
use crate::{Capabilities, keeper::KeeperConfig};

const TTLS: [u64; 9] = [3, 5, 15, 24, 30, 45, 60, 90, 300];

fn settled(seed: u64, ttl: Duration) -> Sim {
    let capabilities =
        if seed.is_multiple_of(2) { Capabilities::session() } else { Capabilities::heartbeat() };
    let mut sim = Sim::with(KeeperConfig { ttl, ..config(seed) }, capabilities);
    ["a", "b"].into_iter().for_each(|id| sim.register(id));
    sim.assert_back_within(secs(1));
    sim
}

/// Whether any renewal has failed since the last that went well.
fn has_met_the_outage(sim: &Sim) -> bool {
    sim.phase("a") != Phase::Live
}

/// What fails during an outage, by its end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Refused,
    Hung,
    /// A host that boots: what is sent to it is swallowed.
    RefusedThenHung,
}

fn outage(sim: &mut Sim, ending: Ending, long: Duration, rng: &mut fastrand::Rng) {
    let hang = Fault::Hang(if rng.bool() { Landing::Never } else { Landing::AtOnce });
    match ending {
        Ending::Refused => sim.outage(Fault::Down, long),
        Ending::Hung => sim.outage(hang, long),
        Ending::RefusedThenHung => {
            let boots = long.min(secs(6)).mul_f64(rng.f64());
            sim.outage(Fault::Down, long - boots);
            sim.outage(hang, boots);
        }
    }
}

/// Plays outages of any length up to twice the time to live, with and without loss of the registry's data.
fn back_after(ttl: Duration, ending: Ending, updates: bool, outages: usize) {
    let mut met = 0;
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut sim = settled(seed, ttl);
        for _ in 0..outages {
            sim.run(ttl.mul_f64(0.5 * rng.f64()));
            if updates {
                sim.update("a", "second");
            }
            outage(&mut sim, ending, ttl.mul_f64(2.0 * rng.f64()), &mut rng);
            if !has_met_the_outage(&sim) {
                continue;
            }
            met += 1;
            if rng.bool() {
                sim.registry.wipe(sim.now);
            }
            sim.note(&format!("--- back: {ttl:?} {ending:?} seed {seed}"));
            sim.assert_back_within(secs(10));
        }
    }
    assert!(met >= 30, "only {met} outages were met by a renewal");
}

#[test]
fn r1_refused_attempts_delay_nobody_beyond_ten_seconds_whatever_the_time_to_live() {
    TTLS.into_iter().for_each(|ttl| back_after(secs(ttl), Ending::Refused, false, 1));
}

#[test]
fn r1_hung_attempts_delay_nobody_beyond_ten_seconds_whatever_the_time_to_live() {
    TTLS.into_iter().for_each(|ttl| back_after(secs(ttl), Ending::Hung, false, 1));
    TTLS.into_iter().for_each(|ttl| back_after(secs(ttl), Ending::RefusedThenHung, false, 1));
}

#[test]
fn r1_updates_that_failed_in_the_outage_delay_nobody_beyond_ten_seconds() {
    for ending in [Ending::Refused, Ending::Hung, Ending::RefusedThenHung] {
        TTLS.into_iter().for_each(|ttl| back_after(secs(ttl), ending, true, 1));
    }
}

#[test]
fn r1_outages_in_a_row_delay_nobody_beyond_ten_seconds() {
    for ending in [Ending::Refused, Ending::Hung, Ending::RefusedThenHung] {
        TTLS.into_iter().for_each(|ttl| back_after(secs(ttl), ending, true, 2));
    }
}

#[derive(Clone, Debug)]
enum Move {
    /// In hundredths of the time to live.
    Wait(u32),
    Update,
    Fault(Fault),
    /// The registry is back, and may have lost its data.
    Back {
        empty: bool,
    },
}

fn moves() -> impl Strategy<Value = Move> {
    let hang = prop_oneof![
        Just(Landing::Never),
        Just(Landing::AtOnce),
        (1..20_000_u64).prop_map(|late| Landing::After(millis(late))),
    ];
    let fault = prop_oneof![2 => Just(Fault::Down), 3 => hang.prop_map(Fault::Hang)];
    prop_oneof![
        6 => prop_oneof![0..5_u32, 0..50_u32, 0..150_u32].prop_map(Move::Wait),
        1 => Just(Move::Update),
        4 => fault.prop_map(Move::Fault),
        3 => any::<bool>().prop_map(|empty| Move::Back { empty }),
    ]
}

fn play(seed: u64, ttl: Duration, script: &[Move]) {
    let mut sim = settled(seed, ttl);
    for (n, step) in script.iter().chain([&Move::Back { empty: true }]).enumerate() {
        sim.note(&format!("--- {step:?}"));
        match step {
            Move::Wait(share) => sim.run(ttl * *share / 100),
            Move::Update => sim.update("a", &format!("note {n}")),
            Move::Fault(fault) => sim.fault(*fault),
            Move::Back { empty } => {
                let met = has_met_the_outage(&sim);
                sim.fault(Fault::None);
                if *empty && met {
                    sim.registry.wipe(sim.now);
                }
                // What was carried out late, over something newer, is found by the next look.
                let late = if sim.landed_late { ttl.min(secs(60)).mul_f64(1.2) } else { secs(0) };
                sim.assert_back_within(secs(10).max(late + secs(8)));
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn r1_holds_over_any_outages_with_any_time_to_live(
        seed in any::<u64>(),
        ttl in prop::sample::select(TTLS.to_vec()),
        script in prop::collection::vec(moves(), 1..30),
    ) {
        play(seed, secs(ttl), &script);
    }
}
