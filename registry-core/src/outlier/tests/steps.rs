//! What the machine does, step by step.

use super::*;
use crate::outlier::machine::{PROBE_ANSWER, PROBE_LIMIT, PROBE_PAUSE, UNPROVEN};

fn ten() -> World {
    World::new(Ejection::default(), 10)
}

/// Ten, of which the first is ejected.
fn ejected() -> World {
    let mut world = ten();
    world.fail(0, Failure::Server, 5);
    assert_eq!(world.ejected(), [key(0)]);
    world
}

/// Waits until a probe is due, at most `within`.
fn probe(world: &mut World, within: Duration) -> ProbeId {
    world.pass(within);
    let (index, probe) = world.claim().unwrap();
    assert_eq!(index, 0);
    probe
}

#[tokio::test(start_paused = true)]
async fn five_failures_in_a_row_eject_and_a_success_between_them_starts_anew() {
    let mut world = ten();
    world.fail(0, Failure::Server, 4);
    world.succeed(0);
    world.fail(0, Failure::Timeout, 4);
    assert!(world.ejected().is_empty());
    world.fail(0, Failure::Server, 1);
    assert_eq!(world.ejected(), [key(0)]);
    assert!(matches!(&world.ejections()[..], [(_, EjectionCause::Consecutive, 30..=33)]));
}

#[tokio::test(start_paused = true)]
async fn two_refused_connections_in_a_row_eject_and_one_does_not() {
    let mut world = ten();
    world.fail(0, Failure::Connect, 1);
    world.succeed(0);
    world.fail(0, Failure::Connect, 1);
    assert!(world.ejected().is_empty());
    world.fail(0, Failure::Connect, 1);
    assert_eq!(world.ejected(), [key(0)]);
}

#[tokio::test(start_paused = true)]
async fn throttling_is_no_failure_in_a_row_but_counts_for_the_share() {
    let mut world = ten();
    world.fail(0, Failure::Throttled, 100);
    assert!(world.ejected().is_empty());
    world.interval((0..10).map(|index| (index, if index == 0 { 0 } else { 60 })));
    assert_eq!(world.ejected(), [key(0)]);
    assert_eq!(world.ejections()[0].1, EjectionCause::Share);
}

#[tokio::test(start_paused = true)]
async fn a_share_of_85_percent_ejects_given_volume_and_company() {
    let verdict = |failures: u32, successes: u32, others: u32| {
        let mut world = ten();
        for _ in 0..failures {
            world.fail(0, Failure::Server, 1);
            world.succeed(0);
        }
        let volumes =
            [(0, successes)].into_iter().chain((1..10).map(|index| (index, u32::from(index <= others) * 50)));
        world.interval(volumes);
        world.ejections().first().map(|(_, cause, _)| *cause)
    };
    assert_eq!(verdict(51, 9, 4), Some(EjectionCause::Share));
    assert_eq!(verdict(50, 9, 4), None, "84.7 %");
    assert_eq!(verdict(49, 0, 4), None, "49 requests");
    assert_eq!(verdict(51, 9, 3), None, "four instances with volume");
}

#[tokio::test(start_paused = true)]
async fn a_success_rate_far_below_the_others_ejects() {
    let verdict = |hosts: u32, failures: u32, volume: u32| {
        let mut world = World::new(Ejection::default(), hosts);
        for _ in 0..failures {
            world.fail(0, Failure::Server, 1);
            world.succeed(0);
        }
        world.interval((0..hosts).map(|index| (index, volume - if index == 0 { failures } else { 0 })));
        world.ejections().first().map(|(_, cause, _)| *cause)
    };
    assert_eq!(verdict(10, 30, 100), Some(EjectionCause::SuccessRate));
    assert_eq!(verdict(10, 30, 99), None, "too little volume");
    assert_eq!(verdict(4, 30, 100), None, "too few hosts");
    assert_eq!(verdict(10, 0, 100), None, "nobody is worse than the others");
    assert_eq!(verdict(5, 30, 100), Some(EjectionCause::SuccessRate), "two deviations");
    assert_eq!(verdict(10, 1, 100), None, "three deviations, yet a single failure");
    assert_eq!(verdict(10, 10, 100), None, "a tenth, less its share of the mean");
    assert_eq!(verdict(10, 12, 100), Some(EjectionCause::SuccessRate));
}

