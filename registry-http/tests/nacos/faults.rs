//! Servers that restart, die and freeze.

use std::time::Duration;

use registry_core::{ErrorKind, Phase};
use registry_testkit::{Nacos, NacosLine, eventually};
use tokio::time::Instant;

use super::support::{View, client, connect, instance};

/// A start of a server on a busy machine, and what clients need after it.
const PATIENCE: Duration = Duration::from_secs(40);
/// What a busy machine may be late by.
const SLACK: Duration = Duration::from_secs(1);
const IDS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

async fn restart(line: NacosLine) {
    let nacos = Nacos::start(line).await.unwrap();
    let namespace = "restart";
    let (provider, consumer) = (client(&nacos, namespace).await, client(&nacos, namespace).await);
    let mut registrations = Vec::new();
    for id in IDS {
        registrations.push(provider.register(instance(id)).await.unwrap());
    }
    let orders = consumer.discover("orders").await.unwrap();
    let full = async || (orders.snapshot().len() == IDS.len()).then_some(());
    eventually("all are seen", PATIENCE, full).await.unwrap();

    // Ephemeral instances are forgotten.
    nacos.kill().await.unwrap();
    // The server shows its list half made for a while: whoever isn't registered again yet is still shown.
    let shrunk = async {
        loop {
            let left = orders.snapshot().len();
            if left < IDS.len() {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let back = async {
        nacos.restart().await.unwrap();
        let seen_by_others = connect(&nacos, &format!("/{namespace}")).await;
        drop(seen_by_others);
        let live = async || registrations.iter().all(|one| one.phase() == Phase::Live).then_some(());
        eventually("all are registered again", PATIENCE, live).await.unwrap();
        let fresh = client(&nacos, namespace).await;
        let seen = fresh.discover("orders").await.unwrap();
        let full = async || (seen.snapshot().len() == IDS.len()).then_some(());
        eventually("a newcomer sees all", PATIENCE, full).await.unwrap();
    };
    tokio::select! {
        left = shrunk => panic!("the list shrank to {left}"),
        () = back => {}
    }
    eventually("who has watched sees all again", PATIENCE, full).await.unwrap();
    provider.close().await;
    consumer.close().await;
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn after_a_restart_all_are_registered_again_and_no_list_lost_most_of_them_on_3() {
    restart(NacosLine::V3).await;
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn after_a_restart_all_are_registered_again_and_no_list_lost_most_of_them_on_2() {
    restart(NacosLine::V2).await;
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn a_killed_server_fails_calls_and_ends_watches_and_a_new_one_says_that_all_is_lost() {
    let nacos = Nacos::start(NacosLine::V3).await.unwrap();
    let node = connect(&nacos, "?poll=1s").await;
    let lease = node.grant(Duration::from_secs(30)).await;
    node.publish(&lease, &instance("a")).await.unwrap();
    let mut view = View::of(node.watch());
    view.shows(&["a"], PATIENCE).await;

    nacos.kill().await.unwrap();
    let error = view.failure().await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let error = lease.renew(Instant::now() + Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(node.publish(&lease, &instance("b")).await.is_err());

    nacos.restart().await.unwrap();
    let renewed = eventually("an answer to a beat", PATIENCE, async || {
        lease.renew(Instant::now() + Duration::from_secs(2)).await.ok()
    });
    assert_eq!(renewed.await.unwrap().lost, [instance("a").key()]);
    node.publish(&lease, &instance("a")).await.unwrap();
    let renewal = lease.renew(Instant::now() + Duration::from_secs(2)).await.unwrap();
    assert_eq!(renewal.lost, []);
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn a_frozen_server_costs_no_more_than_the_deadline() {
    let nacos = Nacos::start(NacosLine::V2).await.unwrap();
    let node = connect(&nacos, "?poll=1s").await;
    let lease = node.grant(Duration::from_secs(60)).await;
    node.publish(&lease, &instance("a")).await.unwrap();
    let mut view = View::of(node.watch());
    view.shows(&["a"], PATIENCE).await;

    nacos.freeze().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    let error = lease.renew(deadline).await.unwrap_err();
    assert!(Instant::now() <= deadline + SLACK, "it came back in time");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    let error = view.failure().await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");

    nacos.thaw().unwrap();
    let renewed = eventually("an answer to a beat", PATIENCE, async || {
        lease.renew(Instant::now() + Duration::from_secs(2)).await.ok()
    });
    assert_eq!(renewed.await.unwrap().lost, [], "it has forgotten nothing");
    View::of(node.watch()).shows(&["a"], PATIENCE).await;
}
