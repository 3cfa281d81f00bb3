//! How evenly the policies spread requests.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{Picked, Upstream, model::Target};

/// How often each slot index is picked.
fn spread(view: &View, picks: usize) -> Vec<usize> {
    let live = view.live();
    let mut counts = vec![0; live.members.slots()];
    for _ in 0..picks {
        counts[live.choose(&PickContext::new(), &Dice::fresh()).unwrap().slot.index as usize] += 1;
    }
    counts
}

fn chi_square_of(counts: &[usize], picks: usize) -> f64 {
    let expected = picks as f64 / counts.len() as f64;
    counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum()
}

#[test]
fn a_million_picks_of_equal_instances_are_spread_evenly() {
    const PICKS: usize = 1_000_000;
    for (seed, balance) in (1..).zip(ALL) {
        // The points of a ring are luck, and peak EWMA prefers those that nobody has asked yet.
        if matches!(balance.name(), "ring_hash" | "peak_ewma") {
            continue;
        }
        fastrand::seed(seed);
        let counts = spread(&view(&balance, serving(&[100; 50])), PICKS);
        let chi = chi_square_of(&counts, PICKS);
        assert!(chi < chi_square_limit(50), "{balance:?}: {chi}");
    }
}

#[test]
fn round_robin_differs_by_one_at_most_after_any_number_of_picks() {
    let view = view(&Balance::round_robin(), serving(&[100; 50]));
    let live = view.live();
    let mut counts = vec![0_usize; 50];
    for picks in 1..=10_000 {
        counts[live.choose(&PickContext::new(), &Dice::fresh()).unwrap().slot.index as usize] += 1;
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 1, "after {picks}: {counts:?}");
    }
}

#[test]
fn over_an_hour_no_instance_strays_from_the_mean_by_a_ten_thousandth_of_all_requests() {
    // 500 requests a second to 1,000 instances.
    const PICKS: usize = 1_800_000;
    for (seed, balance) in (20..).zip(ALL) {
        if balance == Balance::ring_hash() {
            continue;
        }
        fastrand::seed(seed);
        let counts = spread(&view(&balance, serving(&[100; 1_000])), PICKS);
        let mean = PICKS / 1_000;
        let strayed = counts.iter().map(|count| count.abs_diff(mean)).max().unwrap();
        assert!(strayed < PICKS / 10_000, "{balance:?} strayed by {strayed} from {mean}");
    }
}

#[test]
fn weights_hold_while_nothing_is_in_flight() {
    for (seed, balance) in (40..).zip(ALL) {
        let tolerance = match balance.name() {
            "weighted_random" | "least_request" | "maglev" => 0.03,
            // It compares two that differ, so that light ones gain; and the points of a ring are luck.
            "peak_ewma" | "ring_hash" => 0.3,
            _ => continue,
        };
        fastrand::seed(seed);
        let weights = [100, 200, 300, 50, 350];
        let counts = spread(&view(&balance, serving(&weights)), 100_000);
        for (count, weight) in counts.iter().zip(weights) {
            let share = *count as f64 / (100.0 * f64::from(weight));
            assert!((share - 1.0).abs() < tolerance, "{balance:?} gave {counts:?}");
        }
    }
}

/// Requests at a steady rate to ten instances, of which the first takes ten times as long, on simulated time: the
/// share of the first.
async fn share_of_a_slow_one(balance: &Balance, requests: usize) -> f64 {
    let instances = (0..10).map(|id| (*instance(id, 100, Status::Serving)).clone());
    let upstream = Upstream::fixed(Target::try_from("orders").unwrap(), instances, balance);
    let slow = key(0).id;
    let start = tokio::time::Instant::now();
    let mut ends: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    let mut picks: Vec<Option<Picked>> = Vec::new();
    let mut to_slow = 0;
    let (mut next, mut sent) = (Duration::ZERO, 0);
    loop {
        let end = ends.peek().map(|Reverse((at, _))| *at);
        if sent == requests && end.is_none() {
            return to_slow as f64 / requests as f64;
        }
        let now = end.filter(|end| sent == requests || *end <= next).unwrap_or(next);
        tokio::time::advance((start + now).saturating_duration_since(tokio::time::Instant::now())).await;
        if end == Some(now) {
            let Reverse((_, number)) = ends.pop().unwrap();
            picks[number].take().unwrap().report(Outcome::success());
            continue;
        }
        let picked = upstream.pick().unwrap();
        let is_slow = *picked.id() == slow;
        to_slow += usize::from(is_slow);
        // 10 to 30 ms, exponential beyond 10.
        let took = 10.0 - 10.0 * fastrand::f64().max(0.13).ln();
        let took = Duration::from_secs_f64(if is_slow { took / 100.0 } else { took / 1_000.0 });
        ends.push(Reverse((now + took, picks.len())));
        picks.push(Some(picked));
        (next, sent) = (now + Duration::from_millis(5), sent + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_ten_times_slower_gets_under_3_percent_by_peak_ewma() {
    fastrand::seed(71);
    // Five simulated minutes.
    let share = share_of_a_slow_one(&Balance::peak_ewma(), 60_000).await;
    assert!(share < 0.03, "{share}");
    assert!(share > 0.0, "it is never tried again");
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_ten_times_slower_gets_its_tenth_by_round_robin_and_less_by_least_request() {
    fastrand::seed(72);
    let share = share_of_a_slow_one(&Balance::round_robin(), 20_000).await;
    assert!((share - 0.1).abs() < 0.001, "{share}");
    let share = share_of_a_slow_one(&Balance::least_request(), 20_000).await;
    assert!((0.01..0.08).contains(&share), "{share}");
}

fn balances() -> impl Strategy<Value = Balance> {
    let bounded = (any::<f64>()).prop_map(|times| Balance::from(RingHash::new().bounded_load(times)));
    prop_oneof![9 => prop::sample::select(ALL.to_vec()), 1 => bounded]
}

fn weights() -> impl Strategy<Value = Vec<u32>> {
    let weight = prop_oneof![Just(0), Just(1), Just(100), Just(1_000_000), 0..=1_000_000_u32];
    prop::collection::vec(weight, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_the_weights_a_rule_chooses_a_member(
        balance in balances(),
        weights in weights(),
        status in prop::sample::select(vec![Status::Serving, Status::Draining, Status::Down]),
        held in 0_usize..20,
        key in any::<Option<u64>>(),
        attempts in 0_u32..12,
    ) {
        let balancing = balance.balancing();
        let upserts = weights.iter().enumerate().map(|(id, weight)| instance(id, *weight, status)).collect();
        let view = view(&Balance::random(), upserts);
        let live = view.live();
        let rule = balancing.rule(&live.members, live.snapshot.passed_over());
        for _ in 0..held {
            let slot = live.members.slot(fastrand::usize(..live.members.len())).unwrap();
            balancing.observer().map(|observer| observer.begin(slot));
        }
        let context = key.map_or(PickContext::new(), |key| PickContext::new().hash_key(key));
        for attempt in 0..attempts {
            let (at, member) = rule.pick(&live.members, &context, attempt, &Dice::fresh());
            prop_assert!(at < live.members.len(), "{balance:?} chose {at}");
            let (member, there) = (member.unwrap(), live.members.member(at).unwrap());
            prop_assert_eq!(member.slot, there.slot);
        }
    }
}
