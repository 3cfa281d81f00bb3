//! One of three members fails.

use std::net::SocketAddr;

use futures_util::future::join_all;
use registry_testkit::{Etcd, EtcdCluster, Proxy};
use tokio::time::Instant;

use crate::{
    recorder::Losses,
    world::{TTL, World, outage, url},
};

fn direct(cluster: &EtcdCluster) -> String {
    let addresses: Vec<SocketAddr> = cluster.nodes().iter().map(Etcd::address).collect();
    url(None, &addresses)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_killed_leader_of_three_costs_no_loss() {
    let cluster = EtcdCluster::start(3).await.unwrap();
    let url = direct(&cluster);
    let world = World::start(&url, &url, cluster.ctl()).await;
    let leader = cluster.wait_for_leader(|_| true).await.unwrap();
    cluster.node(leader).kill().await.unwrap();
    cluster.wait_for_leader(|index| index != leader).await.unwrap();
    world.assert_recovers("leader of three killed", Instant::now(), Losses::None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn an_isolated_member_that_holds_our_connection_costs_no_loss() {
    let cluster = Etcd::builder().peer_proxies(true).start_cluster(3).await.unwrap();
    let proxies = join_all(cluster.nodes().iter().map(|node| Proxy::start(node.address()))).await;
    let proxies: Vec<Proxy> = proxies.into_iter().map(Result::unwrap).collect();
    let addresses: Vec<SocketAddr> = proxies.iter().map(Proxy::address).collect();
    // Only the writer goes through the proxies, so they tell which member holds its connection.
    let world = World::start(&url(None, &addresses), &direct(&cluster), cluster.ctl()).await;
    let ours = proxies.iter().position(|proxy| proxy.connections() > 0).expect("the writer is connected");
    cluster.isolate(ours).await.unwrap();
    let start = Instant::now();
    cluster.wait_for_leader(|index| index != ours).await.unwrap();
    // Long enough for a lease that only the isolated member is asked to renew to end.
    outage(start, TTL * 2).await;
    cluster.heal().unwrap();
    world.assert_recovers("our member isolated", Instant::now(), Losses::None).await;
}
