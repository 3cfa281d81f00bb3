//! Row 9: three servers, whose leader dies.

use registry_testkit::{
    Consul,
    faults::{Figure, FleetFactory, History, Losses, Violation},
};

use crate::live::{
    Site,
    site::COUNT,
    world::{Must, Stage, ensure},
};

pub(super) async fn leader_killed(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let cluster = Consul::builder().start_cluster(3).await.must("three servers")?;
    let leader = cluster.wait_for_leader(|_| true).await.must("a leader")?;
    let ours = cluster.node((leader + 1) % 3).address();
    let stage = Stage::new(&site.url(&[ours], "cluster"), site.truth(ours, "cluster"));
    let world = stage.ttl(site.bounds().ttl).count(COUNT).open(fleets, history).await?;
    let epochs: Vec<_> = world.keys().iter().map(|key| world.writer.epoch(key)).collect();
    // Beats are the agent's own affair, so nobody is cut off.
    cluster.node(leader).kill().await.must("kill")?;
    history.mark("the leader is killed");
    cluster.wait_for_leader(|other| other != leader).await.must("another leader")?;
    history.usable("another leader");
    ensure(epochs.iter().all(|epoch| *epoch == Some(1)), "they have lived through something before")?;
    world.recovers(Losses::None).await
}
