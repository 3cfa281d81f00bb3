//! Row 31: the user's callbacks misbehave. They run on tokio's blocking pool, where a blocked thread keeps the paused
//! clock from moving by itself: the tests move it by hand.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use registry_core::{MemoryRegistry, Phase, RegistrationEvent, Weight, memory::Operation};
use tokio::time::{Instant, advance};

use super::support::{TTL, client_of, figure, instance, log_of, millis, secs};

/// Moves the clock in steps that are short against everything the keeper does.
async fn pass(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        advance(millis(5)).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
}

/// R4: no two renewals further apart than 1.2 P + A.
fn longest_gap(registry: &MemoryRegistry) -> Duration {
    let log = registry.call_log();
    let renewals: Vec<_> = log.iter().filter(|call| call.operation == Operation::Renew).collect();
    renewals.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap()
}

const MOST_GAP: Duration = Duration::from_millis(5_000 * 12 / 10 + 2_500);

#[tokio::test(start_paused = true)]
async fn row_31_an_observer_that_blocks_for_a_minute_delays_no_renewal() {
    let registry = MemoryRegistry::new();
    let client = client_of(&registry, 31).await;
    let registration = client.register(instance("orders", "a")).await.unwrap();
    let events = log_of(&registration);
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let called = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&called);
    registration.on_event(move |_| {
        calls.fetch_add(1, Ordering::SeqCst);
        let _ = gate.lock().unwrap().recv();
    });
    registry.faults().forget_leases();
    while called.load(Ordering::SeqCst) == 0 {
        pass(millis(10)).await;
    }
    let blocked = Instant::now();
    while blocked.elapsed() < secs(60) {
        pass(millis(100)).await;
        let truth = registry.snapshot_of("orders").len();
        assert!(registration.phase() != Phase::Live || truth == 1, "R3");
    }
    assert_eq!(registration.phase(), Phase::Live);
    assert_eq!(called.load(Ordering::SeqCst), 1, "one at a time");
    let gap = longest_gap(&registry);
    assert!(gap <= MOST_GAP, "R4: {gap:?} between two renewals");
    drop(open);
    while called.load(Ordering::SeqCst) < 2 {
        pass(millis(10)).await;
    }
    events.assert_alternates();
    figure(31, "longest gap between renewals while an observer blocks", gap);
}

#[tokio::test(start_paused = true)]
async fn row_31_an_observer_that_panics_each_time_hears_every_event_and_delays_no_renewal() {
    let registry = MemoryRegistry::new();
    let client = client_of(&registry, 32).await;
    let registration = client.register(instance("orders", "a")).await.unwrap();
    let events = log_of(&registration);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&heard);
    registration.on_event(move |event| {
        told.lock().unwrap().push(event);
        panic!("the user's own fault");
    });
    for _ in 0..5 {
        registry.faults().forget_leases();
        pass(2 * TTL).await;
    }
    assert_eq!(registration.phase(), Phase::Live);
    let gap = longest_gap(&registry);
    assert!(gap <= MOST_GAP, "R4: {gap:?} between two renewals");
    let heard = heard.lock().unwrap();
    let lost = heard.iter().filter(|event| matches!(event, RegistrationEvent::Lost { .. })).count();
    assert_eq!(lost, 5, "a panic costs no later event: {heard:?}");
    assert_eq!(heard.len(), events.len());
    events.assert_alternates();
    figure(31, "longest gap between renewals while an observer panics", gap);
}

#[tokio::test(start_paused = true)]
async fn row_31_an_observer_may_call_back_into_everything() {
    let registry = MemoryRegistry::new();
    let client = client_of(&registry, 33).await;
    let registration = Arc::new(client.register(instance("orders", "a")).await.unwrap());
    let events = log_of(&registration);
    let again = Arc::downgrade(&registration);
    let own = client.clone();
    let runtime = tokio::runtime::Handle::current();
    let done = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&done);
    registration.on_event(move |event| {
        let Some(registration) = again.upgrade() else { return };
        let round = count.load(Ordering::SeqCst);
        drop((registration.state(), registration.phases(), own.health(), own.lifecycle()));
        drop((registration.events(), own.events()));
        if matches!(event, RegistrationEvent::Recovered { .. }) {
            registration.set_weight(Weight::new(u32::try_from(round).unwrap() + 1).unwrap()).unwrap();
            runtime.block_on(async {
                registration.updated(secs(30)).await.unwrap();
                let other = own.register(instance("orders", "b")).await.unwrap();
                let upstream = own.discover("orders").await.unwrap();
                upstream.ready(1).await.unwrap();
                other.deregister().await;
            });
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    for round in 1..=3 {
        registry.faults().forget_leases();
        let begun = Instant::now();
        while done.load(Ordering::SeqCst) < round {
            pass(millis(50)).await;
            assert!(begun.elapsed() < secs(60), "the callback never came through: a deadlock");
        }
    }
    let stored = registry.snapshot_of("orders");
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].weight().get(), 3);
    let gap = longest_gap(&registry);
    assert!(gap <= MOST_GAP, "R4: {gap:?} between two renewals");
    events.assert_alternates();
    figure(31, "longest gap between renewals while an observer re-enters", gap);
}
