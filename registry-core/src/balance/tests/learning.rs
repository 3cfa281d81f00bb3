//! What policies learn of instances by the picks of a user.

use std::time::Duration;

use super::*;
use crate::{Upstream, model::Target};

fn upstream(balance: &Balance, instances: usize) -> Upstream {
    let instances = (0..instances).map(|id| (*instance(id, 100, Status::Serving)).clone());
    Upstream::fixed(Target::try_from("orders").unwrap(), instances, balance)
}

fn ids(upstream: &Upstream, picks: usize) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for _ in 0..picks {
        let id = upstream.with_pick(|instance| instance.id().to_string()).unwrap();
        *counts.entry(id).or_default() += 1;
    }
    counts
}

/// Sends requests until one went to this instance, and reports that one. The others end without a verdict.
fn report_one(upstream: &Upstream, id: usize, outcome: Outcome) {
    loop {
        let tried: Vec<_> = upstream.snapshot().iter().map(|i| i.key()).filter(|k| *k != key(id)).collect();
        let picked = upstream.pick_with(&PickContext::new().tried(&tried)).unwrap();
        if picked.key() == key(id) {
            return picked.report(outcome);
        }
    }
}

#[test]
fn an_instance_with_a_request_in_flight_is_avoided_until_that_ends() {
    for balance in [Balance::least_request(), Balance::peak_ewma()] {
        let upstream = upstream(&balance, 2);
        let held = upstream.pick().unwrap();
        let other = if held.key() == key(0) { "i1" } else { "i0" };
        assert_eq!(ids(&upstream, 50).into_iter().collect::<Vec<_>>(), [(other.to_owned(), 50)]);
        // Another thread ends it.
        std::thread::scope(|scope| scope.spawn(move || drop(held)).join().unwrap());
        assert_eq!(ids(&upstream, 100).len(), 2, "{balance:?}");
    }
}

#[test]
fn a_borrowing_pick_is_in_flight_while_its_closure_runs() {
    for balance in [Balance::least_request(), Balance::peak_ewma()] {
        let upstream = upstream(&balance, 2);
        for _ in 0..50 {
            upstream
                .with_pick(|outer| {
                    let inner = upstream.with_pick(|inner| inner.id().clone()).unwrap();
                    assert_ne!(inner, *outer.id());
                })
                .unwrap();
        }
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            upstream.with_pick(|_| panic!("in the user's code")).unwrap();
        }));
        assert!(caught.is_err());
        assert_eq!(ids(&upstream, 100).len(), 2, "{balance:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_in_flight_until_it_ends_or_is_dropped() {
    let upstream = upstream(&Balance::least_request(), 2);
    let (tell, told) = tokio::sync::oneshot::channel();
    let call = upstream.call(|instance| {
        let id = instance.id().to_string();
        async move { Ok::<_, crate::Attempt<std::io::Error>>(id) }
    });
    let id = call.await.unwrap();
    assert_eq!(ids(&upstream, 100).len(), 2, "the call to {id} is over");
    let mut tell = Some(tell);
    let waiting = upstream.call(|instance| {
        let _ = tell.take().unwrap().send(instance.id().to_string());
        std::future::pending::<Result<(), crate::Attempt<std::io::Error>>>()
    });
    assert!(
        tokio::time::timeout(Duration::from_millis(1), async {
            let mut waiting = std::pin::pin!(waiting);
            let busy = tokio::select! {
                _ = &mut waiting => unreachable!("it never ends"),
                busy = told => busy.unwrap(),
            };
            assert!(!ids(&upstream, 50).contains_key(&busy));
            waiting.await
        })
        .await
        .is_err()
    );
    assert_eq!(ids(&upstream, 100).len(), 2, "the call was dropped");
}

#[tokio::test(start_paused = true)]
async fn a_slow_instance_is_avoided_until_that_is_forgotten() {
    let upstream = upstream(&Balance::peak_ewma(), 2);
    report_one(&upstream, 0, Outcome::success().took(Duration::from_millis(100)));
    report_one(&upstream, 1, Outcome::success().took(Duration::from_millis(50)));
    assert_eq!(ids(&upstream, 50).len(), 1);
    // Nobody asks it meanwhile, and the other one stays as it is.
    for _ in 0..8 {
        tokio::time::advance(Duration::from_secs(1)).await;
        report_one(&upstream, 1, Outcome::success().took(Duration::from_millis(50)));
    }
    assert!(ids(&upstream, 50).contains_key("i0"), "100 ms are less than 50 after a while");
}

