//! Row 25 with Consul's own limits: what it answers 429 itself.
//!
//! A limit on requests is one for the servers: reads of the catalogue get 429, and so does the agent when it tells them
//! what it has. What an agent is told has no limit, so that beats go on, and registering succeeds although nobody sees
//! it for now. A limit on connections is the agent's own, and closes the door to beats too.

use std::{net::SocketAddr, time::Duration};

use registry_testkit::{
    Consul, HttpApi, Proxy,
    faults::{
        Figure, FleetFactory, History, Invariant, Losses, Policy, Violation, r1_reconvergence, x2_cold_start,
    },
};
use service_registry::ErrorKind;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::live::{
    Site,
    counter::{Arrival, Counter},
    site::{COUNT, forgotten},
    world::{BACK_WITHIN, Must, SERVICE, Stage, call, ensure, instance, outage},
};

/// Reads, and writes, per second in all.
const RATE: f64 = 0.5;
/// How many connections one address may have: more than a story needs.
const CONNECTIONS: u32 = 60;

/// What the server said to the client's requests.
fn answered(arrivals: &[Arrival], status: u16) -> u64 {
    arrivals.iter().filter(|arrival| arrival.status == Some(status)).count() as u64
}

/// One read and one write in two seconds for everybody, which a neighbour uses up, for twice the time to live.
pub(super) async fn requests(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let consul = Consul::builder().data().start().await.must("consul")?;
    let door = Counter::start(consul.address()).await.must("door")?;
    let url = site.url(&[door.address()], "limited");
    let stage = Stage::new(&url, site.truth(consul.address(), "limited")).ttl(site.bounds().ttl);
    let world = stage.count(COUNT).open(fleets, history).await?;
    consul.limit_requests(Some((RATE, RATE))).await.must("limits")?;
    let neighbour = hungry(consul.api());
    // Not an outage for who beats.
    history.mark("requests are limited");
    let begun = Instant::now();
    // The burst that is granted is gone by then.
    outage(begun, Duration::from_secs(2)).await;
    // Whoever is new is told in time; what it registers meanwhile is there afterwards.
    let new = fleets.open("new", &format!("{url}&initial_timeout=3s"), history).await.must("opening")?;
    new.register(instance("meantime"), Policy::default()).await.must("registering")?;
    let found = call(history, "discover", new.discover("n", SERVICE)).await;
    let told = match &found {
        Ok(_) => Figure::default(),
        Err(_) => x2_cold_start(history, "discover", ErrorKind::NotReady, Duration::from_secs(3))?,
    };
    outage(begun, site.bounds().long()).await;
    let asked = door.arrivals(begun);
    drop(neighbour);
    consul.limit_requests(None).await.must("no limits")?;
    history.usable("no longer limited");
    let (refused, reads) = (answered(&asked, 429), reads(&asked));
    ensure(refused > 0, "the server has refused nothing")?;
    // Two readers; one that is refused leaves a second between its tries on average, and then more.
    let most = 2 * site.bounds().long().as_secs();
    if reads > most {
        return Err(Violation::new(
            Invariant::H1,
            format!("{reads} reads of a limited server; at most {most}"),
        ));
    }
    world.judged(BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
    world.sees("meantime").await?;
    drop(found);
    new.close().await;
    drop(new);
    let figure = world.recovers(Losses::None).await?;
    Ok(Figure::new("lists read while limited", reads).and("calls refused", refused).with(&told).with(&figure))
}

/// Somebody who reads all that is granted, until it is dropped.
fn hungry(api: HttpApi) -> JoinSet<()> {
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        loop {
            drop(api.get("/v1/catalog/services").await);
            sleep(Duration::from_millis(20)).await;
        }
    });
    reading
}

/// How often the list was asked for.
fn reads(arrivals: &[Arrival]) -> u64 {
    arrivals.iter().filter(|arrival| arrival.target.starts_with("/v1/health/service/")).count() as u64
}

/// Others hold all connections that one address may have, for twice the time to live.
pub(super) async fn connections(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let consul = Consul::builder().data().connections_per_client(CONNECTIONS).start().await.must("consul")?;
    let door = Counter::start(consul.address()).await.must("door")?;
    let proxy = Proxy::start(door.address()).await.must("proxy")?;
    let url = site.url(&[proxy.address()], "limited");
    let stage = Stage::new(&url, site.truth(consul.address(), "limited")).ttl(site.bounds().ttl);
    let world = stage.count(COUNT).open(fleets, history).await?;
    proxy.cut().await;
    history.outage("connections are limited");
    let held = all_connections(consul.address()).await.must("holding connections")?;
    let begun = Instant::now();
    proxy.restore().await;
    outage(begun, site.bounds().long()).await;
    let asked = door.arrivals(begun);
    forgotten(history, world.keys(), "silent for too long");
    history.ending("ending");
    drop(held);
    history.usable("there are connections again");
    let served = answered(&asked, 200);
    ensure(served == 0, format!("{served} calls were served all the same"))?;
    let figure = world.recovers(Losses::OneEach).await?;
    // As where the door says 429 itself, but for the pause that was asked for: each try is a beat of each.
    let most = (site.bounds().long().as_secs() + 2) * (COUNT as u64 + 2);
    let made = asked.len() as u64;
    if !(1..=most).contains(&made) {
        return Err(Violation::new(
            Invariant::H1,
            format!("{made} calls without a connection; at most {most}"),
        ));
    }
    Ok(Figure::new("calls without a connection", made).with(&figure))
}

/// Connects until the server refuses.
async fn all_connections(server: SocketAddr) -> std::io::Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    loop {
        let mut stream = TcpStream::connect(server).await?;
        // It says nothing to whom it takes.
        match timeout(Duration::from_millis(100), stream.read_u8()).await {
            Err(_) => held.push(stream),
            Ok(_) if held.len() as u32 + 10 > CONNECTIONS => return Ok(held),
            Ok(_) => {}
        }
    }
}
