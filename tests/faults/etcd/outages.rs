//! Rows 1 to 3: one node dies, forgets or freezes.

use std::time::Duration;

use registry_testkit::{
    Etcd,
    faults::{Figure, FleetFactory, History, Losses, Observation, Violation},
};
use tokio::time::Instant;

use super::{
    rows,
    truth::Truth,
    world::{LONG, Must, SHORT, Stage, TTL, World, ensure, outage, url},
};

rows! {
    row_01_a_killed_etcd_that_comes_back_with_its_data_costs_no_loss = killed;
    row_01_an_etcd_that_is_down_for_twice_the_ttl_costs_each_registration_one_loss = down;
    row_02_a_wiped_etcd_is_filled_again = wiped;
    row_03_an_etcd_frozen_for_a_second_costs_no_loss = frozen_for_a_second;
    row_03_an_etcd_frozen_just_shorter_than_half_the_ttl_costs_no_loss = frozen_shorter_than_half;
    row_03_an_etcd_frozen_for_twice_the_ttl_costs_each_registration_one_loss = frozen_for_twice;
}

async fn world<'a>(
    etcd: &Etcd,
    fleets: &dyn FleetFactory,
    history: &'a History,
) -> Result<World<'a>, Violation> {
    Stage::new(&url(&[etcd.address()]), Truth::of(etcd)).open(fleets, history).await
}

async fn killed(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let world = world(&etcd, fleets, history).await?;
    let start = Instant::now();
    etcd.kill().await.must("kill")?;
    history.outage("killed");
    history.ending("ending");
    etcd.restart().await.must("restart")?;
    history.usable("restarted with its data");
    let down = start.elapsed();
    ensure(down < TTL / 2, format!("this machine took {down:?} for a restart: too long for this story"))?;
    world.recovers(Losses::None).await
}

async fn down(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let world = world(&etcd, fleets, history).await?;
    etcd.kill().await.must("kill")?;
    history.outage("killed");
    outage(Instant::now(), LONG).await;
    history.ending("ending");
    etcd.restart().await.must("restart")?;
    history.usable("restarted with its data");
    world.recovers(Losses::OneEach).await
}

async fn wiped(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let world = world(&etcd, fleets, history).await?;
    etcd.kill().await.must("kill")?;
    history.outage("killed");
    etcd.wipe().await.must("wipe")?;
    for key in world.keys() {
        history.record(Observation::Gone { key, why: "wiped".into() });
    }
    history.ending("ending");
    etcd.restart().await.must("restart")?;
    history.usable("restarted without its data");
    world.recovers(Losses::OneEach).await
}

async fn frozen_for_a_second(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    frozen(fleets, history, Duration::from_secs(1), Losses::None).await
}

async fn frozen_shorter_than_half(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    frozen(fleets, history, SHORT, Losses::None).await
}

async fn frozen_for_twice(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    frozen(fleets, history, LONG, Losses::OneEach).await
}

async fn frozen(
    fleets: &dyn FleetFactory,
    history: &History,
    length: Duration,
    expected: Losses,
) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let world = world(&etcd, fleets, history).await?;
    let start = Instant::now();
    etcd.freeze().await.must("freeze")?;
    history.outage("frozen");
    outage(start, length).await;
    history.ending("ending");
    etcd.thaw().must("thaw")?;
    history.usable("thawed");
    world.recovers(expected).await
}
