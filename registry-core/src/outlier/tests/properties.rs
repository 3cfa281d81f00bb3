//! What holds whatever happens.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Fail(usize, Failure),
    Succeed(usize),
    Pass(u64),
    Claim,
    Answer(usize),
    End(usize, Option<bool>),
    Interval(u32),
    Join,
    Leave(usize),
    Renew(usize),
    Down(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let failure = prop_oneof![
        Just(Failure::Connect),
        Just(Failure::Timeout),
        Just(Failure::Server),
        Just(Failure::Throttled)
    ];
    let event = prop_oneof![
        30 => (any::<usize>(), failure).prop_map(|(at, failure)| Event::Fail(at, failure)),
        4 => any::<usize>().prop_map(Event::Succeed),
        6 => (0_u64..60_000).prop_map(Event::Pass),
        6 => Just(Event::Claim),
        3 => any::<usize>().prop_map(Event::Answer),
        6 => (any::<usize>(), any::<Option<bool>>()).prop_map(|(at, verdict)| Event::End(at, verdict)),
        2 => (0_u32..300).prop_map(Event::Interval),
        3 => Just(Event::Join),
        3 => any::<usize>().prop_map(Event::Leave),
        2 => any::<usize>().prop_map(Event::Renew),
        1 => (0_usize..40).prop_map(Event::Down),
    ];
    prop::collection::vec(event, 0..400)
}

fn carry_out(world: &mut World, probes: &mut Vec<(Slot, ProbeId)>, next: &mut u32, event: &Event) {
    let len = world.members.len();
    match *event {
        Event::Fail(at, failure) if len > 0 => world.fail(world.members[at % len].index, failure, 1),
        Event::Succeed(at) if len > 0 => world.succeed(world.members[at % len].index),
        Event::Pass(ms) => world.pass(Duration::from_millis(ms)),
        Event::Claim => {
            if let Some((index, probe)) = world.claim() {
                probes.push((world.slot(index), probe));
            }
        }
        Event::Answer(at) if !probes.is_empty() => {
            let (slot, probe) = probes[at % probes.len()];
            world.step(Input::Answered { slot, probe });
        }
        Event::End(at, verdict) if !probes.is_empty() => {
            let (slot, probe) = probes.swap_remove(at % probes.len());
            match verdict {
                None => drop(world.step(Input::Unproven { slot, probe })),
                Some(well) => {
                    let failure = (!well).then_some(Failure::Server);
                    world.step(Input::Outcome { slot, key: &key(slot.index), failure, probe: Some(probe) });
                }
            }
        }
        Event::Interval(volume) => {
            let successes: Vec<_> = world.members.iter().map(|slot| (slot.index, volume)).collect();
            world.interval(successes);
        }
        Event::Join => {
            world.members.push(Slot { index: *next, generation: 0 });
            *next += 1;
            world.settle();
        }
        Event::Leave(at) if len > 0 => {
            world.members.swap_remove(at % len);
            world.settle();
        }
        Event::Renew(at) if len > 0 => {
            world.members[at % len].generation += 1;
            world.settle();
        }
        Event::Down(down) => {
            world.down = down;
            world.settle();
        }
        _ => {}
    }
}

proptest! {
    #[test]
    fn never_more_than_the_bound_is_ejected_and_few_usable_ones_mean_panic(
        start in 0_u32..45,
        events in events(),
    ) {
        let mut world = World::new(Ejection::default(), start);
        let (mut probes, mut next) = (Vec::new(), start);
        for event in &events {
            let before = world.done.len();
            carry_out(&mut world, &mut probes, &mut next, event);
            let serving = world.members.len();
            let most = if serving < 3 { 0 } else { (serving / 10).max(1) };
            let ejected = world.ejected();
            prop_assert!(ejected.len() <= most, "{} of {serving} after {event:?}", ejected.len());
            let members: Vec<_> = world.members.iter().map(|slot| key(slot.index)).collect();
            prop_assert!(ejected.iter().all(|key| members.contains(key)));
            for action in &world.done[before..] {
                if let Action::Eject { lasts, .. } = action {
                    prop_assert!((30 * SECOND..=330 * SECOND).contains(lasts));
                }
            }
            // An instance that fails or is ejected keeps panic off only as long as half are usable.
            let usable = serving - ejected.len();
            if !ejected.is_empty() && usable * 2 < serving + world.down {
                prop_assert!(world.machine.panics());
            }
        }
        // Each that is still ejected gets a probe in the end, and comes back.
        world.pass(400 * SECOND);
        for _ in 0..=world.members.len() {
            if let Some((index, probe)) = world.claim() {
                world.outcome(index, None, Some(probe));
            }
        }
        prop_assert!(world.claim().is_none());
        let in_panic = world.done.iter().filter(|a| matches!(a, Action::PanicBegins { .. })).count()
            - world.done.iter().filter(|a| matches!(a, Action::PanicEnds)).count();
        prop_assert_eq!(in_panic, usize::from(world.machine.panics()));
        let restored = world.ejected();
        prop_assert!(restored.is_empty(), "{restored:?}");
    }

    #[test]
    fn an_instance_never_has_two_probes_out(
        seconds in prop::collection::vec(0_u32..29, 1..50),
    ) {
        let mut world = World::new(Ejection::default(), 10);
        world.fail(0, Failure::Server, 5);
        world.pass(40 * SECOND);
        let mut probe: Option<ProbeId> = None;
        let mut since = Duration::ZERO;
        for pass in seconds {
            world.pass(pass * SECOND);
            since += pass * SECOND;
            let claimed = world.claim();
            if world.ejected().is_empty() {
                // After five that never ended.
                prop_assert!(claimed.is_none() && since >= 30 * SECOND);
                return Ok(());
            }
            if probe.is_some() {
                prop_assert_eq!(claimed.is_some(), since >= 30 * SECOND);
            }
            if let Some((_, claimed)) = claimed {
                probe = Some(claimed);
                since = Duration::ZERO;
            }
        }
    }
}
