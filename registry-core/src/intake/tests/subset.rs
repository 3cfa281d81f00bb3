//! Even, stable, and never more moved than one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const CLIENTS: u32 = 1_000;
const SERVERS: u32 = 300;

fn intake(subset: Subset, seed: u64) -> Intake {
    Intake::new(Selector::new(), Damping::Off, subset, seed)
}

fn aperture(size: usize, index: u32, count: u32) -> Subset {
    Subset::Aperture { size, index, count }
}

/// A client's subset, kept as its view would.
struct Client {
    intake: Intake,
    shown: BTreeMap<InstanceKey, Arc<Instance>>,
}

impl Client {
    fn new(subset: Subset, seed: u64) -> Self {
        Self { intake: intake(subset, seed), shown: BTreeMap::new() }
    }

    /// How many left and how many came.
    fn take(&mut self, change: &ViewChange) -> (usize, usize) {
        let before = self.shown.len();
        let change = self.intake.take(change, Instant::now());
        for key in &change.removals {
            assert!(self.shown.remove(key).is_some(), "removed, but wasn't there");
        }
        let left = before - self.shown.len();
        let came =
            change.upserts.iter().filter(|i| self.shown.insert(i.key(), Arc::clone(i)).is_none()).count();
        (left, came)
    }

    fn keys(&self) -> Vec<InstanceKey> {
        self.shown.keys().cloned().collect()
    }
}

fn fleet(ids: impl IntoIterator<Item = u32>) -> ViewChange {
    upserts(ids.into_iter().map(serving))
}

/// How many of the clients have each server, fewest and most.
fn loads(clients: &[Client]) -> (usize, usize) {
    let mut loads: BTreeMap<_, usize> = (0..SERVERS).map(|id| (key(id), 0)).collect();
    for client in clients {
        assert_eq!(client.shown.len(), 20);
        client.shown.keys().for_each(|key| *loads.get_mut(key).unwrap() += 1);
    }
    (*loads.values().min().unwrap(), *loads.values().max().unwrap())
}

fn clients(seed: u64, subset: impl Fn(u32) -> Subset) -> Vec<Client> {
    let mut seeds = fastrand::Rng::with_seed(seed);
    let mut clients: Vec<_> = (0..CLIENTS).map(|index| Client::new(subset(index), seeds.u64(..))).collect();
    let fleet = fleet(0..SERVERS);
    for client in &mut clients {
        client.take(&fleet);
    }
    clients
}

#[test]
fn random_subsets_load_the_busiest_server_with_at_most_1_4_times_the_mean() {
    // On average: true dice, too, throw more than that once in 15 times.
    let most: Vec<_> = (0..4).map(|seed| loads(&clients(seed, |_| Subset::Random(20))).1).collect();
    let (sum, mean) = (most.iter().sum::<usize>() as f64, f64::from(CLIENTS * 20) / f64::from(SERVERS));
    assert!(sum / 4.0 <= 1.4 * mean, "{most:?} of {mean}");
}

#[test]
fn apertures_load_all_servers_the_same_but_for_one() {
    let (least, most) = loads(&clients(0, |index| aperture(20, index, CLIENTS)));
    assert!(most - least <= 1, "{least} to {most}");
}

#[test]
fn a_client_keeps_its_subset_and_others_have_another() {
    let subset_of = |seed, ids: Vec<u32>| {
        let mut client = Client::new(Subset::Random(20), seed);
        for id in ids {
            client.take(&fleet([id]));
        }
        client.keys()
    };
    let subset = subset_of(1, (0..100).collect());
    assert_eq!(subset, subset_of(1, (0..100).rev().collect()), "whatever the order of arrival");
    assert_ne!(subset, subset_of(2, (0..100).collect()));
}

/// The order of an aperture is the same in every release, or clients of two releases would disagree.
#[test]
fn apertures_never_change_their_order() {
    let mut client = Client::new(aperture(12, 1, 4), 99);
    client.take(&fleet(0..48));
    let ids: Vec<_> = client.shown.keys().map(|key| key.id.to_string()).collect();
    assert_eq!(ids.join(" "), "i10 i13 i2 i30 i34 i38 i39 i40 i43 i45 i6 i7");
}

