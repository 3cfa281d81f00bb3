//! Two servers.

use registry_testkit::Eureka;

use crate::instance::{eventually_listed, listed, register};

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn peers_tell_each_other_unless_parted_and_a_restarted_one_asks() {
    let peers = Eureka::builder().peer_proxies(true).start_peers().await.unwrap();
    let [a, b] = [peers.node(0), peers.node(1)];
    register(a, "orders", "first", 600).await;
    eventually_listed(b, "orders", &["first"]).await;

    peers.part().await.unwrap();
    register(a, "payments", "second", 600).await;
    eventually_listed(a, "payments", &["second"]).await;
    assert!(listed(b, "payments").await.is_empty());
    peers.heal().await.unwrap();
    eventually_listed(b, "payments", &["second"]).await;

    b.kill().await.unwrap();
    b.restart().await.unwrap();
    eventually_listed(b, "orders", &["first"]).await;
}
