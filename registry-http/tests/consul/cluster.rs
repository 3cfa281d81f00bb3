//! Three servers, of which one goes.

use std::time::Duration;

use registry_core::{Instance, Phase, Status};
use registry_testkit::{ConsulCluster, eventually};
use tokio::net::TcpListener;

use crate::support::{LONG, View, client_with, connect, soon, target};

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
    moves("", LONG).await;
}

/// Nobody beats, and looks are 20 s apart; two are waited for.
#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn an_instance_that_consul_checks_moves_to_another_agent_when_its_own_is_gone() {
    moves("&check=tcp", Duration::from_secs(60)).await;
}

async fn moves(options: &str, within: Duration) {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cluster = ConsulCluster::start(3).await.unwrap();
    let client = client_with(&cluster.url(), options).await;
    let endpoint = format!("http://{}", app.local_addr().unwrap());
    let instance = Instance::builder("orders").id("a").endpoint(endpoint).build().unwrap();
    let registration = client.register(instance).await.unwrap();
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
    eventually("it stands at another agent", within, async || {
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
    assert_eq!(registration.state().epoch, 2, "it was lost once");
    // Its old agent still knows it when it returns: one instance all the same, and one registration in the end.
    cluster.node(home).restart().await.unwrap();
    observer.finds(&target("orders"), &["a"]).await;
    let tidied = eventually("it is taken from its old agent", Duration::from_secs(90), async || {
        let held = cluster.node(home).api().get("/v1/agent/services").await.ok()?.json();
        held.get("orders:a").is_none().then_some(())
    });
    tidied.await.unwrap();
    observer.finds(&target("orders"), &["a"]).await;
}