#[test]
fn a_small_aperture_is_widened_and_a_small_service_is_used_whole() {
    let mut client = Client::new(aperture(3, 0, 10), 0);
    client.take(&fleet(0..100));
    assert_eq!(client.shown.len(), 12);
    let mut client = Client::new(aperture(20, 9, 10), 0);
    client.take(&fleet(0..5));
    assert_eq!(client.shown.len(), 5);
}

#[test]
fn those_that_serve_come_first_and_others_fill_up() {
    let mut client = Client::new(Subset::Random(3), 1);
    client.take(&upserts([
        instance(1, Status::Down),
        instance(2, Status::Draining),
        instance(3, Status::Starting),
        serving(4),
        serving(5),
    ]));
    assert_eq!(client.keys(), [key(2), key(4), key(5)]);
    assert_eq!(client.take(&fleet([6])), (1, 1));
    assert_eq!(client.keys(), [key(4), key(5), key(6)]);
    assert_eq!(client.take(&upserts([instance(5, Status::Draining)])), (0, 0), "nobody else serves");
    assert_eq!(client.shown[&key(5)].status(), Status::Draining);
    assert_eq!(client.take(&fleet([7])), (1, 1));
    assert_eq!(client.keys(), [key(4), key(6), key(7)]);
}

#[test]
fn a_change_within_the_subset_reaches_the_view_and_one_outside_does_not() {
    let mut client = Client::new(Subset::Random(5), 1);
    client.take(&fleet(0..50));
    for id in 0..50 {
        let heavier = Arc::new(serving(id).to_builder().weight(7).build().unwrap());
        let change = upserts([heavier]);
        let shown = client.intake.take(&change, Instant::now()).upserts.len();
        assert_eq!(shown, usize::from(client.shown.contains_key(&key(id))));
    }
}

#[test]
fn subsets_are_written_in_four_ways() {
    for (text, subset) in [
        ("off", Subset::Off),
        ("on", Subset::Random(20)),
        ("7", Subset::Random(7)),
        ("7:3/10", aperture(7, 3, 10)),
    ] {
        assert_eq!(text.parse::<Subset>().unwrap(), subset);
    }
    for text in ["", "0", "-1", "many", "7:", "7:3", "7:10/10", "0:1/2", "7:0/0"] {
        assert!(text.parse::<Subset>().is_err(), "{text}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(u32, Status),
    Remove(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop_oneof![
        6 => Just(Status::Serving),
        1 => Just(Status::Draining),
        1 => Just(Status::Down),
        1 => Just(Status::Starting),
    ];
    let step = prop_oneof![
        3 => (0..60_u32, status).prop_map(|(id, status)| Step::Set(id, status)),
        1 => (0..60_u32).prop_map(Step::Remove),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn one_change_moves_at_most_one_and_the_subset_is_what_it_would_be_anew(
        start in 0..60_u32, steps in steps(), size in 1..25_usize, index in 0..5_u32, is_aperture: bool,
    ) {
        let subset = if is_aperture { aperture(size, index, 5) } else { Subset::Random(size) };
        let size = if is_aperture { size.max(12) } else { size };
        let mut client = Client::new(subset, 5);
        // A window that reaches round the end of the order moves at both of its parts.
        let wraps = |model: &BTreeMap<u32, Arc<Instance>>| {
            let serving = model.values().filter(|i| i.status() == Status::Serving).count();
            is_aperture && serving * index as usize / 5 + size > serving
        };
        let mut model: BTreeMap<_, _> = (0..start).map(|id| (id, serving(id))).collect();
        client.take(&fleet(0..start));
        for step in steps {
            let wrapped = wraps(&model);
            let change = match step {
                Step::Set(id, status) => {
                    model.insert(id, instance(id, status));
                    upserts([instance(id, status)])
                }
                Step::Remove(id) => {
                    model.remove(&id);
                    removals([id])
                }
            };
            let (left, came) = client.take(&change);
            let most = if wrapped || wraps(&model) { 2 } else { 1 };
            prop_assert!(left <= most && came <= most, "{left} left, {came} came");
            prop_assert_eq!(client.shown.len(), size.min(model.len()));
            let mut anew = Client::new(subset, 5);
            anew.take(&upserts(model.values().cloned()));
            prop_assert_eq!(&client.shown, &anew.shown);
        }
    }
}
