//! What threads hold of a view, and when they let go.

mod slow_start;
mod zone;

use std::{sync::mpsc, thread};

use super::*;

/// A view that threads keep near: another test takes all those seats for a moment.
fn view(ids: std::ops::Range<u32>) -> Arc<View> {
    loop {
        let view = any_view(ids.clone());
        if view.seat() < near::SEATS {
            return view;
        }
        thread::yield_now();
    }
}

fn any_view(ids: std::ops::Range<u32>) -> Arc<View> {
    let view = View::new(Selector::new(), &Balance::round_robin());
    view.apply(&upserts(ids));
    Arc::new(view)
}

fn upserts(ids: std::ops::Range<u32>) -> ViewChange {
    ViewChange { upserts: ids.map(instance).collect(), ..ViewChange::default() }
}

fn instance(id: u32) -> Arc<Instance> {
    let builder = Instance::builder("orders").id(format!("i{id}")).endpoint("http://10.0.0.1:80");
    Arc::new(builder.build().unwrap())
}

fn remove(view: &View, id: u32) {
    view.apply(&ViewChange { removals: vec![instance(id).key()], ..ViewChange::default() });
}

/// The id of what a pick from this view gives.
fn pick(view: &View) -> Option<String> {
    pick_with(view, &PickContext::new())
}

/// [`pick`], the way that upstreams take under this policy.
fn pick_with(view: &View, context: &PickContext<'_>) -> Option<String> {
    let id = |member: Option<&Member>| member.map(|member| member.instance.id().to_string());
    if view.balancing().is_metered() {
        return view.pick_metered::<false, _, _>(
            view.seat(),
            context,
            (),
            |(), member, _| id(Some(member)),
            |(), member| id(member),
        );
    }
    view.pick(view.seat(), context, id)
}

fn weak(view: &View) -> std::sync::Weak<Live> {
    Arc::downgrade(&view.live())
}

/// A thread that does what it is told and says when it is done.
struct Worker(mpsc::Sender<Box<dyn FnOnce() + Send>>, mpsc::Receiver<()>, Option<thread::JoinHandle<()>>);

impl Worker {
    fn new() -> Self {
        let ((jobs, inbox), (done, outbox)) = (mpsc::channel::<Box<dyn FnOnce() + Send>>(), mpsc::channel());
        let thread = thread::spawn(move || {
            for job in inbox {
                job();
                done.send(()).unwrap();
            }
        });
        Self(jobs, outbox, Some(thread))
    }

    fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.0.send(Box::new(job)).unwrap();
        self.1.recv().unwrap();
    }

    fn end(mut self) {
        drop(std::mem::replace(&mut self.0, mpsc::channel().0));
        self.2.take().unwrap().join().unwrap();
    }
}

#[test]
fn the_next_pick_of_every_thread_sees_what_was_published() {
    let view = view(0..1);
    let workers = [Worker::new(), Worker::new()];
    for id in 1..200 {
        view.apply(&upserts(id..id + 1));
        remove(&view, id - 1);
        let sees = |view: &View| assert_eq!(pick(view), Some(format!("i{id}")));
        sees(&view);
        for worker in &workers {
            let view = Arc::clone(&view);
            worker.run(move || assert_eq!(pick(&view), Some(format!("i{id}"))));
        }
    }
}

#[test]
fn readers_never_go_back_while_another_thread_publishes() {
    let view = view(0..1);
    let last = 2_000;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                while seen < last {
                    let id: u32 = pick(&view).unwrap()[1..].parse().unwrap();
                    assert!(id >= seen, "{id} after {seen}");
                    seen = id;
                }
            });
        }
        for id in 1..=last {
            let removals = vec![instance(id - 1).key()];
            view.apply(&ViewChange { removals, ..upserts(id..id + 1) });
        }
    });
}

#[test]
fn a_replaced_version_is_let_go_by_the_next_pick_and_freed_by_the_next_change() {
    let view = view(0..3);
    pick(&view);
    let first = weak(&view);
    remove(&view, 0);
    assert!(first.upgrade().is_some(), "this thread holds it");
    pick(&view);
    remove(&view, 1);
    assert!(first.upgrade().is_none());
    assert!(view.writer.lock().unwrap().replaced.len() <= 1);
}