#[tokio::test(start_paused = true)]
async fn nobody_of_ten_that_are_alike_is_an_outlier() {
    let mut random = fastrand::Rng::with_seed(11);
    for failing in [0.0001, 0.001, 0.01, 0.05, 0.3] {
        for volume in [100, 1_000] {
            // Neither in a row nor by share.
            let mut world = World::new(Ejection::default().consecutive(u32::MAX).panic(0.0), 10);
            for _ in 0..100 {
                let failures: Vec<u32> =
                    (0..10).map(|_| (0..volume).map(|_| u32::from(random.f64() < failing)).sum()).collect();
                for (index, failures) in failures.iter().enumerate() {
                    world.fail(index as u32, Failure::Server, *failures);
                }
                world.interval((0..10).map(|index| (index, volume - failures[index as usize])));
                assert!(world.ejected().is_empty(), "{failing} of {volume}: {failures:?}");
                world.pass(10 * SECOND);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_equally_bad_are_no_outliers() {
    let mut world = ten();
    for index in 0..10 {
        for _ in 0..50 {
            world.fail(index, Failure::Server, 1);
            world.succeed(index);
        }
    }
    world.interval((0..10).map(|index| (index, 50)));
    assert!(world.ejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_interval_forgets_the_failures_of_the_one_before() {
    let mut world = ten();
    for _ in 0..50 {
        world.fail(0, Failure::Server, 1);
        world.succeed(0);
    }
    world.interval((0..10).map(|index| (index, 1)));
    world.interval((0..10).map(|index| (index, u32::from(index > 0) * 60)));
    assert!(world.ejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn exactly_one_probe_is_given_out_when_the_time_is_over() {
    let mut world = ejected();
    world.pass(30 * SECOND - Duration::from_nanos(1));
    assert_eq!(world.claim(), None);
    let probe = probe(&mut world, 4 * SECOND);
    assert_eq!(world.claim(), None);
    assert_eq!(world.ejected(), [key(0)], "a probe isn't back yet");
    world.outcome(0, None, Some(probe));
    assert!(world.ejected().is_empty());
    assert_eq!(world.done.last(), Some(&Action::Restore { key: key(0) }));
}

#[tokio::test(start_paused = true)]
async fn each_failed_probe_ejects_for_longer_up_to_five_minutes_and_a_tenth() {
    let mut world = ejected();
    for _ in 0..15 {
        let probe = probe(&mut world, 331 * SECOND);
        world.outcome(0, Some(Failure::Throttled), Some(probe));
    }
    let ejections = world.ejections();
    for (times, (_, cause, lasts)) in ejections.iter().enumerate() {
        let least = (30 * (times as u64 + 1)).min(300);
        assert!((least..=least * 11 / 10).contains(lasts), "{times}: {lasts} s");
        assert_eq!(*cause, if times == 0 { EjectionCause::Consecutive } else { EjectionCause::Probe });
    }
    assert_eq!(ejections.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn each_interval_that_an_instance_does_well_takes_one_off_its_next_ejection() {
    for (well, expected) in [(0, 120), (10, 90), (25, 60), (3_600, 30)] {
        let mut world = ejected();
        for _ in 0..2 {
            let probe = probe(&mut world, 100 * SECOND);
            world.outcome(0, Some(Failure::Server), Some(probe));
        }
        let probe = probe(&mut world, 100 * SECOND);
        world.outcome(0, None, Some(probe));
        world.pass(well * SECOND);
        world.fail(0, Failure::Server, 5);
        let lasts = world.ejections().last().unwrap().2;
        assert!((expected..=expected * 11 / 10).contains(&lasts), "after {well} s: {lasts} s");
    }
}

#[tokio::test(start_paused = true)]
async fn no_time_is_too_long() {
    let most = Duration::MAX;
    let config = Ejection::new().interval(most).base(most).longest(most).probe_timeout(most);
    let mut world = World::new(config.panic(0.6), 10);
    (0..5).for_each(|index| world.fail(index, Failure::Server, 5));
    assert!(world.machine.panics() && world.machine.due().is_some());
    assert!(!world.machine.interval_is_over(world.now));
    world.pass(500 * 86_400 * SECOND);
    let (index, _) = world.claim().unwrap();
    world.succeed(9);
    world.interval([]);
    assert!(world.machine.due().is_some());
    assert_eq!(world.ejected(), [key(index)]);
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_a_verdict_is_given_again_a_second_later() {
    let mut world = ejected();
    let probe = probe(&mut world, 34 * SECOND);
    let slot = world.slot(0);
    world.step(Input::Unproven { slot, probe });
    assert_eq!(world.claim(), None);
    world.pass(PROBE_PAUSE);
    assert!(world.claim().is_some_and(|(index, next)| index == 0 && next != probe));
    assert_eq!(world.ejections().len(), 1, "no verdict is no failure");
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_restored_if_no_probe_ever_gets_a_verdict() {
    let mut world = ejected();
    world.pass(34 * SECOND);
    for _ in 0..UNPROVEN {
        assert_eq!(world.ejected(), [key(0)]);
        let probe = probe(&mut world, PROBE_PAUSE);
        let slot = world.slot(0);
        world.step(Input::Unproven { slot, probe });
    }
    assert!(world.ejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_does_not_end_is_given_up_and_its_late_failure_is_ignored() {
    let mut world = ejected();
    let first = probe(&mut world, 34 * SECOND);
    world.pass(PROBE_LIMIT - SECOND);
    assert_eq!(world.claim(), None);
    let second = probe(&mut world, SECOND);
    world.outcome(0, Some(Failure::Server), Some(first));
    assert_eq!(world.ejected(), [key(0)]);
    assert_eq!(world.ejections().len(), 1);
    world.outcome(0, None, Some(second));
    assert!(world.ejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_answer_goes_on_for_long_has_succeeded() {
    let mut world = ejected();
    let probe = probe(&mut world, 34 * SECOND);
    let slot = world.slot(0);
    world.pass(20 * SECOND);
    world.step(Input::Answered { slot, probe });
    world.pass(PROBE_ANSWER - SECOND);
    // That it goes on says nothing new.
    world.step(Input::Answered { slot, probe });
    assert_eq!((world.claim(), world.ejected()), (None, vec![key(0)]));
    world.pass(SECOND);
    assert_eq!(world.machine.due(), Some(world.now));
    assert_eq!((world.claim(), world.ejected()), (None, vec![]));
    world.outcome(0, Some(Failure::Server), Some(probe));
    assert_eq!((world.ejected(), world.ejections().len()), (vec![], 1), "its end hours later is no probe's");
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_answer_begins_well_and_fails_at_once_has_failed() {
    let mut world = ejected();
    let probe = probe(&mut world, 34 * SECOND);
    let slot = world.slot(0);
    world.step(Input::Answered { slot, probe });
    world.outcome(0, Some(Failure::Server), Some(probe));
    world.pass(PROBE_ANSWER);
    assert_eq!((world.claim(), world.ejected()), (None, vec![key(0)]));
    assert_eq!(world.ejections().len(), 2, "and is out for longer");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_slower_than_probes_are_given_up_is_restored_by_a_late_success() {
    for is_next_out in [false, true] {
        let mut world = ejected();
        let first = probe(&mut world, 34 * SECOND);
        world.pass(PROBE_LIMIT);
        if is_next_out {
            world.claim().unwrap();
        }
        world.outcome(0, None, Some(first));
        assert!(world.ejected().is_empty());
        world.fail(0, Failure::Server, 5);
        world.outcome(0, None, Some(first));
        assert_eq!(world.ejected(), [key(0)], "that was of the ejection before");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_success_counts_for_nothing_once_a_later_probe_has_failed() {
    let mut world = ejected();
    let first = probe(&mut world, 34 * SECOND);
    let second = probe(&mut world, PROBE_LIMIT);
    world.outcome(0, Some(Failure::Server), Some(second));
    world.outcome(0, None, Some(first));
    assert_eq!(world.ejected(), [key(0)]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_restored_if_no_probe_ever_ends() {
    let mut world = ejected();
    probe(&mut world, 34 * SECOND);
    for _ in 1..UNPROVEN {
        probe(&mut world, PROBE_LIMIT);
    }
    world.pass(PROBE_LIMIT);
    assert_eq!(world.ejected(), [key(0)]);
    assert_eq!(world.claim(), None);
    assert!(world.ejected().is_empty());
}

#[tokio::test(start_paused = true)]
async fn answers_that_arrive_while_ejected_are_ignored() {
    let mut world = ejected();
    world.fail(0, Failure::Connect, 20);
    world.succeed(0);
    assert_eq!(world.ejected(), [key(0)]);
    assert_eq!(world.ejections().len(), 1);
    world.interval((0..10).map(|index| (index, 60)));
    assert_eq!(world.ejections().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tenth_may_be_ejected_but_one_of_three_and_none_of_two() {
    for (members, most) in [(1, 0), (2, 0), (3, 1), (5, 1), (19, 1), (20, 2), (35, 3)] {
        let mut world = World::new(Ejection::default().panic(0.0), members);
        for index in 0..members {
            world.fail(index, Failure::Server, 6);
        }
        assert_eq!(world.ejected().len(), most, "of {members}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_room_is_ejected_when_there_is_some_unless_it_did_well_since() {
    let mut world = ejected();
    world.fail(1, Failure::Server, 5);
    world.fail(2, Failure::Server, 5);
    world.succeed(1);
    world.fail(3, Failure::Server, 5);
    assert_eq!(world.ejected(), [key(0)]);
    world.pass(20 * SECOND);
    world.fail(2, Failure::Server, 1);
    let probe = probe(&mut world, 14 * SECOND);
    world.outcome(0, None, Some(probe));
    assert_eq!(world.ejected(), [key(2)], "of the others, nobody has failed for half a minute");
}

#[tokio::test(start_paused = true)]
async fn a_view_that_shrinks_takes_back_those_who_are_too_many() {
    let mut world = World::new(Ejection::default(), 30);
    for index in [3, 1, 2] {
        world.fail(index, Failure::Server, 5);
        world.pass(SECOND * 5);
    }
    for (left, expected) in [(29, vec![1, 2]), (10, vec![2]), (4, vec![2]), (3, vec![2])] {
        world.members.truncate(left);
        world.settle();
        assert_eq!(world.ejected(), expected.into_iter().map(key).collect::<Vec<_>>(), "{left} left");
    }
    world.members.remove(0);
    world.settle();
    assert!(world.ejected().is_empty(), "of two, none");
}

#[tokio::test(start_paused = true)]
async fn a_new_life_starts_clean_and_is_not_blamed_for_the_old_one() {
    let mut world = ejected();
    world.fail(1, Failure::Server, 4);
    let old = world.slot(1);
    world.members[0].generation = 1;
    world.members[1].generation = 1;
    world.settle();
    assert!(world.ejected().is_empty());
    world.fail(1, Failure::Server, 4);
    let late = Input::Outcome { slot: old, key: &key(1), failure: Some(Failure::Server), probe: None };
    world.step(late);
    assert!(world.ejected().is_empty());
    world.fail(1, Failure::Server, 1);
    assert_eq!(world.ejected(), [key(1)]);
}

#[tokio::test(start_paused = true)]
async fn who_left_is_not_ejected_by_its_last_failures() {
    let mut world = ten();
    let slot = world.slot(9);
    world.members.pop();
    for _ in 0..6 {
        world.step(Input::Outcome { slot, key: &key(9), failure: Some(Failure::Connect), probe: None });
    }
    assert!(world.done.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_last_failures_of_who_left_are_no_panic() {
    for members in [1, 2] {
        let mut world = World::new(Ejection::default(), members);
        let old: Vec<_> = world.members.clone();
        world.members.iter_mut().for_each(|slot| slot.generation += 1);
        for slot in old {
            let failure = Some(Failure::Connect);
            for _ in 0..3 {
                world.step(Input::Outcome { slot, key: &key(slot.index), failure, probe: None });
            }
        }
        assert!(world.done.is_empty(), "of {members}: {:?}", world.done);
        (0..members).for_each(|index| world.fail(index, Failure::Connect, 2));
        assert_eq!(world.done.len(), 1);
        assert!(world.machine.panics(), "now all fail that are there");
    }
}

#[tokio::test(start_paused = true)]
async fn panic_begins_when_fewer_than_half_are_usable_and_ends_an_interval_later_at_the_earliest() {
    let mut world = ten();
    for index in 0..5 {
        world.fail(index, Failure::Server, 5);
    }
    assert!(!world.machine.panics(), "half are usable");
    world.fail(5, Failure::Server, 5);
    assert!(world.machine.panics());
    assert_eq!(world.done.last(), Some(&Action::PanicBegins { usable: 4, of: 10 }));
    world.succeed(4);
    world.succeed(5);
    assert!(world.machine.panics(), "flapping shows at most once per interval");
    let due = world.machine.due().unwrap();
    assert_eq!(due, world.now + 10 * SECOND);
    world.pass(10 * SECOND);
    assert_eq!(world.claim(), None);
    assert!(!world.machine.panics());
    assert_eq!(world.done.last(), Some(&Action::PanicEnds));
}

#[tokio::test(start_paused = true)]
async fn instances_that_say_they_are_down_bring_panic_nearer() {
    let mut world = ten();
    world.down = 9;
    world.settle();
    assert!(!world.machine.panics(), "nobody fails");
    world.fail(0, Failure::Server, 5);
    assert!(world.machine.panics(), "9 of 19 are usable");
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_when_nobody_has_failed_for_long() {
    let mut world = ten();
    for index in 0..10 {
        world.fail(index, Failure::Server, 5);
    }
    assert!(world.machine.panics());
    world.pass(31 * SECOND);
    world.claim();
    assert!(!world.machine.panics());
}

#[tokio::test(start_paused = true)]
async fn what_has_recovered_is_forgotten() {
    let mut world = ejected();
    let probe = probe(&mut world, 34 * SECOND);
    world.outcome(0, None, Some(probe));
    world.fail(3, Failure::Server, 1);
    world.succeed(3);
    assert_eq!(world.machine.tracked().count(), 2);
    world.pass(11 * SECOND);
    world.interval([]);
    assert_eq!(world.machine.tracked().count(), 0);
    assert_eq!(world.machine.due(), None);
}
