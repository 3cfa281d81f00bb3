//! Rows 1 to 3: the server dies, forgets or freezes.

use std::time::Duration;

use registry_testkit::faults::{Figure, FleetFactory, History, Losses, Violation};
use tokio::time::Instant;

use super::{
    Place, Site,
    site::forgotten,
    world::{Must, ensure, outage},
};

/// Killed and started again at once.
pub(crate) async fn killed(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::own(site).await?;
    let world = place.stage().open(fleets, history).await?;
    let start = Instant::now();
    place.server.kill().await.must("kill")?;
    history.outage("killed");
    if !place.bounds.keeps {
        forgotten(history, world.keys(), "held in memory only");
    }
    history.ending("ending");
    place.server.restart().await.must("restart")?;
    history.usable("restarted");
    let down = start.elapsed();
    if place.bounds.keeps {
        let half = place.bounds.ttl / 2;
        ensure(down < half, format!("this machine took {down:?} for a restart: too long for this story"))?;
        return world.recovers(Losses::None).await;
    }
    world.recovers(Losses::OneEach).await
}

/// Down for twice the time to live.
pub(crate) async fn down(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::own(site).await?;
    let world = place.stage().open(fleets, history).await?;
    place.server.kill().await.must("kill")?;
    history.outage("killed");
    place.given_up(history, world.keys(), "no longer alive");
    outage(Instant::now(), place.bounds.long()).await;
    history.ending("ending");
    place.server.restart().await.must("restart")?;
    history.usable("restarted");
    world.recovers(Losses::OneEach).await
}

/// Killed, and its data is gone.
pub(crate) async fn wiped(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::own(site).await?;
    let world = place.stage().open(fleets, history).await?;
    place.server.kill().await.must("kill")?;
    history.outage("killed");
    place.server.wipe().await.must("wipe")?;
    forgotten(history, world.keys(), "wiped");
    history.ending("ending");
    place.server.restart().await.must("restart")?;
    history.usable("restarted without its data");
    world.recovers(Losses::OneEach).await
}

/// Frozen for a second, and once more, just shorter than half of the time to live.
pub(crate) async fn frozen_shortly(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::own(site).await?;
    let world = place.stage().open(fleets, history).await?;
    for length in [Duration::from_secs(1), place.bounds.short()] {
        let start = Instant::now();
        place.server.freeze().await.must("freeze")?;
        history.outage("frozen");
        outage(start, length).await;
        history.ending("ending");
        place.server.thaw().must("thaw")?;
        history.usable("thawed");
        // Renewed by all before the next one.
        outage(Instant::now(), place.bounds.ttl).await;
    }
    history.usable("thawed for good");
    world.recovers(Losses::None).await
}

/// Frozen for twice the time to live.
pub(crate) async fn frozen_for_twice(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::own(site).await?;
    let world = place.stage().open(fleets, history).await?;
    let start = Instant::now();
    place.server.freeze().await.must("freeze")?;
    history.outage("frozen");
    outage(start, place.bounds.long()).await;
    history.ending("ending");
    place.server.thaw().must("thaw")?;
    // What has no beat is given up when the server comes to.
    place.given_up(history, world.keys(), "silent for too long");
    history.usable("thawed");
    world.recovers(Losses::OneEach).await
}
