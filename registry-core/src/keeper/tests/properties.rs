//! Random scripts of faults, edits, crashes and sleeps: all the rules hold during each, and everything wanted is
//! back after each.
//!
//! A failure prints the shortest script that shows it. What was found so stands below by name, as a script.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    super::{
        entry::{OnMissing, Policy},
        input::{Call, Input},
        phase::Phase,
    },
    model::{Fault, Landing},
    sim::{Sim, config, instance, key, millis, secs},
};
use crate::{Capabilities, ErrorKind, OnDuplicate};

#[derive(Clone, Debug)]
pub(super) enum Act {
    Wait(u32),
    Want(u8),
    Withdraw(u8),
    Fault(Fault),
    Heal,
    Wipe,
    Delete(u8),
    Mute(u8),
    Latency(u16),
    Reject(u8),
    Panic,
    Stop(u32),
    Suspend(u32),
    Wall(i32),
    Alive(bool),
    /// The other life registers, or takes back, the same id.
    Rival(u8),
    RivalLeaves(u8),
}

const IDS: [&str; 3] = ["a", "b", "c"];

fn id(n: u8) -> &'static str {
    IDS[usize::from(n) % IDS.len()]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Down),
        Just(Fault::Hang(Landing::Never)),
        Just(Fault::Hang(Landing::AtOnce)),
        (1..20_000_u64).prop_map(|late| Fault::Hang(Landing::After(millis(late)))),
        Just(Fault::Refusing(ErrorKind::Unauthenticated)),
        Just(Fault::Refusing(ErrorKind::PermissionDenied)),
        Just(Fault::Refusing(ErrorKind::Protocol)),
        Just(Fault::Throttled(None)),
        (0..90_u64).prop_map(|wait| Fault::Throttled(Some(secs(wait)))),
    ]
}

fn act(rivals: bool) -> impl Strategy<Value = Act> {
    let times = prop_oneof![0..20_u32, 0..1_000_u32, 0..20_000_u32, 0..200_000_u32];
    let rival =
        move |act: fn(u8) -> Act| (0..3_u8).prop_map(move |i| if rivals { act(i) } else { Act::Heal });
    prop_oneof![
        12 => times.prop_map(Act::Wait),
        6 => (0..3_u8).prop_map(Act::Want),
        4 => (0..3_u8).prop_map(Act::Withdraw),
        5 => fault().prop_map(Act::Fault),
        5 => Just(Act::Heal),
        1 => Just(Act::Wipe),
        1 => (0..3_u8).prop_map(Act::Delete),
        1 => (0..3_u8).prop_map(Act::Mute),
        1 => (0..1_600_u16).prop_map(Act::Latency),
        1 => (0..3_u8).prop_map(Act::Reject),
        1 => Just(Act::Panic),
        1 => (0..60_000_u32).prop_map(Act::Stop),
        1 => (5_000..60_000_u32).prop_map(Act::Suspend),
        1 => any::<i32>().prop_map(Act::Wall),
        1 => any::<bool>().prop_map(Act::Alive),
        2 => rival(Act::Rival),
        2 => rival(Act::RivalLeaves),
    ]
}

/// Plays a script, heals everything, and asks whether all is as wanted.
pub(super) fn play(seed: u64, beats: bool, careful: bool, script: &[Act]) {
    let mut sim = if beats { Sim::heartbeat(seed) } else { Sim::new(seed) };
    let rival = sim.join(config(seed ^ 0x5eed), Capabilities::session());
    let policy = Policy {
        on_duplicate: if careful { OnDuplicate::Reject } else { OnDuplicate::TakeOver },
        on_missing: OnMissing::Reassert,
    };
    let wait = |ms: u32| Duration::from_millis(u64::from(ms));
    for (n, act) in script.iter().enumerate() {
        sim.note(&format!("--- {act:?}"));
        match act {
            Act::Wait(ms) => sim.run(wait(*ms)),
            Act::Want(i) => sim.want(0, instance(id(*i), &format!("note {n}")), policy),
            Act::Withdraw(i) => sim.withdraw(0, id(*i)),
            Act::Fault(fault) => sim.fault(*fault),
            Act::Heal => sim.fault(Fault::None),
            Act::Wipe => sim.registry.wipe(sim.now),
            Act::Delete(i) => sim.registry.delete(&key(id(*i)), sim.now),
            Act::Mute(i) => drop(sim.registry.mute.insert(key(id(*i)))),
            Act::Latency(ms) => sim.registry.latency = millis(u64::from(*ms)),
            Act::Reject(i) => drop(sim.registry.refuse.insert(key(id(*i)), ErrorKind::InvalidArgument)),
            Act::Panic => sim.restart(0),
            Act::Stop(ms) => {
                sim.stop(0, wait(*ms));
                sim.run(wait(*ms));
            }
            Act::Suspend(ms) => {
                sim.suspend(0, wait(*ms));
                sim.run(wait(*ms));
            }
            Act::Wall(by) => {
                // Noticed by itself: a clock set back during a suspend would hide that.
                sim.step(0, Input::Wake);
                sim.lives[0].wall_off += i64::from(*by);
                sim.step(0, Input::Wake);
            }
            Act::Alive(alive) => sim.lives[0].alive = *alive,
            Act::Rival(i) => sim.want(rival, instance(id(*i), "rival"), policy),
            Act::RivalLeaves(i) => sim.withdraw(rival, id(*i)),
        }
    }
    heal(&mut sim, rival);
}

