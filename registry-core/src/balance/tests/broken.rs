//! Policies of others that panic.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::*;

/// Chooses the last, and panics when told to.
#[derive(Clone, Debug, Default)]
struct Last(Arc<Faults>);

#[derive(Debug, Default)]
struct Faults {
    in_picker: AtomicBool,
    in_pick: AtomicBool,
    built: AtomicUsize,
}

impl Balancer for Last {
    fn picker(&self, _: &Members) -> Arc<dyn Picker> {
        self.0.built.fetch_add(1, Ordering::SeqCst);
        assert!(!self.0.in_picker.load(Ordering::SeqCst), "no rule today");
        Arc::new(self.clone())
    }
}

impl Picker for Last {
    fn pick(&self, draw: &Draw<'_>) -> usize {
        assert!(!self.0.in_pick.load(Ordering::SeqCst), "no choice today");
        draw.members.len() - 1
    }
}

fn last() -> (Balance, Arc<Faults>) {
    let last = Last::default();
    let faults = Arc::clone(&last.0);
    (Balance::custom("last", move || Arc::new(last.clone())), faults)
}

fn publish(view: &View, id: usize) {
    let upserts = vec![instance(id, 1, Status::Serving)];
    view.apply(&ViewChange { upserts, ..ViewChange::default() });
}

#[test]
fn a_version_whose_rule_panics_is_published_and_picked_from_in_turn() {
    let (balance, faults) = last();
    let view = view(&balance, serving(&[1, 1, 1]));
    assert_eq!(count(&view, 10).len(), 1);
    faults.in_picker.store(true, Ordering::SeqCst);
    for id in 3..6 {
        publish(&view, id);
        assert_eq!(count(&view, 6 * 7).len(), id + 1, "everybody has a turn");
    }
    let built = faults.built.load(Ordering::SeqCst);
    faults.in_picker.store(false, Ordering::SeqCst);
    publish(&view, 6);
    assert_eq!(faults.built.load(Ordering::SeqCst), built + 1, "each version is another chance");
    assert_eq!(count(&view, 10).len(), 1, "and it is used");
}

#[test]
fn a_pick_that_panics_is_its_callers_alone() {
    let (balance, faults) = last();
    let view = view(&balance, serving(&[1, 1, 1]));
    let seat = view.seat();
    let own = |view: &View| {
        view.pick(seat, &PickContext::new(), |member| member.map(|member| member.instance.key()))
    };
    // Twice: anew, and from what the thread has a hold of by then.
    for _ in 0..2 {
        faults.in_pick.store(true, Ordering::SeqCst);
        assert!(catch_unwind(AssertUnwindSafe(|| own(&view))).is_err());
        faults.in_pick.store(false, Ordering::SeqCst);
        assert!(own(&view).is_some());
    }
    publish(&view, 3);
    assert_eq!(own(&view), Some(key(3)), "the view goes on");
    assert!(std::thread::scope(|scope| scope.spawn(|| own(&view)).join().unwrap().is_some()));
}
