//! An upstream over a reflector, as users have it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    fake::{Rig, until},
    *,
};
use crate::{
    Attempt, CallOptions, ErrorKind, Selector, Target, Upstream,
    balance::{Balance, Balancer, Members, Picker},
    view::View,
};

fn upstream(rig: Rig) -> Upstream {
    balanced(rig, &Balance::default())
}

fn balanced(rig: Rig, balance: &Balance) -> Upstream {
    let view = Arc::new(View::new(Selector::new(), balance));
    let target = Target::try_from("orders").unwrap();
    Upstream::new(target, view, false, move || Arc::new(rig.spawn()))
}

#[tokio::test(start_paused = true)]
async fn nothing_heard_is_not_ready_and_an_empty_list_is_no_instance() {
    let rig = Rig::new();
    let session = rig.fake.session();
    let upstream = upstream(rig);
    assert_eq!(upstream.pick().unwrap_err().kind(), ErrorKind::NotReady);
    assert_eq!(upstream.ready_within(0, secs(3)).await.unwrap_err().kind(), ErrorKind::NotReady);
    session.send(Ok(reset(&[], 1))).await.unwrap();
    upstream.ready_within(0, secs(3)).await.unwrap();
    assert_eq!(upstream.pick().unwrap_err().kind(), ErrorKind::NoInstance);
}

#[tokio::test(start_paused = true)]
async fn the_first_use_starts_and_changes_flow() {
    let rig = Rig::new();
    let session = rig.fake.session();
    let upstream = upstream(rig);
    let mut changes = upstream.changes();
    session.send(Ok(reset(&["a", "b"], 1))).await.unwrap();
    assert_eq!(changes.next().await.unwrap().diff.added.len(), 2);
    session.send(Ok(event(vec![Change::Upsert(instance("c"))], 2))).await.unwrap();
    let update = changes.next().await.unwrap();
    assert_eq!((update.diff.added.len(), update.snapshot.revision()), (1, Some(2)));
}

#[tokio::test(start_paused = true)]
async fn suspects_that_refuse_connections_are_gone_at_once_and_calls_succeed() {
    let rig = Rig::new();
    let first = rig.fake.session();
    let fake = Arc::clone(&rig.fake);
    let upstream = upstream(rig);
    upstream.start();
    first.send(Ok(reset(&["a", "b", "c", "d"], 1))).await.unwrap();
    upstream.ready(4).await.unwrap();
    let second = fake.session();
    drop(first);
    until(|| fake.sessions() == 2).await;
    second.send(Ok(reset(&["a"], 2))).await.unwrap();
    until(|| upstream.snapshot().is_suspect(&key("b"))).await;
    assert_eq!(upstream.snapshot().usable_len(), 4);
    let gone: HashSet<_> = ["b", "c", "d"].map(key).into();
    for _ in 0..20 {
        let answer = upstream
            .call_with(&CallOptions::new().attempts(4), |instance| {
                let refuses = gone.contains(&instance.key());
                async move { if refuses { Err(Attempt::retry(())) } else { Ok(()) } }
            })
            .await;
        assert!(answer.is_ok());
        tokio::task::yield_now().await;
    }
    // A last one is drawn again each time round, in favour of the one that is known to be there.
    until(|| upstream.snapshot().len() <= 2).await;
    assert_eq!(upstream.pick().unwrap().key(), key("a"));
}

/// Panics at every rule but the first ones: of the empty view, and of the first list.
#[derive(Debug, Default)]
struct Breaks(AtomicUsize);

impl Balancer for Breaks {
    fn picker(&self, members: &Members) -> Arc<dyn Picker> {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) < 2, "one too many");
        let balancer = Balance::random().balancing();
        Arc::new(balancer.rule(members, None))
    }
}

#[tokio::test(start_paused = true)]
async fn a_balancer_that_panics_does_not_end_the_view() {
    let rig = Rig::new();
    let session = rig.fake.session();
    let upstream = balanced(rig, &Balance::custom("breaks", || Arc::new(Breaks::default())));
    upstream.start();
    session.send(Ok(reset(&["a"], 1))).await.unwrap();
    upstream.ready_within(1, secs(3)).await.unwrap();
    for (revision, id) in [(2, "b"), (3, "c")] {
        session.send(Ok(event(vec![Change::Upsert(instance(id))], revision))).await.unwrap();
        upstream.ready_within(revision as usize, secs(3)).await.unwrap();
    }
    let picked: HashSet<_> = (0..30).map(|_| upstream.pick().unwrap().key()).collect();
    assert_eq!(picked.len(), 3);
    assert_eq!(upstream.freshness().state, crate::ViewState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn closing_the_client_ends_what_waits_but_not_picking() {
    let rig = Rig::new();
    let session = rig.fake.session();
    let cancel = rig.cancel.clone();
    let upstream = upstream(rig);
    let mut changes = upstream.changes();
    session.send(Ok(reset(&["a"], 1))).await.unwrap();
    changes.next().await.unwrap();
    cancel.cancel();
    assert!(changes.next().await.is_none());
    assert_eq!(upstream.ready(2).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(upstream.pick().unwrap().key(), key("a"));
}
