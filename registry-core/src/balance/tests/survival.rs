//! What is learnt of an instance outlives versions of the view, and only that instance.

use std::sync::mpsc;

use proptest::prelude::*;

use super::{super::in_flight::InFlight, *};

#[derive(Clone, Debug)]
enum Step {
    /// Publishes an instance, at one of a few addresses and with one of a few weights.
    Upsert {
        id: usize,
        port: u16,
        weight: u32,
        status: Status,
    },
    Remove(usize),
    Suspect(Vec<usize>),
    Begin(usize),
    End(usize),
    /// Many come, so that the tables grow.
    Crowd(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop::sample::select(vec![Status::Serving, Status::Serving, Status::Draining]);
    let step = prop_oneof![
        3 => (0_usize..8, 80_u16..82, 1_u32..4, status)
            .prop_map(|(id, port, weight, status)| Step::Upsert { id, port, weight, status }),
        1 => (0_usize..8).prop_map(Step::Remove),
        1 => prop::collection::vec(0_usize..8, 0..4).prop_map(Step::Suspect),
        5 => any::<usize>().prop_map(Step::Begin),
        5 => any::<usize>().prop_map(Step::End),
        1 => (10_usize..60).prop_map(Step::Crowd),
    ];
    prop::collection::vec(step, 1..120)
}

fn upsert(id: usize, port: u16, weight: u32, status: Status) -> Vec<Arc<Instance>> {
    let builder = Instance::builder("orders").id(format!("i{id}"));
    let builder = builder.endpoint(format!("http://10.0.0.1:{port}")).weight(weight).status(status);
    vec![Arc::new(builder.build().unwrap())]
}

/// All members, of whatever pool, by slot; with what tells a life from the next: id and port.
fn lives(view: &View) -> HashMap<(InstanceKey, u16), Slot> {
    let members = &view.live().members;
    let life = |at| {
        let instance = members.get(at).unwrap();
        ((instance.key(), instance.endpoint().port()), members.slot(at).unwrap())
    };
    (0..members.len()).map(life).collect()
}

proptest! {
    #[test]
    fn counts_follow_an_instance_through_versions_and_start_anew_for_another(steps in steps()) {
        let view = view(&Balance::random(), Vec::new());
        let balancer = LeastRequest::default();
        // What is in flight to each slot that was ever given out, and by which ticket.
        let mut model: HashMap<Slot, usize> = HashMap::new();
        let mut held: Vec<(Slot, Ticket)> = Vec::new();
        let mut crowd = 100;
        for step in steps {
            let mut change = ViewChange::default();
            let before = lives(&view);
            match step {
                Step::Upsert { id, port, weight, status } => change.upserts = upsert(id, port, weight, status),
                Step::Remove(id) => change.removals = vec![key(id)],
                Step::Suspect(ids) => change.suspects = Some(Arc::new(ids.into_iter().map(key).collect())),
                Step::Crowd(more) => {
                    change.upserts =
                        (crowd..crowd + more).flat_map(|id| upsert(id, 80, 1, Status::Serving)).collect();
                    crowd += more;
                }
                Step::Begin(at) => {
                    let members = &view.live().members;
                    if let Some(slot) = at.checked_rem(members.len()).and_then(|at| members.slot(at)) {
                        held.push((slot, balancer.begin(slot)));
                        *model.entry(slot).or_default() += 1;
                    }
                }
                Step::End(at) => {
                    if !held.is_empty() {
                        let (slot, ticket) = held.swap_remove(at % held.len());
                        balancer.end(slot, ticket, None);
                        *model.get_mut(&slot).unwrap() -= 1;
                    }
                }
            }
            view.apply(&change);
            balancer.rule(&view.live().members);
            let after = lives(&view);
            for (life, slot) in &after {
                // Of the same pool before and after: it is the same life.
                if let Some(before) = before.get(life) {
                    prop_assert_eq!(before, slot, "{:?} lost its place", life);
                }
                let expected = model.get(slot).copied().unwrap_or_default();
                prop_assert_eq!(balancer.in_flight.mine().of(*slot) as usize, expected, "{:?}", life);
            }
        }
    }
}

#[test]
fn what_is_known_of_an_instance_survives_another_weight_but_not_another_address() {
    for balance in [Balance::least_request(), Balance::peak_ewma()] {
        let view =
            view(&balance, [0, 1].into_iter().flat_map(|id| upsert(id, 80, 1, Status::Serving)).collect());
        let observer = view.observer().unwrap();
        let slot = view.live().choose(&PickContext::new(), &Dice::fresh()).unwrap().clone();
        let (busy, other) = if slot.instance.key() == key(0) { (0, key(1)) } else { (1, key(0)) };
        observer.begin(slot.slot);
        let change = |upserts| view.apply(&ViewChange { upserts, ..ViewChange::default() });
        // Both, as a light one would be avoided anyway.
        [0, 1].into_iter().for_each(|id| change(upsert(id, 80, 7, Status::Serving)));
        change((2..80).flat_map(|id| upsert(id, 80, 7, Status::Serving)).collect());
        view.apply(&ViewChange { removals: (2..80).map(key).collect(), ..ViewChange::default() });
        assert_eq!(count(&view, 50).keys().collect::<Vec<_>>(), [&other], "{balance:?}");
        change(upsert(busy, 81, 7, Status::Serving));
        assert_eq!(count(&view, 100).len(), 2, "{balance:?}: another address is another instance");
    }
}

#[test]
fn a_latency_survives_versions() {
    let view = view(&Balance::peak_ewma(), serving(&[100; 2]));
    let observer = view.observer().unwrap();
    let slow = view.live().choose(&PickContext::new(), &Dice::fresh()).unwrap().clone();
    let outcome = Outcome::success().took(std::time::Duration::from_secs(3));
    observer.end(slow.slot, observer.begin(slow.slot), Some(&outcome));
    for weight in [200, 300] {
        let upserts = (0..2).map(|id| instance(id, weight, Status::Serving)).collect();
        view.apply(&ViewChange { upserts, ..ViewChange::default() });
        assert!(!count(&view, 50).contains_key(&slow.instance.key()));
    }
}

#[test]
fn counts_never_underflow_when_threads_end_what_others_began_while_generations_pass() {
    const THREADS: usize = 4;
    let in_flight = InFlight::default();
    in_flight.reserve(4);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::sync_channel(64)).unzip();
    std::thread::scope(|scope| {
        for (number, receiver) in receivers.into_iter().enumerate() {
            let (next, in_flight) = (senders[(number + 1) % THREADS].clone(), &in_flight);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(number as u64);
                let mut held: Vec<(Slot, usize)> = Vec::new();
                for turn in 0..20_000_u32 {
                    let slot = Slot { index: random.u32(..4), generation: turn / 1_000 };
                    let begun = (slot, in_flight.begin(slot));
                    // Handed over, unless the other thread is slow.
                    if let Err(mpsc::TrySendError::Full(begun) | mpsc::TrySendError::Disconnected(begun)) =
                        next.try_send(begun)
                    {
                        held.push(begun);
                    }
                    held.extend(receiver.try_iter().take(2));
                    if held.len() > 8 {
                        let (slot, at) = held.swap_remove(random.usize(..held.len()));
                        in_flight.end(slot, at);
                    }
                    if turn % 64 == 0 {
                        in_flight.reserve(random.usize(..5_000));
                    }
                    // Below nothing it would be about 2^32.
                    assert!(in_flight.mine().of(slot) < 100_000);
                }
                drop(next);
                held.extend(receiver.iter());
                held.into_iter().for_each(|(slot, at)| in_flight.end(slot, at));
            });
        }
        drop(senders);
    });
    for index in 0..4 {
        for generation in 0..20 {
            assert_eq!(in_flight.total(Slot { index, generation }), 0);
        }
    }
}
