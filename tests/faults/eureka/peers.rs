//! Rows 1 and 24: two peers, one of which dies and comes back.

use registry_testkit::{
    Eureka,
    faults::{Figure, FleetFactory, History, Losses, Violation},
};
use tokio::time::Instant;

use crate::live::{
    Site,
    site::COUNT,
    world::{Must, Stage, outage},
};

/// What one is told it tells the other, so that whoever fails over finds its leases there.
pub(super) async fn one_killed(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let peers = Eureka::builder().start_peers().await.must("two peers")?;
    let both = [peers.node(0).address(), peers.node(1).address()];
    let stage = Stage::new(&site.url(&both, "peers"), site.truth(both[1], "peers"));
    let world = stage.ttl(site.bounds().ttl).count(COUNT).open(fleets, history).await?;
    peers.node(0).kill().await.must("kill")?;
    history.mark("one of two is killed");
    outage(Instant::now(), site.bounds().long()).await;
    peers.node(0).restart().await.must("restart")?;
    history.usable("both are there");
    world.recovers(Losses::None).await
}
