//! Three members.

use std::time::Duration;

use registry_testkit::{Etcd, EtcdCluster, eventually};

const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn another_leader_follows_the_killed_one() {
    let cluster = EtcdCluster::start(3).await.unwrap();
    let first = cluster.wait_for_leader(|_| true).await.unwrap();
    cluster.ctl().put("a", "1").await.unwrap();
    cluster.node(first).kill().await.unwrap();
    let second = cluster.wait_for_leader(|index| index != first).await.unwrap();
    let ctl = cluster.node(second).ctl();
    eventually("a put", LONG, async || ctl.put("a", "2").await.ok()).await.unwrap();

    cluster.node(first).restart().await.unwrap();
    assert_eq!(cluster.node(first).ctl().get_prefix("a").await.unwrap()[0].value, b"2");
    let third = cluster.wait_for_leader(|_| true).await.unwrap();
    let next = (third + 1) % 3;
    cluster.move_leader(next).await.unwrap();
    cluster.wait_for_leader(|index| index == next).await.unwrap();
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn an_isolated_leader_loses_the_majority_which_works_on() {
    let cluster = Etcd::builder().peer_proxies(true).start_cluster(3).await.unwrap();
    let alone = cluster.wait_for_leader(|_| true).await.unwrap();
    for _ in 0..2 {
        let revision = cluster.node(alone).ctl().revision().await.unwrap();
        cluster.isolate(alone).await.unwrap();
        let leader = cluster.wait_for_leader(|index| index != alone).await.unwrap();
        let ctl = cluster.node(leader).ctl();
        eventually("a put", LONG, async || ctl.put("a", "2").await.ok()).await.unwrap();
        cluster.node(alone).ctl().put("a", "3").await.unwrap_err();
        // The follower that is not cut off follows.
        let other = 3 - alone - leader;
        assert_eq!(cluster.node(other).ctl().get_prefix("a").await.unwrap()[0].value, b"2");
        assert_eq!(cluster.node(alone).ctl().status().await.unwrap().revision, revision);
        // A restart does not break out.
        if alone == 0 {
            cluster.node(alone).kill().await.unwrap();
            cluster.node(alone).launch().await.unwrap();
        }

        cluster.heal().unwrap();
        cluster.node(alone).ready().await.unwrap();
        let back = cluster.node(alone).ctl();
        eventually("the put", LONG, async || {
            back.get_prefix("a").await.ok().filter(|keys| keys[0].value == b"2")
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn an_isolated_follower_stops_alone() {
    let cluster = Etcd::builder().peer_proxies(true).start_cluster(3).await.unwrap();
    let leader = cluster.wait_for_leader(|_| true).await.unwrap();
    let alone = (leader + 1) % 3;
    cluster.isolate(alone).await.unwrap();
    cluster.node(leader).ctl().put("a", "1").await.unwrap();
    cluster.node(alone).ctl().put("a", "2").await.unwrap_err();
    // A start without a quorum is not ready, but runs.
    cluster.node(alone).kill().await.unwrap();
    cluster.node(alone).launch().await.unwrap();
    cluster.node(alone).ctl().put("a", "2").await.unwrap_err();
    assert!(cluster.node(alone).is_running());
    cluster.heal().unwrap();
    cluster.node(alone).ready().await.unwrap();
    assert_eq!(cluster.node(alone).ctl().get_prefix("a").await.unwrap()[0].value, b"1");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_wiped_cluster_comes_back_as_another_with_auth() {
    let cluster = Etcd::builder().auth(Duration::from_secs(60)).start_cluster(3).await.unwrap();
    let before = cluster.ctl().status().await.unwrap();
    cluster.ctl().put("a", "1").await.unwrap();
    assert!(cluster.node(0).wipe().await.is_err(), "a member alone can't");
    cluster.kill_all().await.unwrap();
    cluster.start_all().await.unwrap();
    assert_eq!(cluster.ctl().keys("").await.unwrap(), ["a"]);

    cluster.kill_all().await.unwrap();
    cluster.wipe().await.unwrap();
    cluster.start_all().await.unwrap();
    assert_ne!(cluster.ctl().status().await.unwrap().cluster, before.cluster);
    assert!(cluster.ctl().keys("").await.unwrap().is_empty());
    cluster.ctl().without_user().put("a", "1").await.unwrap_err();
}
