//! Who is near is preferred, as long as enough of the near are well.

use std::collections::BTreeMap;

use super::*;
use crate::{
    Status,
    balance::{Balancer, Draw, Failure, Picker},
};

const PICKS: usize = 20_000;

fn config(balance: &Balance) -> ViewConfig {
    ViewConfig { zone: Some("near".to_owned()), balance: balance.clone(), ..ViewConfig::default() }
}

fn zoned(balance: &Balance) -> View {
    // What is luck is the same luck each time.
    fastrand::seed(7);
    View::with(config(balance))
}

fn at(zone: &str, id: u32) -> Arc<Instance> {
    with(zone, id, Status::Serving)
}

fn with(zone: &str, id: u32, status: Status) -> Arc<Instance> {
    let builder = Instance::builder("orders").id(format!("{zone}{id}")).endpoint("http://10.0.0.1:80");
    Arc::new(builder.zone(zone).status(status).build().unwrap())
}

fn upsert(view: &View, upserts: impl IntoIterator<Item = Arc<Instance>>) {
    view.apply(&ViewChange { upserts: upserts.into_iter().collect(), ..ViewChange::default() });
}

fn fleet(near: u32, far: u32) -> Vec<Arc<Instance>> {
    (0..near).map(|id| at("near", id)).chain((0..far).map(|id| at("far", id))).collect()
}

fn picks(view: &View, context: &PickContext<'_>) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for _ in 0..PICKS {
        let id = pick_with(view, context).unwrap();
        *seen.entry(id).or_default() += 1;
    }
    seen
}

/// The part of all picks that stays in the zone.
fn near(seen: &BTreeMap<String, usize>) -> f64 {
    let near: usize = seen.iter().filter(|(id, _)| id.starts_with("near")).map(|(_, count)| count).sum();
    near as f64 / PICKS as f64
}

fn assert_about(value: f64, expected: f64) {
    assert!((value - expected).abs() < 0.02, "{value} rather than {expected}");
}

/// Each of these has its share, within a fifth.
fn assert_even(seen: &BTreeMap<String, usize>, zone: &str, instances: usize) {
    let counts: Vec<_> =
        seen.iter().filter(|(id, _)| id.starts_with(zone)).map(|(_, count)| *count).collect();
    let mean = counts.iter().sum::<usize>() as f64 / instances as f64;
    assert_eq!(counts.len(), instances, "{seen:?}");
    assert!(counts.iter().all(|count| (*count as f64 / mean - 1.0).abs() < 0.2), "{zone}: {seen:?}");
}

/// All but the ring, whose shares are uneven.
fn policies() -> [Balance; 6] {
    ["round_robin", "random", "weighted_random", "least_request", "peak_ewma", "maglev"]
        .map(|name| name.parse().unwrap())
}

#[test]
fn requests_stay_in_the_zone_while_its_instances_are_well() {
    for balance in policies() {
        let view = zoned(&balance);
        upsert(&view, fleet(4, 12));
        let seen = picks(&view, &PickContext::new());
        assert_about(near(&seen), 1.0);
        assert_even(&seen, "near", 4);
    }
}

#[test]
fn of_unequal_weights_as_many_requests_leave_the_zone_under_a_policy_that_counts() {
    let view = zoned(&Balance::least_request());
    let weighing = |zone, id: u32| Arc::new(at(zone, id).to_builder().weight(id % 3 + 1).build().unwrap());
    upsert(&view, (0..6).map(|id| weighing("near", id)).chain((0..6).map(|id| weighing("far", id))));
    assert_about(near(&picks(&view, &PickContext::new())), 1.0);
    upsert(&view, (0..3).map(|id| with("near", id, Status::Down)));
    let seen = picks(&view, &PickContext::new());
    assert_about(near(&seen), 0.7);
    assert!(seen["near5"] > 2 * seen["near3"] && seen["far5"] > 2 * seen["far3"], "{seen:?}");
}

#[test]
fn without_a_zone_or_with_few_instances_all_are_used() {
    let blind = View::new(Selector::new(), &Balance::default());
    upsert(&blind, fleet(4, 12));
    assert_even(&picks(&blind, &PickContext::new()), "far", 12);
    let few = zoned(&Balance::default());
    upsert(&few, fleet(2, 3));
    assert_about(near(&picks(&few, &PickContext::new())), 0.4);
    upsert(&few, [at("far", 3)]);
    assert_about(near(&picks(&few, &PickContext::new())), 1.0);
    few.apply(&ViewChange { removals: vec![at("far", 3).key()], ..ViewChange::default() });
    assert_about(near(&picks(&few, &PickContext::new())), 0.4);
}

#[test]
fn what_the_zone_cannot_take_spills_evenly_over_all_others() {
    for balance in policies() {
        for down in [2, 3, 5, 7, 9] {
            let view = zoned(&balance);
            upsert(&view, fleet(10, 20));
            upsert(&view, (0..down).map(|id| with("near", id, Status::Down)));
            let seen = picks(&view, &PickContext::new());
            let well = 10 - down;
            assert_about(near(&seen), (f64::from(well) * 0.14).min(1.0));
            assert_even(&seen, "near", well as usize);
            if well < 7 {
                assert_even(&seen, "far", 20);
            }
        }
    }
}

#[test]
fn suspects_and_the_draining_are_missing_and_those_that_start_are_not() {
    let suspects: HashSet<_> = (0..5).map(|id| at("near", id).key()).collect();
    let view = zoned(&Balance::random());
    let suspects = Some(Arc::new(suspects));
    view.apply(&ViewChange { upserts: fleet(10, 20), suspects, ..ViewChange::default() });
    assert_about(near(&picks(&view, &PickContext::new())), 0.7);
    for (status, expected) in [(Status::Draining, 0.7), (Status::Starting, 1.0)] {
        let view = zoned(&Balance::random());
        upsert(&view, fleet(10, 20));
        upsert(&view, (0..5).map(|id| with("near", id, status)));
        assert_about(near(&picks(&view, &PickContext::new())), expected);
    }
}

