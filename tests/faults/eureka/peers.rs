//! Rows 1 and 24: two peers, one of which dies and comes back.

use std::time::Duration;

use registry_testkit::{
    Eureka, eventually,
    faults::{Figure, FleetFactory, History, Losses, Violation},
};
use service_registry::eureka::EurekaConnector;
use tokio::time::Instant;

use crate::live::{
    Site,
    counter::Counter,
    site::COUNT,
    truth::Ask,
    world::{Must, Stage, ensure, outage},
};

/// What one is told it tells the other, so that whoever fails over finds its leases there. The one dies that the beats
/// go to.
pub(super) async fn one_killed(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let peers = Eureka::builder().start_peers().await.must("two peers")?;
    let both = [peers.node(0).address(), peers.node(1).address()];
    let doors =
        [Counter::start(both[0]).await.must("a door")?, Counter::start(both[1]).await.must("a door")?];
    let url = site.url(&[doors[0].address(), doors[1].address()], "peers");
    let truth = format!("eureka://{},{}/peers", both[0], both[1]);
    let stage = Stage::new(&url, Ask::by(EurekaConnector::new(), &truth, "peers"));
    let stage = stage.ttl(site.bounds().ttl).count(COUNT).with_peer_proxies();
    let world = stage.open(fleets, history).await?;
    let opened = Instant::now();
    let beats = |door: usize, since: Instant| {
        let arrivals = doors[door].arrivals(since).into_iter();
        arrivals.filter(|arrival| arrival.target.contains("lastDirtyTimestamp")).count()
    };
    let beaten =
        eventually("beats", Duration::from_secs(10), async || (0..2).find(|door| beats(*door, opened) > 0));
    let preferred = beaten.await.must("the server that the beats go to")?;
    peers.node(preferred).kill().await.must("kill")?;
    let killed = Instant::now();
    history.mark("one of two is killed: the one that is preferred");
    outage(killed, site.bounds().long()).await;
    let moved = beats(1 - preferred, killed);
    ensure(moved >= COUNT, format!("{moved} beats went to the other one"))?;
    peers.node(preferred).restart().await.must("restart")?;
    history.usable("both are there");
    let figure = world.recovers(Losses::None).await?;
    Ok(Figure::new("beats that the other one got", moved).with(&figure))
}
