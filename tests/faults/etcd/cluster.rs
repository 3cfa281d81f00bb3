//! Rows 4 and 9: members of three fail, and the leader is lost, moved, cut off or missing.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::{join_all, try_join_all};
use registry_core::{ConnectContext, Connector, backend::Change};
use registry_testkit::{
    Etcd, EtcdCluster, Proxy,
    faults::{
        Figure, FleetFactory, History, Invariant, Losses, Observation, Policy, Violation, d5_watch_contract,
        r1_reconvergence,
    },
};
use service_registry::{Namespace, Target, etcd::EtcdConnector};
use tokio::time::Instant;

use super::{
    rows,
    truth::Truth,
    world::{BACK_WITHIN, LONG, Must, SERVICE, Stage, TTL, World, ensure, instance, key, outage, url},
};

rows! {
    row_04_a_link_cut_to_the_leader_only_costs_no_loss = cut_from_the_leader;
    row_04_an_isolated_member_that_holds_our_connection_costs_no_loss = isolated;
    row_09_a_killed_leader_of_three_costs_no_loss = leader_killed;
    row_09_a_leader_that_hands_over_again_and_again_costs_no_loss = leader_moved;
    row_09_no_leader_for_a_moment_costs_no_loss = no_leader_for_a_moment;
    row_09_no_leader_for_twice_the_ttl_costs_each_registration_one_loss = no_leader_for_twice;
}

const WATCHER: &str = "watch";

fn addresses(cluster: &EtcdCluster) -> Vec<SocketAddr> {
    cluster.nodes().iter().map(Etcd::address).collect()
}

/// A world, and a watch of the backend itself over links of its own, for the contract of watches.
struct Watched<'a> {
    world: World<'a>,
    links: Vec<Proxy>,
}

async fn watched<'a>(
    cluster: &EtcdCluster,
    fleets: &dyn FleetFactory,
    history: &'a History,
) -> Result<Watched<'a>, Violation> {
    let links = proxies(cluster).await?;
    let stage = Stage::new(&url(&addresses(cluster)), Truth::of_cluster(cluster));
    let mut world = stage.open(fleets, history).await?;
    let behind: Vec<SocketAddr> = links.iter().map(Proxy::address).collect();
    let url = url(&behind).replace("?ttl=3s", "").parse().must("a URL")?;
    let namespace = Namespace::new("stories").must("a namespace")?;
    let backend = EtcdConnector::new().connect(&url, &ConnectContext::new(namespace, TTL)).await;
    let discovery = backend.must("a backend")?.discovery.expect("etcd can discover");
    world.recorders.watch(WATCHER, discovery, Target::try_from(SERVICE).must("a target")?);
    let seen = world.judged(BACK_WITHIN, |h| d5_watch_contract(h, WATCHER));
    seen.await?;
    Ok(Watched { world, links })
}

/// Records that come and go, for the watch to miss or to tell twice.
async fn churn(world: &World<'_>, round: u32) -> Result<(), Violation> {
    let id = |step: u32| format!("churn{round}-{step}");
    for step in 0..4 {
        world.writer.register(instance(&id(step)), Policy::default()).await.must("registering")?;
    }
    world.writer.deregister(&key(&id(0))).await;
    world.writer.deregister(&key(&id(1))).await;
    Ok(())
}

