//! Rows 4 to 6: the link to the registry is cut, half-open, slow or lossy.

use std::{num::NonZeroU64, time::Duration};

use registry_testkit::{
    Etcd, Proxy,
    faults::{
        Figure, FleetFactory, History, Losses, Violation, d1_never_wiped, d6_staleness_shows, losses,
        r1_reconvergence,
    },
};
use service_registry::InstanceKey;
use tokio::time::{Instant, sleep};

use super::{
    rows,
    truth::Truth,
    world::{BACK_WITHIN, LONG, Must, READER, SHORT, SLACK, Stage, World, outage, url},
};

rows! {
    row_04_a_link_cut_longer_than_the_ttl_costs_each_registration_one_loss = cut_for_long;
    row_04_a_link_cut_shorter_than_half_the_ttl_costs_no_loss = cut_shortly;
    row_04_answers_that_no_longer_arrive_cost_each_registration_one_loss = deaf;
    row_04_requests_that_no_longer_arrive_cost_each_registration_one_loss = mute;
    row_05_a_slow_and_uneven_link_costs_no_loss = slow;
    row_05_a_link_that_stalls_half_of_the_time_costs_no_loss = lossy;
    row_05_a_link_of_one_byte_per_second_costs_each_registration_one_loss = trickle;
    row_06_a_half_open_link_costs_each_registration_one_loss = half_open;
    row_06_a_half_open_watch_shows_that_it_is_stale_and_loses_nobody = half_open_watch;
    row_06_a_half_open_renewal_costs_one_loss_each_and_no_view = half_open_renewal;
}

/// How long a degraded link is lived with: two times to live and more.
const DEGRADED: Duration = Duration::from_secs(8);
/// What is promised of a watch whose stream is silent.
const STALE_WITHIN: Duration = Duration::from_secs(15);

/// The server, the link to it, and the world behind that.
struct Linked<'a> {
    _etcd: Etcd,
    proxy: Proxy,
    world: World<'a>,
}

async fn linked<'a>(fleets: &dyn FleetFactory, history: &'a History) -> Result<Linked<'a>, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let proxy = Proxy::start(etcd.address()).await.must("proxy")?;
    let stage = Stage::new(&url(&[proxy.address()]), Truth::of(&etcd));
    let world = stage.open(fleets, history).await?;
    Ok(Linked { _etcd: etcd, proxy, world })
}

/// A fault that nothing passes, for `length`.
async fn severed(
    fleets: &dyn FleetFactory,
    history: &History,
    (what, length): (&str, Duration),
    fault: impl AsyncFnOnce(&Proxy),
    expected: Losses,
) -> Result<Figure, Violation> {
    let Linked { _etcd, proxy, world } = linked(fleets, history).await?;
    let start = Instant::now();
    fault(&proxy).await;
    history.outage(what);
    outage(start, length).await;
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    world.recovers(expected).await
}

async fn cut_for_long(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    severed(fleets, history, ("cut", LONG), Proxy::cut, Losses::OneEach).await
}

async fn cut_shortly(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    severed(fleets, history, ("cut", SHORT), Proxy::cut, Losses::None).await
}

/// Requests take effect, so the registry may keep the records; nobody here can know.
async fn deaf(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let hold = async |proxy: &Proxy| proxy.hold_towards_client();
    severed(fleets, history, ("no answers", LONG), hold, Losses::OneEach).await
}

async fn mute(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let hold = async |proxy: &Proxy| proxy.hold_towards_server();
    severed(fleets, history, ("no requests", LONG), hold, Losses::OneEach).await
}

async fn half_open(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let hold = async |proxy: &Proxy| proxy.hold();
    severed(fleets, history, ("half-open", LONG), hold, Losses::OneEach).await
}

async fn trickle(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let trickle = async |proxy: &Proxy| proxy.trickle(NonZeroU64::MIN);
    severed(fleets, history, ("1 B/s", LONG), trickle, Losses::OneEach).await
}

/// 75 ± 50 ms each way, another delay every 50 ms.
async fn slow(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let Linked { _etcd, proxy, world } = linked(fleets, history).await?;
    history.mark("75 ± 50 ms");
    let end = Instant::now() + DEGRADED;
    while Instant::now() < end {
        proxy.delay(Duration::from_millis(fastrand::u64(25..=125)));
        sleep(Duration::from_millis(50)).await;
    }
    nothing_lost(&world)?;
    proxy.restore().await;
    history.usable("restored");
    world.recovers(Losses::None).await
}

/// TCP hides a lost packet behind a pause, so that is what loss looks like from here: silence of 100 to 400 ms, the
/// retransmission timeouts of one or two lost packets in a row, about half of the time.
async fn lossy(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let Linked { _etcd, proxy, world } = linked(fleets, history).await?;
    history.mark("stalls half of the time");
    let end = Instant::now() + DEGRADED;
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
    let keys: Vec<InstanceKey> = world.keys();
    losses(world.history, &keys, Losses::None)?;
    world.never_without().map(drop)
}

async fn half_open_watch(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let proxy = Proxy::start(etcd.address()).await.must("proxy")?;
    let stage = Stage::new(&url(&[etcd.address()]), Truth::of(&etcd)).reader(&url(&[proxy.address()]));
    let world = stage.open(fleets, history).await?;
    proxy.hold();
    // Only the reader is cut off, which no claim of a writer is to be measured by.
    history.outage("half-open watch");
    outage(Instant::now(), STALE_WITHIN + 2 * SLACK).await;
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    let stale = d6_staleness_shows(history, READER, STALE_WITHIN + SLACK)?;
    Ok(stale.with(&world.reader_recovers().await?))
}

async fn half_open_renewal(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let proxy = Proxy::start(etcd.address()).await.must("proxy")?;
    let stage = Stage::new(&url(&[proxy.address()]), Truth::of(&etcd)).reader(&url(&[etcd.address()]));
    let world = stage.open(fleets, history).await?;
    proxy.hold();
    history.outage("half-open renewal");
    let start = Instant::now();
    outage(start, LONG).await;
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    // The reader has seen the whole lease expire at once, which it must not believe.
    d1_never_wiped(history, READER)?;
    world.judged(BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
    world.recovers(Losses::OneEach).await
}
