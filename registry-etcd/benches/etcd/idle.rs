//! I1 and I2: a client that watches 100 services in which nothing happens.

use std::time::Duration;

use futures_util::future::try_join_all;
use registry_bench_support::Bound;
use registry_core::Instance;
use tokio::time::sleep;

use crate::{
    renew::{Calls, cpu_time},
    stage::Stage,
};

const SERVICES: usize = 100;
const WINDOW: Duration = Duration::from_secs(60);
/// From the last first view until the window begins.
const SETTLE: Duration = Duration::from_secs(5);

pub(crate) async fn measure() -> Vec<Bound> {
    let stage = Stage::start("I1, 100 idle watches").await;
    for service in 0..SERVICES {
        stage.put(&instance(service)).await;
    }
    let client = stage.client().await;
    let upstreams = try_join_all((0..SERVICES).map(|service| client.discover(name(service)))).await.unwrap();
    try_join_all(upstreams.iter().map(|upstream| upstream.ready(1))).await.unwrap();
    sleep(SETTLE).await;
    let (before, cpu) = (Calls::of(&stage).await, cpu_time());
    sleep(WINDOW).await;
    let (after, cpu) = (Calls::of(&stage).await, cpu_time() - cpu);
    assert!(upstreams.iter().all(|upstream| upstream.snapshot().len() == 1), "all views are kept");
    let calls = after.renewals + after.others - before.renewals - before.others;
    println!("{calls} calls and {cpu:.1?} of CPU in {WINDOW:?}");
    client.close().await;
    let what = format!("etcd, {SERVICES} idle watches");
    vec![
        // Each asks for progress every 10 s, and one in twenty more.
        Bound::at_most("I1", what.clone(), calls as f64, 630.0, "requests per minute"),
        // A hundredth of one core.
        Bound::at_most("I2", what, cpu.as_secs_f64() * 1e3, 600.0, "ms of CPU per minute").report(),
    ]
}

fn name(service: usize) -> String {
    format!("idle-{service:03}")
}

fn instance(service: usize) -> Instance {
    let endpoint = format!("http://10.0.0.{}:80", service + 1);
    Instance::builder(name(service)).id("one").endpoint(endpoint).build().unwrap()
}
