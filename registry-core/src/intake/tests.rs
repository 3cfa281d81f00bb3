//! What becomes of changes before they reach a view.

mod damping;
mod subset;

use super::*;
use crate::model::{Instance, Status};

fn instance(id: u32, status: Status) -> Arc<Instance> {
    let builder = Instance::builder("orders").id(format!("i{id}")).endpoint("http://10.0.0.1:80");
    Arc::new(builder.status(status).build().unwrap())
}

fn serving(id: u32) -> Arc<Instance> {
    instance(id, Status::Serving)
}

fn key(id: u32) -> InstanceKey {
    serving(id).key()
}

fn upserts(instances: impl IntoIterator<Item = Arc<Instance>>) -> ViewChange {
    ViewChange { upserts: instances.into_iter().collect(), ..ViewChange::default() }
}

fn removals(ids: impl IntoIterator<Item = u32>) -> ViewChange {
    ViewChange { removals: ids.into_iter().map(key).collect(), ..ViewChange::default() }
}

#[test]
fn what_is_off_lets_everything_pass_untouched() {
    let mut intake = Intake::default();
    let change = upserts([serving(1)]);
    assert!(matches!(intake.take(&change, Instant::now()), Cow::Borrowed(_)));
    assert_eq!((intake.has_deadlines(), intake.deadline()), (false, None));
}

#[test]
fn an_instance_that_no_longer_matches_the_selector_is_removed() {
    let zoned = |zone: &str| Arc::new(serving(1).to_builder().zone(zone).build().unwrap());
    let mut intake = Intake::new(Selector::new().zone("z1"), Damping::Off, Subset::Off, 0);
    let now = Instant::now();
    assert_eq!(intake.take(&upserts([zoned("z1")]), now).upserts.len(), 1);
    let change = upserts([zoned("z2")]);
    let change = intake.take(&change, now);
    assert_eq!((change.upserts.len(), &change.removals), (0, &vec![key(1)]));
}

#[test]
fn damping_sees_what_is_selected_and_the_subset_what_is_damped() {
    let damping = Damping::Epoch(std::time::Duration::from_secs(10));
    let mut intake = Intake::new(Selector::new().zone("z1"), damping, Subset::Random(1), 7);
    let zoned = |id, zone: &str| Arc::new(serving(id).to_builder().zone(zone).build().unwrap());
    let now = Instant::now();
    let chosen =
        intake.take(&upserts([zoned(1, "z1"), zoned(2, "z1"), zoned(3, "z2")]), now).upserts[0].key();
    assert_ne!(chosen, key(3));
    let chosen = if chosen == key(1) { 1 } else { 2 };
    // Leaves the zone, returns, leaves again: the last is held back, so the subset keeps it.
    let mut step = |zone| {
        let change = upserts([zoned(chosen, zone)]);
        let change = intake.take(&change, now);
        (change.upserts.iter().map(|i| i.key()).collect::<Vec<_>>(), change.removals.clone())
    };
    assert_eq!(step("z2"), (vec![key(3 - chosen)], vec![key(chosen)]));
    assert_eq!(step("z1"), (vec![key(chosen)], vec![key(3 - chosen)]));
    assert_eq!(step("z2"), (vec![], vec![]));
    let due = intake.deadline().unwrap();
    let change = intake.due(due).unwrap();
    assert_eq!((change.upserts[0].key(), change.removals), (key(3 - chosen), vec![key(chosen)]));
}
