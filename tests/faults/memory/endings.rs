//! Row 20: a process that is killed takes no leave.

use std::{sync::mpsc, time::Duration};

use registry_core::{Client, MemoryRegistry, ViewEvent};
use tokio::time::{Instant, sleep};

use super::support::{TTL, client_of, figure, instance, millis, secs};

/// What the two clocks may differ by: the killed process lives in real time, for as long as it takes to register.
const SKEW: Duration = secs(1);

/// A process with a runtime of its own that registers `n` instances and is killed: every task of it ends at once,
/// without any farewell.
fn killed(registry: &MemoryRegistry, n: usize) {
    let registry = registry.clone();
    let (tell, told) = mpsc::channel();
    let process = std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let held = runtime.block_on(async {
            let client = Client::from_backend(registry.backend()).await.unwrap();
            let mut held = Vec::new();
            for n in 0..n {
                held.push(client.register(instance("orders", &format!("k{n}"))).await.unwrap());
            }
            (client, held)
        });
        // The tasks are gone before the handles: none of them can withdraw anything any more.
        runtime.shutdown_timeout(secs(5));
        drop(held);
        tell.send(()).unwrap();
    });
    told.recv().unwrap();
    process.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn row_20_a_killed_process_is_gone_within_its_time_to_live_and_no_hold_keeps_it() {
    let registry = MemoryRegistry::new();
    let client = client_of(&registry, 20).await;
    let mut standing = Vec::new();
    for n in 0..3 {
        standing.push(client.register(instance("orders", &format!("i{n}"))).await.unwrap());
    }
    let upstream = client.discover("orders").await.unwrap();
    upstream.ready(3).await.unwrap();
    killed(&registry, 1);
    let since = Instant::now();
    upstream.ready(4).await.unwrap();
    assert_eq!(registry.snapshot_of("orders").len(), 4, "nobody has said goodbye");
    let mut events = upstream.events();
    while upstream.snapshot().len() > 3 {
        assert!(upstream.pick().is_ok());
        sleep(millis(10)).await;
        assert!(since.elapsed() <= TTL + SKEW, "it is still shown after {:?}", since.elapsed());
    }
    let gone = since.elapsed();
    assert!(gone >= TTL - SKEW, "withdrawn, not expired: {gone:?}");
    let told = tokio::time::timeout(secs(20), events.next()).await;
    assert!(!matches!(told, Ok(Some(ViewEvent::SuspiciousShrink { .. }))), "an expiry is explicit: {told:?}");
    figure(20, "gone from the reader's view after", gone);
}

#[tokio::test(start_paused = true)]
async fn row_20_of_a_whole_fleet_killed_at_once_nothing_is_shown_after_the_hold() {
    let registry = MemoryRegistry::new();
    let client = client_of(&registry, 21).await;
    let _standing = client.register(instance("orders", "i0")).await.unwrap();
    let upstream = client.discover("orders").await.unwrap();
    upstream.ready(1).await.unwrap();
    killed(&registry, 9);
    let since = Instant::now();
    upstream.ready(10).await.unwrap();
    while upstream.snapshot().len() > 1 {
        assert!(upstream.pick().is_ok(), "D1");
        sleep(millis(10)).await;
        assert!(since.elapsed() <= TTL + secs(30) + SKEW, "still {}", upstream.snapshot().len());
    }
    assert_eq!(upstream.freshness().held, 0);
    figure(20, "9 of 10 killed at once, believed after", since.elapsed());
}
