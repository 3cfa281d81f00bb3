use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    balance::Balance,
    model::{Incarnation, RecordVersion, Selector},
    view::{View, ViewChange, ViewConfig, ViewSink},
};

type Model = BTreeMap<InstanceKey, Arc<Instance>>;

fn instance(id: u8, status: Status, weight: u32, zone: &str, epoch: u64) -> Arc<Instance> {
    let version = RecordVersion { incarnation: Incarnation::from_bits(1), epoch, sequence: 1 };
    let instance = Instance::builder("orders")
        .id(format!("i{id}"))
        .endpoint("http://10.0.0.1:80")
        .status(status)
        .weight(weight)
        .zone(zone)
        .build()
        .unwrap();
    Arc::new(instance.with_record_version(Some(version)))
}

fn key(id: u8) -> InstanceKey {
    instance(id, Status::Serving, 1, "z", 1).key()
}

fn serving(id: u8) -> Arc<Instance> {
    instance(id, Status::Serving, 100, "a", 1)
}

fn any_instance() -> impl Strategy<Value = Arc<Instance>> {
    let status = prop_oneof![
        Just(Status::Serving),
        Just(Status::Draining),
        Just(Status::Starting),
        Just(Status::Down)
    ];
    (0_u8..120, status, 0_u32..3, prop_oneof![Just("a"), Just("b")], 1_u64..3)
        .prop_map(|(id, status, weight, zone, epoch)| instance(id, status, weight, zone, epoch))
}

fn any_change() -> impl Strategy<Value = ViewChange> {
    let keys = |most| prop::collection::vec((0_u8..120).prop_map(key), 0..most);
    (prop::collection::vec(any_instance(), 0..40), keys(20), prop::option::of(keys(12)), 0_u64..9).prop_map(
        |(upserts, removals, suspects, revision)| ViewChange {
            upserts: upserts.into_iter().map(|i| (i.key(), i)).collect::<Model>().into_values().collect(),
            removals,
            suspects: suspects.map(|keys| Arc::new(keys.into_iter().collect())),
            revision: Some(revision),
        },
    )
}

/// Applies a difference; fails if it adds what is there, or removes or changes what isn't.
fn fold(model: &mut Model, diff: &Diff) {
    for old in &diff.removed {
        assert!(model.remove(&old.key()).unwrap().is_same_record(old));
    }
    for (old, new) in &diff.changed {
        assert!(!old.is_same_record(new));
        assert!(model.insert(new.key(), Arc::clone(new)).unwrap().is_same_record(old));
    }
    for new in &diff.added {
        assert!(model.insert(new.key(), Arc::clone(new)).is_none());
    }
}

fn contents(snapshot: &Snapshot) -> Model {
    let model: Model = snapshot.iter().map(|i| (i.key(), Arc::clone(i))).collect();
    assert_eq!(model.len(), snapshot.len(), "each instance occurs once");
    model
}

fn check_filing(snapshot: &Snapshot) {
    for pool in Pool::ALL {
        let members = snapshot.pool(pool);
        for at in 0..members.len() {
            let member = members.member(at).unwrap();
            let is_far = pool == Pool::Far;
            assert_eq!(Pool::of(&member.instance), if is_far { Pool::Serving } else { pool });
            assert_eq!(members.is_suspect(at), snapshot.is_suspect(&member.instance.key()));
            assert!((member.slot.index as usize) < members.slots());
        }
        let mut weights: Vec<_> = members.iter().map(|i| i.weight()).collect();
        weights.dedup();
        weights.sort();
        weights.dedup();
        assert_eq!(members.has_equal_weights(), weights.len() <= 1);
    }
    let slots = Pool::ALL.into_iter().flat_map(|pool| {
        let members = snapshot.pool(pool);
        (0..members.len()).map(|at| members.slot(at).unwrap().index)
    });
    let slots: Vec<u32> = slots.collect();
    assert_eq!(slots.iter().collect::<HashSet<_>>().len(), slots.len(), "no two instances share a slot");
}

/// Near and far are apart exactly if zones count and six or more serve, and spill exactly if the near ones are too few.
fn check_zones(snapshot: &Snapshot, is_zoned: bool) {
    let [near, far] = [Pool::Serving, Pool::Far].map(|pool| snapshot.pool(pool));
    let all = near.len() + far.len();
    if !is_zoned || all < 6 {
        assert!(far.is_empty() && snapshot.spill().is_none());
        return;
    }
    assert!(near.iter().all(|i| i.zone() == Some("a")) && far.iter().all(|i| i.zone() != Some("a")));
    let counts = |i: &&Arc<Instance>| {
        let serves = i.status() == Status::Serving && i.weight() > crate::Weight::ZERO;
        i.zone() == Some("a") && (serves || matches!(i.status(), Status::Draining | Status::Down))
    };
    let whole = snapshot.iter().filter(counts).count();
    let well = near.iter().filter(|i| !snapshot.is_suspect(&i.key())).count();
    let spills = !near.is_empty() && !far.is_empty() && well * 14 < whole * 10;
    let expected = spills.then_some(Share { near: well * 14, of: whole * 10 });
    assert_eq!(snapshot.spill(), expected);
}