#[tokio::test(start_paused = true)]
async fn failures_and_throttling_cost_more_than_being_slow() {
    for failure in [Failure::Connect, Failure::Timeout, Failure::Server, Failure::Throttled] {
        let upstream = upstream(&Balance::peak_ewma(), 2);
        report_one(&upstream, 0, Outcome::failure(failure).took(Duration::from_millis(1)));
        report_one(&upstream, 1, Outcome::success().took(Duration::from_secs(4)));
        assert_eq!(ids(&upstream, 50).keys().collect::<Vec<_>>(), ["i1"], "{failure:?}");
        report_one(&upstream, 1, Outcome::success().took(Duration::from_secs(6)));
        assert_eq!(ids(&upstream, 50).keys().collect::<Vec<_>>(), ["i0"], "{failure:?}");
    }
    let mild = Balance::from(PeakEwma::new().penalty(Duration::from_millis(100)));
    let upstream = upstream(&mild, 2);
    report_one(&upstream, 0, Outcome::failure(Failure::Server));
    report_one(&upstream, 1, Outcome::success().took(Duration::from_millis(200)));
    assert_eq!(ids(&upstream, 50).keys().collect::<Vec<_>>(), ["i0"]);
}

#[tokio::test(start_paused = true)]
async fn the_time_since_the_pick_counts_if_the_caller_tells_none() {
    let upstream = upstream(&Balance::peak_ewma(), 2);
    let tried = [key(1)];
    let picked = upstream.pick_with(&PickContext::new().tried(&tried)).unwrap();
    tokio::time::advance(Duration::from_millis(80)).await;
    picked.report(Outcome::success());
    assert_eq!(ids(&upstream, 50).keys().collect::<Vec<_>>(), ["i1"]);
}

#[tokio::test(start_paused = true)]
async fn a_pick_without_a_verdict_teaches_nothing() {
    let upstream = upstream(&Balance::peak_ewma(), 2);
    let tried = [key(1)];
    let picked = upstream.pick_with(&PickContext::new().tried(&tried)).unwrap();
    tokio::time::advance(Duration::from_secs(3)).await;
    drop(picked);
    assert_eq!(ids(&upstream, 100).len(), 2);
}

#[test]
fn settings_tell_policies_apart() {
    assert_eq!(Balance::from(PeakEwma::new()), Balance::peak_ewma());
    assert_ne!(Balance::from(PeakEwma::new().seed(Duration::ZERO)), Balance::peak_ewma());
    assert_ne!(Balance::from(RingHash::new().bounded_load(2.0)), Balance::ring_hash());
    let bound = |times| RingHash::new().bounded_load(times);
    assert_eq!(bound(f64::NAN), bound(1.0));
    assert_eq!(bound(-1.0), bound(1.01));
    assert_eq!(bound(f64::INFINITY), bound(1_000.0));
}

#[test]
fn a_pick_that_outlives_its_view_says_nothing_of_the_one_that_follows_it() {
    let balance = Balance::least_request();
    let held: Vec<_> = {
        let former = upstream(&balance, 2);
        (0..4).map(|_| former.pick().unwrap()).collect()
    };
    // Its place in the threads' tables may be this one's by now, and its slots are.
    let present = upstream(&balance, 2);
    let busy = present.pick().unwrap();
    held.into_iter().for_each(|picked| picked.report(Outcome::success()));
    for _ in 0..50 {
        assert_ne!(present.pick().unwrap().key(), busy.key());
    }
}

#[test]
fn threads_that_never_pick_may_report() {
    let upstream = upstream(&Balance::peak_ewma(), 2);
    let slow = upstream.pick().unwrap();
    let key = slow.key();
    let reports = |picks: Vec<crate::Picked>, took| {
        let outcome = Outcome::success().took(Duration::from_secs(took));
        std::thread::scope(|scope| {
            scope.spawn(|| picks.into_iter().for_each(|picked| picked.report(outcome))).join().unwrap();
        });
    };
    reports(vec![slow], 3);
    for _ in 0..50 {
        assert_ne!(upstream.pick().unwrap().key(), key);
    }
    // Through what the thread holds by then.
    reports((0..10).map(|_| upstream.pick().unwrap()).collect(), 6);
    assert_eq!(ids(&upstream, 50).into_keys().collect::<Vec<_>>(), [key.id.as_str()]);
}

#[test]
fn a_policy_of_others_hears_of_the_end_of_each_pick_even_after_the_view_is_gone() {
    #[derive(Debug, Default)]
    struct Ends(std::sync::atomic::AtomicUsize);
    #[derive(Debug)]
    struct First;
    impl Picker for First {
        fn pick(&self, _: &Draw<'_>) -> usize {
            0
        }
    }
    impl Balancer for Ends {
        fn picker(&self, _: &Members) -> Arc<dyn Picker> {
            Arc::new(First)
        }
        fn observes(&self) -> bool {
            true
        }
        fn end(&self, _: Slot, _: Ticket, _: Option<&Outcome>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let ends = Arc::new(Ends::default());
    let shared = Arc::clone(&ends);
    let balance = Balance::custom("first", move || Arc::<Ends>::clone(&shared));
    let picked = upstream(&balance, 2).pick().unwrap();
    // Takes this thread's hold of the former view's, if it has one.
    upstream(&balance, 1).pick().unwrap().report(Outcome::success());
    std::thread::scope(|scope| scope.spawn(move || drop(picked)).join().unwrap());
    assert_eq!(ends.0.load(std::sync::atomic::Ordering::Relaxed), 2);
}
