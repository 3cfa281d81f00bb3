//! Three servers, of which one goes.

use registry_core::{Phase, Status};
use registry_testkit::{ConsulCluster, eventually};

use crate::support::{LONG, View, client, connect, instance, soon, target};

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_change_of_leaders_loses_nothing() {
    let cluster = ConsulCluster::start(3).await.unwrap();
    let leader = cluster.wait_for_leader(|_| true).await.unwrap();
    let follower = cluster.node((leader + 1) % 3);
    let node = connect(&format!("{}?wait=1s", follower.url())).await;
    let lease = node.grant(30).await;
    node.publish(&lease, "a").await.unwrap();
    let mut watch = View::new(node.watch(&target("orders")));
    watch.shows(&[("a", Status::Serving)]).await;

    cluster.node(leader).kill().await.unwrap();
    // A beat is the agent's own affair, so it needs no leader.
    assert!(lease.renew(soon()).await.unwrap().lost.is_empty());
    cluster.wait_for_leader(|index| index != leader).await.unwrap();
    node.publish(&lease, "b").await.unwrap();
    node.finds(&target("orders"), &["a", "b"]).await;
    // The session may have ended; none of its events took anything away.
    while watch.events.len() < 3 && watch.next().await.is_ok() {}
    assert!(watch.view.contains_key("a"), "{:?}", watch.view);
    let mut again = View::new(node.watch(&target("orders")));
    again.shows(&[("a", Status::Serving), ("b", Status::Serving)]).await;
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn an_instance_moves_to_another_agent_when_its_own_is_gone() {
    let cluster = ConsulCluster::start(3).await.unwrap();
    let client = client(&cluster.url()).await;
    let registration = client.register(instance("orders", "a")).await.unwrap();
    let mut home = None;
    for (index, node) in cluster.nodes().iter().enumerate() {
        let held = node.api().get("/v1/agent/services").await.unwrap().json();
        if held.get("orders:a").is_some() {
            home = Some(index);
        }
    }
    let home = home.expect("one agent has it");
    cluster.node(home).kill().await.unwrap();
    let other = cluster.node((home + 1) % 3);
    let third = cluster.node((home + 2) % 3);
    eventually("it stands at another agent", LONG, async || {
        for node in [other, third] {
            let held = node.api().get("/v1/agent/services").await.ok()?.json();
            if held.get("orders:a").is_some() {
                return Some(());
            }
        }
        None
    })
    .await
    .unwrap();
    let observer = connect(&other.url()).await;
    observer.finds(&target("orders"), &["a"]).await;
    let live = async || (registration.phase() == Phase::Live).then_some(());
    eventually("the registration is live", LONG, live).await.unwrap();
    // Its old agent still knows it when it returns, critical by then: one instance all the same.
    cluster.node(home).restart().await.unwrap();
    observer.finds(&target("orders"), &["a"]).await;
}
