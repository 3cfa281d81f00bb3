//! The policies by which a key has an instance.

use super::*;
use crate::snapshot::Store;

const HASHED: [Balance; 2] = [Balance::maglev(), Balance::ring_hash()];

fn context(number: usize) -> PickContext<'static> {
    PickContext::new().hash_key(number as u64)
}

/// Whom each of some keys belongs to.
fn owners(view: &View) -> Vec<InstanceKey> {
    (0..10_000).map(|number| pick(view, &context(number)).unwrap()).collect()
}

fn moved(before: &[InstanceKey], after: &[InstanceKey]) -> f64 {
    before.iter().zip(after).filter(|(before, after)| before != after).count() as f64 / before.len() as f64
}

fn remove(view: &View, id: usize) {
    view.apply(&ViewChange { removals: vec![key(id)], ..ViewChange::default() });
}

#[test]
fn a_key_stays_with_its_instance_whatever_order_the_instances_came_in() {
    for balance in HASHED {
        let one = view(&balance, serving(&[100; 40]));
        let mut upserts = serving(&[100; 41]);
        upserts.reverse();
        let other = view(&balance, upserts);
        remove(&other, 40);
        assert_eq!(owners(&one), owners(&one));
        assert_eq!(owners(&one), owners(&other), "{balance:?}");
    }
}

#[test]
fn removing_one_of_n_moves_little_more_than_its_own_keys() {
    for size in [10, 50, 150] {
        for (balance, bound) in HASHED.into_iter().zip([2.4, 1.2]) {
            let mut total = 0.0;
            for gone in 0..5 {
                let view = view(&balance, serving(&vec![100; size]));
                let before = owners(&view);
                remove(&view, gone * size / 5);
                let after = owners(&view);
                total += moved(&before, &after) * size as f64;
                if balance == Balance::ring_hash() {
                    let gone = key(gone * size / 5);
                    let strayed = before.iter().zip(&after).filter(|(b, a)| b != a && **b != gone);
                    assert_eq!(strayed.count(), 0, "only its own keys move");
                }
            }
            let mean = total / 5.0;
            assert!(mean < bound, "{balance:?} moved {mean} / {size}");
            assert!(mean > 0.7, "{balance:?} moved {mean} / {size}");
        }
    }
}

#[test]
fn only_its_own_keys_move_on_a_ring_of_few_too() {
    for size in 3..=8 {
        let view = view(&Balance::ring_hash(), serving(&vec![100; size]));
        let before = owners(&view);
        for gone in 0..size {
            remove(&view, gone);
            for (before, after) in before.iter().zip(owners(&view)) {
                assert_eq!(*before != after, *before == key(gone), "{gone} of {size}");
            }
            let upserts = vec![instance(gone, 100, Status::Serving)];
            view.apply(&ViewChange { upserts, ..ViewChange::default() });
            assert_eq!(owners(&view), before, "{gone} of {size} is back");
        }
    }
}

#[test]
fn an_update_in_steps_gives_the_same_owners_as_a_fresh_start() {
    for balance in HASHED {
        let mut weights = vec![100; 300];
        let stepped = view(&balance, serving(&weights));
        for id in [3, 77, 150, 299] {
            weights[id] = 150;
            let upserts = vec![instance(id, 150, Status::Serving)];
            stepped.apply(&ViewChange { upserts, ..ViewChange::default() });
        }
        remove(&stepped, 120);
        remove(&stepped, 3);
        let mut fresh = serving(&weights);
        fresh.retain(|instance| ![key(120), key(3)].contains(&instance.key()));
        assert_eq!(owners(&stepped), owners(&view(&balance, fresh)), "{balance:?}");
    }
}

#[test]
fn an_instance_that_moves_keeps_its_keys() {
    for balance in HASHED {
        let view = view(&balance, serving(&[100; 20]));
        let before = owners(&view);
        let moved = Instance::builder("orders").id("i4").endpoint("http://10.9.9.9:99").build().unwrap();
        view.apply(&ViewChange { upserts: vec![Arc::new(moved)], ..ViewChange::default() });
        assert_eq!(owners(&view), before);
    }
}

#[test]
fn keys_of_a_suspect_go_elsewhere_and_come_back_and_no_other_key_moves() {
    for balance in HASHED {
        let view = view(&balance, serving(&[100; 20]));
        let before = owners(&view);
        let suspects = Some(Arc::new([key(4)].into()));
        view.apply(&ViewChange { suspects, ..ViewChange::default() });
        let during = owners(&view);
        for (before, during) in before.iter().zip(&during) {
            assert_eq!(before != during, *before == key(4), "{balance:?}");
        }
        view.apply(&ViewChange::default());
        assert_eq!(owners(&view), before);
    }
}

#[test]
fn the_keys_of_an_ejected_instance_go_elsewhere_and_come_back_and_nothing_is_rebuilt() {
    let instances: Vec<_> = serving(&[100, 200, 300, 400, 500]);
    let mut store = Store::default();
    for instance in &instances {
        store.upsert(instance, None);
    }
    let (maglev, ring) = (Balance::maglev().balancing(), Balance::ring_hash().balancing());
    let mut rules = |ejected: &[InstanceKey], version| {
        store.eject(ejected.iter().cloned().collect(), true);
        let snapshot = store.snapshot(version, None);
        [&maglev, &ring]
            .map(|balancing| (snapshot.clone(), balancing.rule(snapshot.active(), snapshot.passed_over())))
    };
    let owners = |(snapshot, rule): &(Snapshot, Rule)| -> Vec<InstanceKey> {
        let owner = |number| {
            let (_, member) = rule.pick(snapshot.active(), &context(number), 0, &Dice::still());
            member.unwrap().instance.key()
        };
        (0..1_000).map(owner).collect()
    };
    let [before, during, after] = [rules(&[], 1), rules(&[key(2)], 2), rules(&[], 3)];
    for at in 0..2 {
        let [before_owners, during_owners, after_owners] =
            [&before, &during, &after].map(|of| owners(&of[at]));
        for (before, during) in before_owners.iter().zip(&during_owners) {
            assert_eq!(before != during, *before == key(2));
        }
        assert_eq!(before_owners, after_owners);
        assert!(before[at].1.has_table_of(&during[at].1) && before[at].1.has_table_of(&after[at].1));
    }
}

