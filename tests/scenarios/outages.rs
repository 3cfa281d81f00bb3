//! One node, or the link to it, fails.

use std::time::Duration;

use registry_testkit::{Etcd, Proxy};
use tokio::time::Instant;

use crate::{
    recorder::Losses,
    world::{TTL, World, outage, url},
};

/// Longer than the time to live, so that every safe deadline passes.
const LONG: Duration = Duration::from_secs(6);
/// Shorter than half of it.
const SHORT: Duration = Duration::from_millis(1200);

async fn world(etcd: &Etcd) -> World {
    let url = url(None, &[etcd.address()]);
    World::start(&url, &url, etcd.ctl()).await
}

async fn world_behind(proxy: &Proxy, etcd: &Etcd) -> World {
    let url = url(None, &[proxy.address()]);
    World::start(&url, &url, etcd.ctl()).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_killed_etcd_that_comes_back_with_its_data_costs_no_loss() {
    let etcd = Etcd::start().await.unwrap();
    let world = world(&etcd).await;
    let start = Instant::now();
    etcd.kill().await.unwrap();
    etcd.restart().await.unwrap();
    let down = start.elapsed();
    assert!(down < TTL / 2, "this machine took {down:?} for a restart: too long for this story");
    world.assert_recovers("kill -9, same data", Instant::now(), Losses::None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_wiped_etcd_is_filled_again() {
    let etcd = Etcd::start().await.unwrap();
    let world = world(&etcd).await;
    etcd.kill().await.unwrap();
    etcd.wipe().await.unwrap();
    etcd.restart().await.unwrap();
    world.assert_recovers("kill -9, wiped", Instant::now(), Losses::OneEach).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn an_etcd_frozen_longer_than_the_ttl_costs_each_registration_one_loss() {
    let etcd = Etcd::start().await.unwrap();
    let world = world(&etcd).await;
    etcd.freeze().await.unwrap();
    outage(Instant::now(), LONG).await;
    etcd.thaw().unwrap();
    world.assert_recovers("frozen > TTL", Instant::now(), Losses::OneEach).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn an_etcd_frozen_shorter_than_half_the_ttl_costs_no_loss() {
    let etcd = Etcd::start().await.unwrap();
    let world = world(&etcd).await;
    let start = Instant::now();
    etcd.freeze().await.unwrap();
    outage(start, SHORT).await;
    etcd.thaw().unwrap();
    world.assert_recovers("frozen < TTL/2", Instant::now(), Losses::None).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_link_cut_longer_than_the_ttl_costs_each_registration_one_loss() {
    let etcd = Etcd::start().await.unwrap();
    let proxy = Proxy::start(etcd.address()).await.unwrap();
    let world = world_behind(&proxy, &etcd).await;
    proxy.cut().await;
    outage(Instant::now(), LONG).await;
    proxy.restore().await;
    world.assert_recovers("link cut > TTL", Instant::now(), Losses::OneEach).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_half_open_link_longer_than_the_ttl_costs_each_registration_one_loss() {
    let etcd = Etcd::start().await.unwrap();
    let proxy = Proxy::start(etcd.address()).await.unwrap();
    let world = world_behind(&proxy, &etcd).await;
    proxy.hold();
    outage(Instant::now(), LONG).await;
    proxy.restore().await;
    world.assert_recovers("link half-open > TTL", Instant::now(), Losses::OneEach).await;
}
