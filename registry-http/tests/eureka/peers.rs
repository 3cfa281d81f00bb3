use std::time::Duration;

use registry_core::Phase;
use registry_testkit::EurekaPeers;

use crate::world::{Consumer, Provider, TTL, instance, lists};

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn of_two_peers_one_may_be_killed_and_come_back_empty() {
    let peers = EurekaPeers::start().await.unwrap();
    let ids = ["a", "b", "c", "d"];
    let wires = ["orders:a", "orders:b", "orders:c", "orders:d"];
    let mut providers = Vec::new();
    for id in ids {
        providers.push(Provider::start(&peers.url(), instance(id)).await);
    }
    // Each has its own favourite; several, so that either is somebody's.
    let mut consumers = Vec::new();
    for _ in 0..4 {
        consumers.push(Consumer::start(&peers.url(), 4).await);
    }
    lists(peers.node(0), &wires).await;
    lists(peers.node(1), &wires).await;

    peers.node(0).kill().await.unwrap();
    tokio::time::sleep(3 * TTL).await;
    lists(peers.node(1), &wires).await;
    for provider in &providers {
        assert_eq!((provider.registration.phase(), provider.told()), (Phase::Live, vec![]));
    }
    let fifth = Provider::start(&peers.url(), instance("e")).await;
    for consumer in &consumers {
        consumer.sees("e", "a newcomer", |_| true).await;
    }
    fifth.registration.deregister().await;
    peers.node(0).restart().await.unwrap();
    lists(peers.node(0), &wires).await;
    // Whoever prefers it goes back to it.
    tokio::time::sleep(Duration::from_secs(12)).await;
    for provider in &providers {
        assert_eq!(provider.registration.phase(), Phase::Live);
    }
    lists(peers.node(0), &wires).await;
    lists(peers.node(1), &wires).await;
    for consumer in &consumers {
        assert!(consumer.fewest() >= 4, "{}", consumer.fewest());
    }
}