#[test]
fn a_key_whose_instance_was_tried_has_one_other_to_go_to() {
    for balance in HASHED {
        let view = view(&balance, serving(&[100; 20]));
        let mut seconds = std::collections::HashSet::new();
        for number in 0..500 {
            let first = [pick(&view, &context(number)).unwrap()];
            let second = pick(&view, &context(number).tried(&first)).unwrap();
            assert_ne!(first[0], second);
            assert_eq!(pick(&view, &context(number).tried(&first)), Some(second.clone()));
            seconds.insert(second);
        }
        assert_eq!(seconds.len(), 20, "the keys of one that fails are spread over the others");
    }
}

#[test]
fn a_retry_goes_where_the_key_goes_if_its_instance_is_ejected() {
    let tried = [key(2)];
    for balance in HASHED {
        let mut store = Store::default();
        for instance in &serving(&[100; 10]) {
            store.upsert(instance, None);
        }
        let balancing = balance.balancing();
        let mut version = |ejected: &[InstanceKey], number| {
            store.eject(ejected.iter().cloned().collect(), true);
            let snapshot = store.snapshot(number, None);
            let rule = balancing.rule(snapshot.active(), snapshot.passed_over());
            (snapshot, rule)
        };
        let (whole, without) = (version(&[], 1), version(&tried, 2));
        let chosen = |(snapshot, rule): &(Snapshot, Rule), context: &PickContext<'_>| {
            let member = choose(snapshot.active(), rule, context, snapshot, &None, &Dice::still());
            member.unwrap().instance.key()
        };
        let own: Vec<_> = (0..1_000).map(context).filter(|key| chosen(&whole, key) == tried[0]).collect();
        assert!(own.len() > 50, "{balance:?}: {}", own.len());
        for context in own {
            assert_eq!(chosen(&whole, &context.tried(&tried)), chosen(&without, &context), "{balance:?}");
        }
    }
}

#[test]
fn shares_of_keys_follow_the_weights() {
    for (balance, tolerance) in HASHED.into_iter().zip([0.15, 0.3]) {
        let weights: Vec<u32> = (0..20).map(|id| if id == 7 { 1_000 } else { 100 }).collect();
        let owners = owners(&view(&balance, serving(&weights)));
        for (id, weight) in weights.iter().enumerate() {
            let share = owners.iter().filter(|owner| **owner == key(id)).count() as f64;
            let expected = 10_000.0 * f64::from(*weight) / 2_900.0;
            assert!(
                (share / expected - 1.0).abs() < tolerance,
                "{balance:?}: {id} has {share} of {expected}"
            );
        }
    }
}

#[test]
fn without_a_key_the_instance_is_a_random_one() {
    for balance in HASHED {
        assert_eq!(count(&view(&balance, serving(&[100; 20])), 2_000).len(), 20);
    }
}

#[test]
fn a_hot_key_is_spread_over_instances_when_their_load_is_bounded() {
    let balance = Balance::from(RingHash::new().bounded_load(1.25));
    let view = view(&balance, serving(&[100; 10]));
    let observer = view.observer().expect("a bound needs counts");
    let first = view.live().choose(&context(7), &Dice::fresh()).unwrap().slot;
    let mut held = Vec::new();
    let mut counts = HashMap::new();
    for _ in 0..100 {
        let slot = view.live().choose(&context(7), &Dice::fresh()).unwrap().slot;
        held.push((slot, observer.begin(slot)));
        *counts.entry(slot).or_insert(0_usize) += 1;
        let most = (1.25 * held.len() as f64 / 10.0).ceil() as usize;
        assert!(counts.values().all(|count| *count <= most), "{counts:?} of {}", held.len());
    }
    assert!(counts.len() >= 8, "{counts:?}");
    held.into_iter().for_each(|(slot, ticket)| observer.end(slot, ticket, None));
    assert_eq!(
        view.live().choose(&context(7), &Dice::fresh()).unwrap().slot,
        first,
        "nothing is left in flight"
    );
}

#[test]
fn a_bound_respects_weights() {
    let balance = Balance::from(RingHash::new().bounded_load(1.25));
    let view = view(&balance, serving(&[300, 100, 100, 100]));
    let observer = view.observer().unwrap();
    let mut counts = HashMap::new();
    for number in 0..600 {
        let member = view.live().choose(&context(number), &Dice::fresh()).unwrap().clone();
        observer.begin(member.slot);
        *counts.entry(member.instance.key()).or_insert(0_usize) += 1;
    }
    assert!(counts[&key(0)] <= 375, "{counts:?}");
    assert!((1..4).all(|id| counts[&key(id)] <= 126), "{counts:?}");
}

#[test]
fn tables_of_all_sizes_are_complete() {
    for size in [1, 2, 700, 3_000] {
        for balance in HASHED {
            let view = view(&balance, serving(&vec![100; size]));
            let owners: std::collections::HashSet<_> = owners(&view).into_iter().collect();
            // 10,000 keys over 3,000 instances leave out a few.
            assert!(owners.len() > size * 9 / 10, "{balance:?} of {size}: {}", owners.len());
        }
    }
}