/// What [`World::recovers`] judges, and the watch, which has to resume once more.
async fn recovers(world: World<'_>, links: &[Proxy], expected: Losses) -> Result<Figure, Violation> {
    for link in links {
        link.reset().await;
    }
    world.judged(BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
    // No withdrawals here: right after a mass expiry they count as part of it and are held.
    for step in 0..4 {
        world
            .writer
            .register(instance(&format!("after{step}")), Policy::default())
            .await
            .must("registering")?;
    }
    let resumed = world.judged(BACK_WITHIN, |h| {
        let resumed = h.entries().iter().any(|entry| match &entry.what {
            Observation::Watched { session: 2.., changes, .. } => {
                matches!(changes[..], [Change::Resumed, ..])
            }
            _ => false,
        });
        let not = Violation::new(Invariant::D5, "the watch was never resumed");
        if resumed { Ok(Figure::default()) } else { Err(not) }
    });
    resumed.await?;
    let watched = world.judged(BACK_WITHIN, |h| d5_watch_contract(h, WATCHER)).await?;
    Ok(world.recovers(expected).await?.with(&watched))
}

async fn leader_killed(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let cluster = EtcdCluster::start(3).await.must("three members")?;
    let Watched { world, links } = watched(&cluster, fleets, history).await?;
    let leader = cluster.wait_for_leader(|_| true).await.must("a leader")?;
    churn(&world, 0).await?;
    cluster.node(leader).kill().await.must("kill")?;
    history.mark("the leader is killed");
    cluster.wait_for_leader(|index| index != leader).await.must("another leader")?;
    history.usable("another leads");
    recovers(world, &links, Losses::None).await
}

async fn leader_moved(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let cluster = EtcdCluster::start(3).await.must("three members")?;
    let Watched { world, links } = watched(&cluster, fleets, history).await?;
    let mut leader = cluster.wait_for_leader(|_| true).await.must("a leader")?;
    for round in 0..4 {
        leader = (leader + 1) % 3;
        cluster.move_leader(leader).await.must("a move")?;
        cluster.wait_for_leader(|index| index == leader).await.must("the new leader")?;
        history.mark("the leader has moved");
        churn(&world, u32::try_from(leader).unwrap_or(0) + 10 * round).await?;
    }
    history.usable("it stays");
    recovers(world, &links, Losses::None).await
}

async fn no_leader_for_a_moment(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    no_leader(fleets, history, Duration::from_millis(500), Losses::None).await
}

async fn no_leader_for_twice(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    no_leader(fleets, history, LONG, Losses::OneEach).await
}

/// Two of three members stop, the leader among them.
async fn no_leader(
    fleets: &dyn FleetFactory,
    history: &History,
    length: Duration,
    expected: Losses,
) -> Result<Figure, Violation> {
    let cluster = EtcdCluster::start(3).await.must("three members")?;
    let Watched { world, links } = watched(&cluster, fleets, history).await?;
    let leader = cluster.wait_for_leader(|_| true).await.must("a leader")?;
    churn(&world, 0).await?;
    let start = Instant::now();
    let stopped = [leader, (leader + 1) % 3];
    try_join_all(stopped.map(|index| cluster.node(index).freeze())).await.must("freeze")?;
    history.outage("no leader");
    outage(start, length).await;
    history.ending("thawing");
    for index in stopped {
        cluster.node(index).thaw().must("thaw")?;
    }
    let thawed = start.elapsed();
    cluster.wait_for_leader(|_| true).await.must("a leader again")?;
    history.usable("a leader again");
    if expected == Losses::None {
        ensure(thawed < TTL / 2, format!("this machine took {thawed:?}: too long for this story"))?;
    }
    recovers(world, &links, expected).await
}

async fn isolated(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let cluster = Etcd::builder().peer_proxies(true).start_cluster(3).await.must("three members")?;
    let proxies = proxies(&cluster).await?;
    // Only the writer goes through the proxies, so they tell which member holds its connection.
    let behind: Vec<SocketAddr> = proxies.iter().map(Proxy::address).collect();
    let stage = Stage::new(&url(&behind), Truth::of_cluster(&cluster)).reader(&url(&addresses(&cluster)));
    let world = stage.with_peer_proxies().open(fleets, history).await?;
    let ours = proxies.iter().position(|proxy| proxy.connections() > 0);
    let ours = ours.ok_or_else(|| Violation::run("the writer is not connected"))?;
    let start = Instant::now();
    cluster.isolate(ours).await.must("isolate")?;
    history.mark("our member is isolated");
    cluster.wait_for_leader(|index| index != ours).await.must("a leader among the others")?;
    // Long enough for a lease that only the isolated member is asked to renew to end.
    outage(start, TTL * 2).await;
    cluster.heal().must("heal")?;
    history.usable("healed");
    world.recovers(Losses::None).await
}

async fn cut_from_the_leader(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let cluster = EtcdCluster::start(3).await.must("three members")?;
    let proxies = proxies(&cluster).await?;
    let behind: Vec<SocketAddr> = proxies.iter().map(Proxy::address).collect();
    let world = Stage::new(&url(&behind), Truth::of_cluster(&cluster)).open(fleets, history).await?;
    // The member that holds the connection leads, so that the cut is felt.
    let ours = proxies.iter().position(|proxy| proxy.connections() > 0);
    let ours = ours.ok_or_else(|| Violation::run("nobody is connected"))?;
    cluster.move_leader(ours).await.must("a move")?;
    let start = Instant::now();
    proxies[ours].cut().await;
    history.mark("cut off from the leader");
    outage(start, LONG).await;
    proxies[ours].restore().await;
    history.usable("restored");
    world.recovers(Losses::None).await
}

async fn proxies(cluster: &EtcdCluster) -> Result<Vec<Proxy>, Violation> {
    let proxies = join_all(cluster.nodes().iter().map(|node| Proxy::start(node.address()))).await;
    proxies.into_iter().map(|proxy| proxy.must("proxy")).collect()
}