proptest! {
    #[test]
    fn folding_the_differences_gives_the_snapshot(
        changes in prop::collection::vec(any_change(), 1..12),
        only_a in any::<bool>(),
        zone in prop::option::of(Just("a".to_owned())),
        warms in any::<bool>(),
    ) {
        let selector = if only_a { Selector::new().zone("a") } else { Selector::new() };
        let slow_start = if warms { SlowStart::Window(Duration::from_secs(3_600)) } else { SlowStart::Off };
        let config = ViewConfig { selector: selector.clone(), zone, slow_start, ..ViewConfig::default() };
        let is_zoned = config.zone.is_some();
        let view = View::with(config);
        let (mut truth, mut folded) = (Model::new(), Model::new());
        let first = view.live().snapshot.clone();
        let mut last = first.clone();
        for change in changes {
            view.apply(&change);
            change.removals.iter().for_each(|key| drop(truth.remove(key)));
            for upsert in &change.upserts {
                truth.insert(upsert.key(), Arc::clone(upsert));
            }
            let now = view.live().snapshot.clone();
            check_filing(&now);
            check_zones(&now, is_zoned);
            let expected: Model =
                truth.iter().filter(|(_, i)| selector.matches(i)).map(|(k, i)| (k.clone(), Arc::clone(i))).collect();
            prop_assert_eq!(&contents(&now), &expected);
            let diff = Diff::between(&last, &now);
            prop_assert_eq!((diff.from, diff.to), (last.version(), now.version()));
            prop_assert!(now.version() > last.version() || diff.is_empty());
            fold(&mut folded, &diff);
            prop_assert_eq!(&folded, &expected);
            last = now;
        }
        let mut at_once = Model::new();
        fold(&mut at_once, &Diff::between(&first, &last));
        prop_assert_eq!(at_once, folded);
    }
}

fn view() -> View {
    View::new(Selector::new(), &Balance::default())
}

fn upsert(view: &View, upserts: Vec<Arc<Instance>>) -> Snapshot {
    view.apply(&ViewChange { upserts, ..ViewChange::default() });
    view.live().snapshot.clone()
}

#[test]
fn a_batch_is_one_version() {
    let view = view();
    assert_eq!(upsert(&view, (0..100).map(serving).collect()).version(), 1);
    assert_eq!(upsert(&view, (50..200).map(serving).collect()).version(), 2);
}

#[test]
fn the_first_batch_is_an_answer_even_if_it_is_empty() {
    let view = view();
    assert_eq!(view.live().snapshot.version(), 0);
    assert_eq!(upsert(&view, Vec::new()).version(), 1);
}

#[test]
fn a_batch_that_changes_nothing_gives_no_version_but_moves_the_revision() {
    let view = view();
    upsert(&view, vec![serving(1)]);
    let wake = view.subscribe();
    view.apply(&ViewChange { upserts: vec![serving(1)], revision: Some(7), ..ViewChange::default() });
    let now = view.live().snapshot.clone();
    assert_eq!((now.version(), now.revision()), (1, Some(7)));
    assert!(!wake.has_changed().unwrap());
}

#[test]
fn a_status_change_moves_an_instance_between_usable_and_the_rest() {
    let view = view();
    assert_eq!(upsert(&view, vec![serving(1), serving(2)]).usable_len(), 2);
    let drained = upsert(&view, vec![instance(1, Status::Draining, 100, "a", 1)]);
    assert_eq!((drained.usable_len(), drained.len()), (1, 2));
    assert_eq!(
        drained.get(key(1).id.as_str().parse::<InstanceId>().as_ref().unwrap()).unwrap().status(),
        Status::Draining
    );
    assert_eq!(upsert(&view, vec![serving(1)]).usable_len(), 2);
}

#[test]
fn an_instance_that_stops_matching_the_selector_leaves() {
    let view = View::new(Selector::new().zone("a"), &Balance::default());
    assert_eq!(upsert(&view, vec![serving(1), serving(2)]).len(), 2);
    let moved = upsert(&view, vec![instance(1, Status::Serving, 100, "b", 1)]);
    assert_eq!(moved.iter().map(|i| i.key()).collect::<Vec<_>>(), [key(2)]);
}

#[test]
fn a_new_life_of_the_same_content_is_a_change() {
    let view = view();
    let before = upsert(&view, vec![serving(1)]);
    let after = upsert(&view, vec![instance(1, Status::Serving, 100, "a", 2)]);
    assert_eq!(Diff::between(&before, &after).changed.len(), 1);
}

#[test]
fn a_slot_outlives_updates_but_not_the_instance() {
    let view = view();
    let slot = |snapshot: &Snapshot, id: u8| {
        let members = snapshot.active();
        let at = members.iter().position(|i| i.key() == key(id)).unwrap();
        members.slot(at).unwrap()
    };
    let first = slot(&upsert(&view, vec![serving(1), serving(2)]), 2);
    view.apply(&ViewChange { removals: vec![key(1)], ..ViewChange::default() });
    assert_eq!(slot(&upsert(&view, vec![instance(2, Status::Serving, 5, "b", 1)]), 2), first);
    assert_ne!(slot(&upsert(&view, vec![instance(2, Status::Serving, 5, "b", 2)]), 2), first);
    let reused = slot(&upsert(&view, vec![serving(3)]), 3);
    assert_eq!(reused.index, 0);
    assert_ne!(reused.generation, 0);
}

#[test]
fn an_older_snapshot_never_changes() {
    let view = view();
    let old = upsert(&view, (0..100).map(serving).collect());
    let before = contents(&old);
    view.apply(&ViewChange { removals: (0..100).map(key).collect(), ..ViewChange::default() });
    assert!(view.live().snapshot.is_empty());
    assert_eq!(contents(&old), before);
}
