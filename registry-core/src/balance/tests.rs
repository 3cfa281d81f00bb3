mod broken;
mod distribution;
mod hashed;
mod learning;
mod survival;

use std::collections::HashMap;

use super::*;
use crate::{
    model::{Instance, InstanceKey, Selector, Status},
    snapshot::Snapshot,
    view::{View, ViewChange, ViewSink},
};

fn instance(id: usize, weight: u32, status: Status) -> Arc<Instance> {
    let builder = Instance::builder("orders").id(format!("i{id}")).endpoint("http://10.0.0.1:80");
    Arc::new(builder.weight(weight).status(status).build().unwrap())
}

fn key(id: usize) -> InstanceKey {
    instance(id, 1, Status::Serving).key()
}

fn serving(weights: &[u32]) -> Vec<Arc<Instance>> {
    weights.iter().enumerate().map(|(id, weight)| instance(id, *weight, Status::Serving)).collect()
}

fn view(balance: &Balance, upserts: Vec<Arc<Instance>>) -> View {
    let view = View::new(Selector::new(), balance);
    view.apply(&ViewChange { upserts, ..ViewChange::default() });
    view
}

fn pick(view: &View, context: &PickContext<'_>) -> Option<InstanceKey> {
    let live = view.live();
    live.choose(context, &Dice::fresh()).map(|member| member.instance.key())
}

fn count(view: &View, picks: usize) -> HashMap<InstanceKey, usize> {
    let mut counts = HashMap::new();
    for _ in 0..picks {
        *counts.entry(pick(view, &PickContext::new()).unwrap()).or_default() += 1;
    }
    counts
}

/// Sum of (observed - expected)² / expected, for weights that aren't 0.
fn chi_square(counts: &HashMap<InstanceKey, usize>, weights: &[u32], picks: usize) -> f64 {
    let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    let part = |(id, weight): (usize, &u32)| {
        let expected = picks as f64 * f64::from(*weight) / total;
        let seen = counts.get(&key(id)).copied().unwrap_or_default() as f64;
        if *weight == 0 {
            assert_eq!(seen, 0.0, "{id} has weight 0");
            return 0.0;
        }
        (seen - expected).powi(2) / expected
    };
    weights.iter().enumerate().map(part).sum()
}

/// The value that chi-square exceeds with probability 0.01 (Wilson and Hilferty's approximation).
fn chi_square_limit(instances: usize) -> f64 {
    let k = (instances - 1) as f64;
    k * (1.0 - 2.0 / (9.0 * k) + 2.326 * (2.0 / (9.0 * k)).sqrt()).powi(3)
}

const ALL: [Balance; 7] = POLICIES;

#[test]
fn round_robin_gives_each_instance_its_turn_even_when_two_upstreams_are_picked_alternately() {
    for size in [1, 2, 3, 7, 32, 100] {
        let a = view(&Balance::round_robin(), serving(&vec![100; size]));
        let b = view(&Balance::round_robin(), serving(&vec![100; size + 1]));
        let (mut in_a, mut in_b) = (HashMap::new(), HashMap::new());
        for picks in 1..=3 * size {
            *in_a.entry(pick(&a, &PickContext::new()).unwrap()).or_insert(0_usize) += 1;
            *in_b.entry(pick(&b, &PickContext::new()).unwrap()).or_insert(0_usize) += 1;
            for (counts, size) in [(&in_a, size), (&in_b, size + 1)] {
                let least = if counts.len() < size { 0 } else { *counts.values().min().unwrap() };
                assert!(counts.values().max().unwrap() - least <= 1, "{counts:?} after {picks}");
            }
        }
    }
}

#[test]
fn round_robin_starts_at_a_random_instance() {
    let firsts: std::collections::HashSet<_> = (0..64)
        .map(|_| pick(&view(&Balance::round_robin(), serving(&[100; 16])), &PickContext::new()))
        .collect();
    assert!(firsts.len() > 4, "64 clients all began at {firsts:?}");
}

#[test]
fn round_robin_survives_a_list_that_shrinks_and_grows() {
    let view = view(&Balance::round_robin(), serving(&[100; 50]));
    count(&view, 49);
    view.apply(&ViewChange { removals: (3..50).map(key).collect(), ..ViewChange::default() });
    assert_eq!(count(&view, 30).len(), 3);
    view.apply(&ViewChange { upserts: serving(&[100; 50]), ..ViewChange::default() });
    assert_eq!(count(&view, 50).len(), 50);
}

#[test]
fn random_is_uniform() {
    fastrand::seed(11);
    let weights = [100; 50];
    let counts = count(&view(&Balance::random(), serving(&weights)), 200_000);
    let chi = chi_square(&counts, &weights, 200_000);
    assert!(chi < chi_square_limit(50), "{chi}");
}

#[test]
fn weighted_random_follows_the_weights_across_runs() {
    for (seed, size) in [(1, 2), (2, 10), (3, 33), (4, 200), (5, 1_500)] {
        fastrand::seed(seed);
        let weights: Vec<u32> = (0..size).map(|i| [0, 1, 50, 100, 400][i % 5] + (i % 3) as u32).collect();
        let picks = 400 * size.max(100);
        let counts = count(&view(&Balance::weighted_random(), serving(&weights)), picks);
        let chi = chi_square(&counts, &weights, picks);
        assert!(chi < chi_square_limit(size), "{chi} for {size}");
    }
}

#[test]
fn weighted_random_follows_weights_that_change() {
    fastrand::seed(8);
    let mut weights: Vec<u32> = (1..=100).collect();
    let view = view(&Balance::weighted_random(), serving(&weights));
    for id in [0, 40, 99] {
        weights[id] = 1_000;
        let upserts = vec![instance(id, 1_000, Status::Serving)];
        view.apply(&ViewChange { upserts, ..ViewChange::default() });
    }
    view.apply(&ViewChange { removals: vec![key(7)], ..ViewChange::default() });
    weights[7] = 0;
    let chi = chi_square(&count(&view, 200_000), &weights, 200_000);
    assert!(chi < chi_square_limit(99), "{chi}");
}

