//! Rows 8 and 24: of several endpoints only one works, or only one can be found.

use std::time::Duration;

use registry_testkit::{
    Proxy,
    faults::{Figure, FleetFactory, History, Losses, Violation},
};
use tokio::time::Instant;

use super::{
    Place, Site,
    front::{Front, Manner},
    site::forgotten,
    world::{Must, SERVICE, Stage, ensure, outage},
};
use crate::live::site::COUNT;

/// What a client takes at most to show a service, with dead endpoints before the one that works: half of a call's 2.5 s at
/// one that is silent, and what a busy machine takes for the rest.
const ONE_ATTEMPT: Duration = Duration::from_millis(2500);
/// Clients that come later. Each draws its own order of the endpoints: that none of so many begins at a certain one of
/// three happens once in 3,000 times.
const NEWCOMERS: usize = 20;

/// Opens clients one after the other; the longest that one took to show the service. A client that meets a dead endpoint
/// first is no exception.
async fn newcomers(fleets: &dyn FleetFactory, history: &History, url: &str) -> Result<Duration, Violation> {
    let mut worst = Duration::ZERO;
    for _ in 0..NEWCOMERS {
        let start = Instant::now();
        let fleet = fleets.open("newcomer's", url, history).await.must("opening a newcomer")?;
        fleet.discover("newcomer", SERVICE).await.must("discovering")?;
        worst = worst.max(start.elapsed());
        fleet.close().await;
    }
    ensure(worst <= ONE_ATTEMPT, format!("a newcomer took {worst:?} to show the service"))?;
    Ok(worst)
}

/// Each client shuffles its endpoints, so either dead one may be the first.
pub(crate) async fn dead_ones_first(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let refusing = Proxy::start(place.address()).await.must("proxy")?;
    refusing.cut().await;
    let silent = Front::start(Manner::Silent).await.must("fake server")?;
    let link = Proxy::start(place.address()).await.must("proxy")?;
    let start = Instant::now();
    let endpoints = [refusing.address(), silent.address(), link.address()];
    let stage = place.stage_via(&endpoints);
    let url = stage.reader.clone();
    let world = stage.open(fleets, history).await?;
    // Registering and discovering, each with an attempt at the silent one at worst.
    let opened = start.elapsed();
    let worst = newcomers(fleets, history, &url).await?;
    ensure(silent.met() > 0, "nobody began at the silent one")?;
    link.cut().await;
    history.outage("the last one is cut off");
    outage(Instant::now(), place.bounds.long()).await;
    forgotten(history, world.keys(), "silent for too long");
    history.ending("ending");
    link.restore().await;
    history.usable("one of three");
    let figure = world.recovers(Losses::OneEach).await?;
    Ok(Figure::new("all registered and found in", opened).and("a newcomer at worst in", worst).with(&figure))
}

/// Two names, one of which doesn't resolve.
pub(crate) async fn unknown_name(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let known = place.address().to_string();
    // RFC 2606, section 2: there is never such a name.
    let url =
        place.url().replacen(&known, &format!("registry.invalid:{},{known}", place.address().port()), 1);
    let start = Instant::now();
    let stage = Stage::new(&url, place.truth()).ttl(place.bounds.ttl).count(COUNT);
    let world = stage.open(fleets, history).await?;
    let opened = start.elapsed();
    let worst = newcomers(fleets, history, &url).await?;
    outage(Instant::now(), 2 * place.bounds.ttl).await;
    history.usable("all the time");
    let figure = world.recovers(Losses::None).await?;
    Ok(Figure::new("all registered and found in", opened.max(Duration::from_millis(1)))
        .and("a newcomer at worst in", worst)
        .with(&figure))
}
