//! Row 29: what is published changes while the registry is away.

use registry_testkit::{
    Etcd, Proxy,
    faults::{Figure, FleetFactory, History, Losses, Violation},
};
use tokio::time::Instant;

use super::{
    rows,
    truth::Truth,
    world::{LONG, Must, SHORT, Stage, instance, outage, url},
};

rows! {
    row_29_updates_during_a_long_outage_are_what_comes_back = long;
    row_29_updates_during_a_short_outage_are_published_after_it = short;
}

async fn long(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    updated(fleets, history, LONG, Losses::OneEach).await
}

async fn short(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    updated(fleets, history, SHORT, Losses::None).await
}

async fn updated(
    fleets: &dyn FleetFactory,
    history: &History,
    length: std::time::Duration,
    expected: Losses,
) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let proxy = Proxy::start(etcd.address()).await.must("proxy")?;
    let stage = Stage::new(&url(&[proxy.address()]), Truth::of(&etcd));
    let world = stage.open(fleets, history).await?;
    let start = Instant::now();
    proxy.cut().await;
    history.outage("cut");
    for release in ["2", "3"] {
        for number in 0..10 {
            let old = instance(&format!("i{number:02}"));
            let new = old.to_builder().metadata("release", release).weight(50).build();
            world.writer.update(new.must("an instance")?).await.must("update")?;
        }
    }
    outage(start, length).await;
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    // Content counts: to be back is to be back as it is wanted now, in etcd and in the view.
    world.recovers(expected).await
}