fn heal(sim: &mut Sim, rival: usize) {
    sim.note("--- healed");
    sim.fault(Fault::None);
    sim.registry.mute.clear();
    sim.registry.latency = millis(2);
    sim.lives[0].alive = true;
    IDS.into_iter().for_each(|id| sim.withdraw(rival, id));
    let blocked = |sim: &Sim| {
        let now = IDS.into_iter().any(|id| sim.phase(id) == Phase::Blocked);
        now || sim.refused || !sim.registry.refuse.is_empty()
    };
    // A publication on its way is refused if it meets the rival's record, or one of his that is on its way too.
    let publishes = |life: usize| {
        sim.lives[life].pending.values().any(|pending| matches!(pending.call, Call::Publish { .. }))
    };
    let his = sim.lives[rival].incarnation;
    let stands = sim.registry.records.values().any(|record| record.version.incarnation == his);
    let meets_rival = publishes(0) && (stands || publishes(rival));
    // What was refused or throttled waits for its minute; a deletion waits for the audit.
    let patience = if blocked(sim) || meets_rival { secs(75) } else { secs(10) };
    sim.registry.refuse.clear();
    if sim.registry_was_touched_by_hand() {
        sim.assert_back_within(secs(150));
    } else {
        let late = if sim.landed_late { sim.ghost_limit() } else { secs(0) };
        sim.assert_back_within(patience.max(sim.throttle()).max(late));
    }
    sim.run(secs(100));
    assert!(sim.is_converged(), "and stays");
    IDS.into_iter().for_each(|id| sim.withdraw(0, id));
    sim.run(secs(150));
    assert!(sim.registry.records.is_empty(), "all is withdrawn");
    assert!(sim.lives[0].keeper.is_idle(), "nothing is left to do: {:?}", sim.lives[0].keeper);
    // A virtual lease whose grant was lost stays with its handle: there is nothing to revoke.
    assert!(sim.beats_alone() || sim.registry.leases() == 0, "no lease is left");
}

/// So many cases, or more if `PROPTEST_CASES` says so.
pub(super) fn cases(count: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.max(count),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..default
    }
}

proptest! {
    #![proptest_config(cases(384))]

    #[test]
    fn every_rule_holds_over_any_script(
        seed in any::<u64>(),
        script in prop::collection::vec(act(false), 1..40),
    ) {
        play(seed, false, false, &script);
    }

    #[test]
    fn every_rule_holds_over_any_script_with_beats_of_their_own(
        seed in any::<u64>(),
        script in prop::collection::vec(act(false), 1..40),
    ) {
        play(seed, true, false, &script);
    }

    #[test]
    fn every_rule_holds_over_any_script_with_a_rival(
        seed in any::<u64>(),
        careful in any::<bool>(),
        script in prop::collection::vec(act(true), 1..40),
    ) {
        play(seed, false, careful, &script);
    }
}

#[test]
fn bad_news_sent_before_a_suspend_stays_true() {
    play(
        0,
        true,
        false,
        &[Act::Want(0), Act::Wait(8), Act::Want(1), Act::Suspend(14_996), Act::Suspend(5_000)],
    );
}

#[test]
fn beats_that_went_live_in_doubt_are_suspect_after_a_suspend() {
    play(0, true, false, &[Act::Latency(1_251), Act::Want(0), Act::Wait(49_104), Act::Suspend(13_746)]);
}

#[test]
fn an_older_write_that_lands_over_a_newer_is_found_even_where_nothing_is_audited_otherwise() {
    let late = Act::Fault(Fault::Hang(Landing::After(millis(2_814))));
    let script = [Act::Want(1), Act::Wait(4), Act::Want(0), late, Act::Wait(66_831), Act::Want(1)];
    play(882_612_772_486_702_426, true, false, &script);
}

/// Every order of a few acts, at a few distances.
#[test]
fn every_rule_holds_over_every_order_of_a_few_acts() {
    let acts = [
        Act::Want(0),
        Act::Withdraw(0),
        Act::Want(0),
        Act::Fault(Fault::Hang(Landing::After(millis(5_000)))),
        Act::Heal,
        Act::Panic,
    ];
    let mut orders = 0;
    for distance in [0, 3, 3_200] {
        permutations(&mut (0..acts.len()).collect::<Vec<_>>(), 0, &mut |order| {
            let mut script = vec![Act::Want(1), Act::Wait(100)];
            for at in order {
                script.push(acts[*at].clone());
                script.push(Act::Wait(distance));
            }
            play(1, false, false, &script);
            orders += 1;
        });
    }
    assert_eq!(orders, 3 * 720);
}

fn permutations(order: &mut Vec<usize>, from: usize, visit: &mut impl FnMut(&[usize])) {
    if from == order.len() {
        visit(order);
    }
    for at in from..order.len() {
        order.swap(from, at);
        permutations(order, from + 1, visit);
        order.swap(from, at);
    }
}
