//! Three servers.

use std::time::Duration;

use registry_testkit::{ConsulCluster, eventually};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn another_leader_follows_the_killed_one_and_knows_what_it_knew() {
    let cluster = ConsulCluster::start(3).await.unwrap();
    let first = cluster.wait_for_leader(|_| true).await.unwrap();
    let written = cluster.node(first).api().put("/v1/kv/a", "1").await.unwrap();
    assert_eq!(written.status, 200, "{written:?}");
    cluster.node(first).kill().await.unwrap();
    let second = cluster.wait_for_leader(|index| index != first).await.unwrap();
    let api = cluster.node(second).api();
    eventually("a read", LONG, async || {
        api.get("/v1/kv/a?raw").await.ok().filter(|answer| answer.body == "1")
    })
    .await
    .unwrap();
    cluster.node(first).restart().await.unwrap();
    assert_eq!(cluster.node(first).api().get("/v1/kv/a?raw").await.unwrap().body, "1");
    let third = cluster.move_leader().await.unwrap();
    assert_ne!(third, second);
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_cluster_without_a_majority_has_no_leader_until_it_is_back() {
    let cluster = ConsulCluster::start(3).await.unwrap();
    for index in [0, 1] {
        cluster.node(index).kill().await.unwrap();
    }
    eventually("no leader", LONG, async || {
        let answer = cluster.node(2).api().get("/v1/status/leader").await.ok()?;
        (answer.json() == "").then_some(())
    })
    .await
    .unwrap();
    let write = cluster.node(2).api().put("/v1/kv/a", "1").await;
    assert!(!write.is_ok_and(|answer| answer.is_success()));
    cluster.start_all().await.unwrap();
    cluster.wait_for_leader(|_| true).await.unwrap();
}
