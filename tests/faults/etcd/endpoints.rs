//! Row 24: of several endpoints only one works.

use registry_testkit::{
    Etcd, Proxy,
    faults::{Figure, FleetFactory, History, Losses, Violation},
};
use tokio::time::Instant;

use super::{
    fake::{Fake, Manner},
    rows,
    truth::Truth,
    world::{LONG, Must, Stage, outage, url},
};

rows! {
    row_24_dead_endpoints_before_the_one_that_works_cost_one_attempt = dead_ones_first;
}

/// Each client shuffles its endpoints, so either dead one may be the first.
async fn dead_ones_first(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let refusing = Proxy::start(etcd.address()).await.must("proxy")?;
    refusing.cut().await;
    let silent = Fake::start(Manner::Silent).await.must("fake server")?;
    let start = Instant::now();
    let endpoints = [refusing.address(), silent.address(), etcd.address()];
    let world = Stage::new(&url(&endpoints), Truth::of(&etcd)).open(fleets, history).await?;
    // Registering and discovering, each with an attempt at the silent one at worst.
    let opened = start.elapsed();
    etcd.kill().await.must("kill")?;
    history.outage("the last one is killed");
    outage(Instant::now(), LONG).await;
    history.ending("ending");
    etcd.restart().await.must("restart")?;
    history.usable("one of three");
    let figure = world.recovers(Losses::OneEach).await?;
    Ok(Figure::new("100 registered and found in", opened).with(&figure))
}
