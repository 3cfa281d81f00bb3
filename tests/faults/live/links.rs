//! Rows 4 to 6: the link to the registry is cut, half-open, slow or lossy.

use std::{num::NonZeroU64, time::Duration};

use registry_testkit::{
    Proxy,
    faults::{
        Figure, FleetFactory, History, Losses, Violation, d1_never_wiped, d6_staleness_shows, losses,
        r1_reconvergence,
    },
};
use tokio::time::{Instant, sleep};

use super::{
    Place, Site,
    site::forgotten,
    world::{BACK_WITHIN, Must, READER, SLACK, World, outage},
};

/// How long a degraded link is lived with, at least: two times to live and more.
const DEGRADED: Duration = Duration::from_secs(8);

async fn linked<'a>(
    place: &Place<'_>,
    fleets: &dyn FleetFactory,
    history: &'a History,
) -> Result<(Proxy, World<'a>), Violation> {
    let proxy = Proxy::start(place.address()).await.must("proxy")?;
    let world = place.stage_via(&[proxy.address()]).open(fleets, history).await?;
    Ok((proxy, world))
}

/// A fault that nothing passes, for `length`.
pub(crate) async fn severed(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
    (what, length): (&str, Duration),
    fault: impl AsyncFnOnce(&Proxy),
    expected: Losses,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let (proxy, world) = linked(&place, fleets, history).await?;
    let start = Instant::now();
    fault(&proxy).await;
    history.outage(what);
    outage(start, length).await;
    if expected == Losses::OneEach {
        place.given_up(history, world.keys(), "silent for too long");
    }
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    world.recovers(expected).await
}

pub(crate) async fn cut_for_long(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let length = site.bounds().long();
    severed(site, fleets, history, ("cut", length), Proxy::cut, Losses::OneEach).await
}

pub(crate) async fn cut_shortly(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let length = site.bounds().short();
    severed(site, fleets, history, ("cut", length), Proxy::cut, Losses::None).await
}

pub(crate) async fn half_open(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let hold = async |proxy: &Proxy| proxy.hold();
    let length = site.bounds().long();
    severed(site, fleets, history, ("half-open", length), hold, Losses::OneEach).await
}

pub(crate) async fn trickle(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let trickle = async |proxy: &Proxy| proxy.trickle(NonZeroU64::MIN);
    let length = site.bounds().long();
    severed(site, fleets, history, ("1 B/s", length), trickle, Losses::OneEach).await
}

/// 75 ± 50 ms each way, another delay every 50 ms.
pub(crate) async fn slow(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let (proxy, world) = linked(&place, fleets, history).await?;
    history.mark("75 ± 50 ms");
    let end = Instant::now() + DEGRADED.max(2 * place.bounds.ttl);
    while Instant::now() < end {
        proxy.delay(Duration::from_millis(fastrand::u64(25..=125)));
        sleep(Duration::from_millis(50)).await;
    }
    nothing_lost(&world)?;
    proxy.restore().await;
    history.usable("restored");
    world.recovers(Losses::None).await
}

/// Silence of 100 to 400 ms, about half of the time: what a lost packet or two in a row look like over TCP.
pub(crate) async fn lossy(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let (proxy, world) = linked(&place, fleets, history).await?;
    history.mark("stalls half of the time");
    let end = Instant::now() + DEGRADED.max(2 * place.bounds.ttl);
    while Instant::now() < end {
        let silence = Duration::from_millis(fastrand::u64(100..=400));
        proxy.hold();
        sleep(silence).await;
        proxy.restore().await;
        sleep(Duration::from_millis(fastrand::u64(100..=400))).await;
    }
    nothing_lost(&world)?;
    history.usable("restored");
    world.recovers(Losses::None).await
}

fn nothing_lost(world: &World<'_>) -> Result<(), Violation> {
    losses(world.history, &world.keys(), Losses::None)?;
    world.never_without().map(drop)
}

pub(crate) async fn half_open_watch(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let proxy = Proxy::start(place.address()).await.must("proxy")?;
    let stage = place.stage().reader(&place.url_via(&[proxy.address()]));
    let world = stage.open(fleets, history).await?;
    proxy.hold();
    // Only the reader is cut off, which no claim of a writer is to be measured by.
    history.outage("half-open watch");
    outage(Instant::now(), place.bounds.stale + 2 * SLACK).await;
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    let stale = d6_staleness_shows(history, READER, place.bounds.stale + SLACK)?;
    Ok(stale.with(&world.reader_recovers().await?))
}

/// The writer alone is cut off, until the registry has given up everything it had.
pub(crate) async fn half_open_renewal(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let proxy = Proxy::start(place.address()).await.must("proxy")?;
    let stage = place.stage_via(&[proxy.address()]).reader(&place.url());
    // As long as a reader waits who is told of changes; one that polls waits for two looks, which are short here.
    let world = stage.options("shrink_guard=30s").open(fleets, history).await?;
    proxy.hold();
    history.outage("half-open renewal");
    outage(Instant::now(), place.bounds.forgets).await;
    forgotten(history, world.keys(), "silent for too long");
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    // The reader has seen everything expire at once, which it must not believe.
    d1_never_wiped(history, READER)?;
    world.judged(BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
    world.recovers(Losses::OneEach).await
}