#[test]
fn an_idle_thread_keeps_one_version_and_the_writer_keeps_no_list_of_those_nobody_holds() {
    let view = view(0..3);
    let worker = Worker::new();
    let theirs = Arc::clone(&view);
    worker.run(move || drop(pick(&theirs)));
    let held = weak(&view);
    let dropped: Vec<_> = (3..100)
        .map(|id| {
            view.apply(&upserts(id..id + 1));
            weak(&view)
        })
        .collect();
    assert!(held.upgrade().is_some());
    assert_eq!(dropped.iter().filter(|version| version.upgrade().is_some()).count(), 1, "the live one");
    worker.end();
    view.apply(&upserts(100..101));
    assert!(held.upgrade().is_none(), "its thread has ended");
}

#[test]
fn a_dropped_view_is_let_go_at_once_here_and_elsewhere_with_the_next_pick_of_anything() {
    let (gone, other) = (view(0..3), view(0..3));
    let worker = Worker::new();
    let theirs = (Arc::clone(&gone), Arc::clone(&other));
    worker.run(move || {
        pick(&theirs.0);
        pick(&theirs.1);
    });
    pick(&gone);
    let held = weak(&gone);
    drop(gone);
    assert!(held.upgrade().is_some(), "the idle thread still holds it");
    assert_eq!(held.strong_count(), 1, "and nobody else does");
    worker.run(move || drop(pick(&other)));
    assert!(held.upgrade().is_none());
}

#[test]
fn many_dropped_views_are_let_go_one_per_pick() {
    // First, or it would get the seat of one that is gone.
    let other = view(0..2);
    let worker = Worker::new();
    let views: Vec<_> = (0..5).map(|_| view(0..2)).collect();
    let held: Vec<_> = views.iter().map(|view| weak(view)).collect();
    let theirs = views.clone();
    worker.run(move || theirs.iter().for_each(|view| drop(pick(view))));
    drop(views);
    let alive = |held: &[std::sync::Weak<Live>]| held.iter().filter(|live| live.upgrade().is_some()).count();
    for left in (0..5).rev() {
        let other = Arc::clone(&other);
        worker.run(move || drop(pick(&other)));
        assert_eq!(alive(&held), left);
    }
}

#[test]
fn a_new_view_never_sees_what_the_former_owner_of_its_seat_had() {
    let worker = Worker::new();
    for id in 0..100 {
        let view = view(id..id + 1);
        let theirs = Arc::clone(&view);
        worker.run(move || assert_eq!(pick(&theirs), Some(format!("i{id}"))));
        assert_eq!(pick(&view), Some(format!("i{id}")));
    }
}

#[test]
fn a_pick_within_a_pick_sees_the_newest_version_and_the_outer_one_keeps_its_own() {
    let (view, other) = (view(0..1), view(7..8));
    pick(&view);
    view.pick(view.seat(), &PickContext::new(), |member| {
        let outer = member.unwrap();
        view.apply(&upserts(1..2));
        remove(&view, 0);
        assert_eq!(pick(&view), Some("i1".to_owned()));
        assert_eq!(pick(&other), Some("i7".to_owned()));
        drop(other);
        assert_eq!(outer.instance.id().as_str(), "i0");
    });
    assert_eq!(pick(&view), Some("i1".to_owned()));
}

#[test]
fn a_pick_while_the_thread_ends_goes_through_the_shared_pointer() {
    struct Last(Arc<View>, mpsc::Sender<Option<String>>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.1.send(pick(&self.0)).unwrap();
        }
    }
    thread_local!(static EARLY: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) });
    let (view, (sender, receiver)) = (view(0..1), mpsc::channel());
    let theirs = Arc::clone(&view);
    let thread = thread::spawn(move || {
        // Touched before the table of picks, hence destroyed after it on some systems and before it on others.
        EARLY.with(|early| *early.borrow_mut() = Some(Last(Arc::clone(&theirs), sender)));
        pick(&theirs);
    });
    thread.join().unwrap();
    assert_eq!(receiver.recv().unwrap(), Some("i0".to_owned()));
}

#[test]
fn views_beyond_the_seats_are_picked_from_too() {
    let views: Vec<_> = (0..1_100).map(|id| any_view(id..id + 1)).collect();
    for _ in 0..2 {
        for (id, view) in views.iter().enumerate() {
            assert_eq!(pick(view), Some(format!("i{id}")));
        }
    }
}