#[test]
fn one_heavy_instance_among_many_light_ones_is_exact_too() {
    fastrand::seed(9);
    let mut weights = vec![1; 1_000];
    weights[500] = 1_000_000;
    let counts = count(&view(&Balance::weighted_random(), serving(&weights)), 100_000);
    assert!(counts[&key(500)] > 99_800, "{}", counts[&key(500)]);
}

#[test]
fn weight_zero_gets_no_traffic_under_any_policy() {
    for balance in ALL {
        let counts = count(&view(&balance, serving(&[0, 100, 0, 50])), 1_000);
        assert_eq!(counts.len(), 2, "{balance:?} gave {counts:?}");
    }
}

#[test]
fn if_all_weights_are_zero_they_count_as_equal() {
    for balance in ALL {
        fastrand::seed(5);
        let counts = count(&view(&balance, serving(&[0; 8])), 8_000);
        if balance == Balance::ring_hash() {
            // Its shares are only about equal.
            assert!(
                counts.len() == 8 && counts.values().all(|count| (700..1_300).contains(count)),
                "{counts:?}"
            );
            continue;
        }
        let chi = chi_square(&counts, &[1; 8], 8_000);
        assert!(chi < chi_square_limit(8), "{balance:?} gave {counts:?}");
    }
}

#[test]
fn something_is_always_tried_and_draining_comes_before_starting_and_down() {
    for balance in ALL {
        let view = view(
            &balance,
            vec![
                instance(0, 100, Status::Serving),
                instance(1, 100, Status::Draining),
                instance(2, 100, Status::Starting),
                instance(3, 100, Status::Down),
            ],
        );
        for id in 0..4 {
            assert_eq!(count(&view, 20).keys().collect::<Vec<_>>(), [&key(id)]);
            view.apply(&ViewChange { removals: vec![key(id)], ..ViewChange::default() });
        }
        assert_eq!(pick(&view, &PickContext::new()), None);
    }
}

#[test]
fn a_tried_instance_is_not_picked_again_while_another_serves() {
    for balance in ALL {
        let view = view(&balance, serving(&[100, 1_000_000, 100, 1]));
        for spared in 0..4 {
            let tried: Vec<_> = (0..4).filter(|id| *id != spared).map(key).collect();
            for _ in 0..50 {
                assert_eq!(pick(&view, &PickContext::new().tried(&tried)), Some(key(spared)), "{balance:?}");
            }
        }
    }
}

#[test]
fn when_all_that_serve_were_tried_a_draining_one_is_and_then_one_repeats() {
    for balance in ALL {
        let mut upserts = serving(&[100, 100]);
        upserts.push(instance(2, 100, Status::Draining));
        let view = view(&balance, upserts);
        let tried = [key(0), key(1)];
        assert_eq!(pick(&view, &PickContext::new().tried(&tried)), Some(key(2)));
        let tried = [key(0), key(1), key(2)];
        assert!(pick(&view, &PickContext::new().tried(&tried)).is_some_and(|picked| picked != key(2)));
    }
}

#[test]
fn suspects_get_less_traffic_but_some() {
    for balance in ALL {
        fastrand::seed(6);
        let view = view(&balance, serving(&[100; 10]));
        view.apply(&ViewChange {
            suspects: Some(Arc::new((0..5).map(key).collect())),
            ..ViewChange::default()
        });
        let counts = count(&view, 10_000);
        let suspected: usize = (0..5).map(|id| counts.get(&key(id)).copied().unwrap_or_default()).sum();
        assert!((2_000..3_500).contains(&suspected), "{balance:?} gave suspects {suspected} of 10000");
        view.apply(&ViewChange::default());
        let counts = count(&view, 10_000);
        let cleared: usize = (0..5).map(|id| counts[&key(id)]).sum();
        assert!((4_800..5_200).contains(&cleared), "{balance:?} gave the cleared {cleared} of 10000");
    }
}

#[test]
fn a_policy_that_insists_and_one_that_errs_are_handled() {
    #[derive(Debug)]
    struct Always(usize);
    impl Balancer for Always {
        fn picker(&self, _: &Members) -> Arc<dyn Picker> {
            Arc::new(Self(self.0))
        }
    }
    impl Picker for Always {
        fn pick(&self, _: &Draw<'_>) -> usize {
            self.0
        }
    }
    for at in [0, 2, 99] {
        let view = view(&Balance::custom("always", move || Arc::new(Always(at))), serving(&[100; 3]));
        let first = pick(&view, &PickContext::new()).unwrap();
        assert_eq!(first, key(at.min(2)));
        assert!(
            pick(&view, &PickContext::new().tried(std::slice::from_ref(&first)))
                .is_some_and(|next| next != first)
        );
    }
}

#[test]
fn policies_parse_by_name_and_an_unknown_name_lists_the_valid_ones() {
    for balance in ALL {
        assert_eq!(balance.name().parse::<Balance>().unwrap(), balance);
    }
    let error = "wrr".parse::<Balance>().unwrap_err().to_string();
    assert!(error.contains("round_robin, random, weighted_random"), "{error}");
}

#[test]
fn an_unfilled_view_has_nothing_to_pick() {
    let snapshot = Snapshot::unfilled();
    assert!(snapshot.active().is_empty());
    for balance in ALL {
        let view = View::new(Selector::new(), &balance);
        assert_eq!(pick(&view, &PickContext::new()), None);
    }
}