#[test]
fn a_zone_without_anybody_left_uses_all_others() {
    let view = zoned(&Balance::default());
    upsert(&view, fleet(3, 9));
    let removals = (0..3).map(|id| at("near", id).key()).collect();
    view.apply(&ViewChange { removals, ..ViewChange::default() });
    let seen = picks(&view, &PickContext::new());
    assert_even(&seen, "far", 9);
    upsert(&view, [at("near", 7)]);
    assert_about(near(&picks(&view, &PickContext::new())), 1.0);
}

#[test]
fn a_tried_zone_is_left_before_an_instance_is_repeated() {
    let view = zoned(&Balance::default());
    upsert(&view, fleet(3, 9));
    let tried: Vec<_> = (0..3).map(|id| at("near", id).key()).collect();
    let seen = picks(&view, &PickContext::new().tried(&tried));
    assert_even(&seen, "far", 9);
    upsert(&view, (0..9).map(|id| with("far", id, Status::Draining)));
    assert_even(&picks(&view, &PickContext::new().tried(&tried)), "far", 9);
}

#[test]
fn requests_of_one_key_stay_on_one_side() {
    let view = zoned(&Balance::custom("first", || Arc::new(First)));
    upsert(&view, fleet(10, 20));
    upsert(&view, (0..5).map(|id| with("near", id, Status::Down)));
    let mut near_keys = 0;
    for key in 0..1_000 {
        let context = PickContext::new().hash_key(key);
        let pick =
            || view.pick(view.seat(), &context, |member| member.unwrap().instance.zone() == Some("near"));
        let first = pick();
        assert!((0..20).all(|_| pick() == first));
        near_keys += usize::from(first);
    }
    assert!((650..750).contains(&near_keys), "{near_keys}");
}

#[test]
fn a_moved_instance_changes_sides_and_keeps_its_slot() {
    let view = zoned(&Balance::default());
    upsert(&view, fleet(3, 9));
    let slot_of = |id: &str| {
        let live = view.live();
        let pools = [Pool::Serving, Pool::Far].map(|pool| live.snapshot.pool(pool));
        pools.into_iter().flat_map(Members::members).find(|m| m.instance.id().as_str() == id).unwrap().slot
    };
    let before = slot_of("far3");
    let moved = at("far", 3).to_builder().zone("near").build().unwrap();
    upsert(&view, [Arc::new(moved)]);
    assert_eq!(slot_of("far3"), before);
    let seen = picks(&view, &PickContext::new());
    assert!(seen.len() == 4 && seen.contains_key("far3"), "{seen:?}");
}

#[test]
fn a_new_revision_alone_keeps_the_spill() {
    let view = zoned(&Balance::random());
    upsert(&view, fleet(10, 20));
    upsert(&view, (0..5).map(|id| with("near", id, Status::Down)));
    let version = view.live().snapshot.version();
    view.apply(&ViewChange { revision: Some(77), ..ViewChange::default() });
    assert_eq!(view.live().snapshot.version(), version);
    assert_about(near(&picks(&view, &PickContext::new())), 0.7);
}

#[derive(Debug)]
struct First;

impl Balancer for First {
    fn picker(&self, _: &Members) -> Arc<dyn Picker> {
        Arc::new(Self)
    }
}

impl Picker for First {
    fn pick(&self, draw: &Draw<'_>) -> usize {
        draw.attempt() as usize
    }
}

#[test]
fn a_zone_whose_instances_fail_gives_its_requests_away_though_few_may_be_ejected() {
    let view = zoned(&Balance::random());
    upsert(&view, fleet(10, 10));
    let outliers = Arc::clone(view.outliers().unwrap());
    let ill: Vec<Member> = view.live().snapshot.pool(Pool::Serving).members().take(6).cloned().collect();
    for member in &ill {
        for _ in 0..5 {
            outliers.report(&view, &member.instance, member.slot, Some(Failure::Server), None);
        }
    }
    assert_eq!(view.live().snapshot.ejected().count(), 2, "a tenth of all");
    // Four of ten are well: 0.4 × 1.4.
    assert_about(near(&picks(&view, &PickContext::new())), 0.56);
    for member in &ill {
        outliers.report(&view, &member.instance, member.slot, None, None);
    }
    assert_about(near(&picks(&view, &PickContext::new())), 1.0);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_no_more_is_noticed_though_another_fails_from_the_same_moment_on() {
    let view = zoned(&Balance::random());
    upsert(&view, fleet(2, 20));
    let outliers = Arc::clone(view.outliers().unwrap());
    let fail = |id: &str, times| {
        let snapshot = view.live().snapshot.clone();
        let member = [Pool::Serving, Pool::Far]
            .into_iter()
            .flat_map(|pool| snapshot.pool(pool).members())
            .find(|member| member.instance.id().as_str() == id)
            .unwrap();
        for _ in 0..times {
            outliers.report(&view, &member.instance, member.slot, Some(Failure::Server), None);
        }
    };
    fail("far0", 5);
    fail("far1", 5);
    assert_eq!(view.live().snapshot.ejected().count(), 2, "there is no room for more");
    fail("near0", 5);
    fail("far2", 4);
    assert_about(near(&picks(&view, &PickContext::new())), 0.7);
    // Nothing was heard of the near one for longer than an ejection: it fails no more.
    tokio::time::advance(std::time::Duration::from_secs(40)).await;
    fail("far2", 1);
    assert_about(near(&picks(&view, &PickContext::new())), 1.0);
}
