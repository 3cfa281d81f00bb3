//! One agent that dies, freezes, forgets, or is asked for too much.

use std::time::Duration;

use registry_core::{ErrorKind, Phase, Status, backend::Presence};
use registry_testkit::{Consul, eventually};
use tokio::time::Instant;

use crate::support::{LONG, View, client, connect, instance, key, soon, target};

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn an_agent_that_forgot_everything_is_told_again() {
    let consul = Consul::start().await.unwrap();
    let client = client(&consul.url()).await;
    let registration = client.register(instance("orders", "a")).await.unwrap();
    let observer = connect(&format!("{}?wait=1s", consul.url())).await;
    observer.finds(&target("orders"), &["a"]).await;
    let before = observer.lookup(&target("orders")).await.unwrap().evidence.source;

    consul.kill().await.unwrap();
    consul.restart().await.unwrap();
    let back = Instant::now();
    observer.finds(&target("orders"), &["a"]).await;
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    eventually("the registration is live", LONG, async || {
        (registration.phase() == Phase::Live).then_some(())
    })
    .await
    .unwrap();
    let after = observer.lookup(&target("orders")).await.unwrap().evidence.source;
    assert_ne!(before, after, "a registry that lost its data is another one");
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_killed_agent_ends_the_watch_at_once_and_denies_nothing() {
    let consul = Consul::builder().data().start().await.unwrap();
    let node = connect(&consul.url()).await;
    let lease = node.grant(30).await;
    node.publish(&lease, "a").await.unwrap();
    let mut watch = View::new(node.watch(&target("orders")));
    watch.shows(&[("a", Status::Serving)]).await;

    let killed = Instant::now();
    consul.kill().await.unwrap();
    assert_eq!(watch.failure().await.kind(), ErrorKind::Unavailable);
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    assert_eq!(lease.renew(soon()).await.unwrap_err().kind(), ErrorKind::Unavailable);

    consul.restart().await.unwrap();
    let renewal = lease.renew(soon()).await.unwrap();
    assert!(renewal.lost.is_empty() && renewal.missed.is_empty(), "it kept its data: {renewal:?}");
    node.finds(&target("orders"), &["a"]).await;
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_frozen_agent_is_noticed_within_one_round() {
    let consul = Consul::start().await.unwrap();
    let node = connect(&format!("{}?wait=1s", consul.url())).await;
    let lease = node.grant(30).await;
    node.publish(&lease, "a").await.unwrap();
    let mut watch = View::new(node.watch(&target("orders")));
    watch.shows(&[("a", Status::Serving)]).await;

    consul.freeze().await.unwrap();
    let frozen = Instant::now();
    let error = lease.renew(soon()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert_eq!(watch.failure().await.kind(), ErrorKind::Timeout);
    assert!(frozen.elapsed() < node.backend.capabilities.proof_within, "{:?}", frozen.elapsed());
    consul.thaw().unwrap();
    lease.renew(soon()).await.unwrap();
    node.finds(&target("orders"), &["a"]).await;
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_forgotten_instance_is_lost_and_its_neighbour_is_not() {
    let consul = Consul::start().await.unwrap();
    let node = connect(&consul.url()).await;
    let lease = node.grant(30).await;
    node.publish(&lease, "a").await.unwrap();
    node.publish(&lease, "b").await.unwrap();
    consul.api().put("/v1/agent/service/deregister/orders:a", "").await.unwrap().success().unwrap();
    for _ in 0..2 {
        let renewal = lease.renew(soon()).await.unwrap();
        assert_eq!(renewal.lost, [key("a")], "told until it is published again");
    }
    node.publish(&lease, "a").await.unwrap();
    assert!(lease.renew(soon()).await.unwrap().lost.is_empty());
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn too_many_connections_are_throttling_not_loss() {
    let consul = Consul::builder().connections_per_client(3).start().await.unwrap();
    let node = connect(&format!("{}?wait=5s", consul.url())).await;
    let mut watches = Vec::new();
    let mut refused = None;
    for number in 0..5 {
        let mut watch = View::new(node.watch(&target(&format!("s{number}"))));
        // The second item is held back, so that it holds a connection.
        if let Err(error) = watch.next().await {
            refused = Some(error);
            break;
        }
        let held = tokio::spawn(async move { watch.failure().await });
        watches.push(held);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refused = refused.expect("one is too many");
    assert_eq!(refused.kind(), ErrorKind::RateLimited, "{refused:?}");
    for watch in watches {
        watch.abort();
    }
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_registration_that_only_the_agent_took_is_found_missing() {
    let consul = Consul::builder().requests_per_second(1000.0, 0.1).start().await.unwrap();
    let node = connect(&consul.url()).await;
    let lease = node.grant(30).await;
    // The burst is used up by what comes first.
    let mut missing = None;
    for number in 0..10 {
        let id = format!("i{number}");
        if node.publish(&lease, &id).await.is_err() {
            continue;
        }
        if lease.inspect(&[key(&id)]).await.unwrap() == [Presence::Missing] {
            missing = Some(id);
            break;
        }
    }
    assert!(missing.is_some(), "the catalogue took all");
}
