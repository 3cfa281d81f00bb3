//! Row 29: what is published changes while the registry is away.

use std::time::Duration;

use registry_testkit::{
    Proxy,
    faults::{Figure, FleetFactory, History, Losses, Violation},
};
use tokio::time::Instant;

use super::{
    Place, Site,
    world::{Must, instance, outage},
};

pub(crate) async fn long(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    updated(site, fleets, history, site.bounds().long(), Losses::OneEach).await
}

pub(crate) async fn short(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    updated(site, fleets, history, site.bounds().short(), Losses::None).await
}

async fn updated(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
    length: Duration,
    expected: Losses,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let proxy = Proxy::start(place.address()).await.must("proxy")?;
    let world = place.stage_via(&[proxy.address()]).open(fleets, history).await?;
    let start = Instant::now();
    proxy.cut().await;
    history.outage("cut");
    for release in ["2", "3"] {
        for number in 0..place.site.count().min(10) {
            let old = instance(&format!("i{number:02}"));
            let new = old.to_builder().metadata("release", release).weight(50).build();
            world.writer.update(new.must("an instance")?).await.must("update")?;
        }
    }
    outage(start, length).await;
    if expected == Losses::OneEach {
        place.given_up(history, world.keys(), "silent for too long");
    }
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    // Content counts: to be back is to be back as it is wanted now, in the registry and in the view.
    world.recovers(expected).await
}
