//! Rows 1 to 3: one node dies, forgets or freezes.

use std::time::Duration;

use registry_testkit::{
    Etcd,
    faults::{Figure, FleetFactory, History, Losses, Violation},
};
use tokio::time::Instant;

use super::{
    rows,
    site::EtcdSite,
    truth::Truth,
    world::{Must, SHORT, Stage, outage, url},
};
use crate::live::outages;

rows! {
    everywhere on EtcdSite {
        row_01_a_killed_etcd_that_comes_back_with_its_data_costs_no_loss = outages::killed;
        row_01_an_etcd_that_is_down_for_twice_the_ttl_costs_each_registration_one_loss = outages::down;
        row_02_a_wiped_etcd_is_filled_again = outages::wiped;
        row_03_an_etcd_frozen_for_twice_the_ttl_costs_each_registration_one_loss = outages::frozen_for_twice;
    }
    here {
        row_03_an_etcd_frozen_for_a_second_costs_no_loss = frozen_for_a_second;
        row_03_an_etcd_frozen_just_shorter_than_half_the_ttl_costs_no_loss = frozen_shorter_than_half;
    }
}

async fn frozen_for_a_second(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    frozen(fleets, history, Duration::from_secs(1)).await
}

async fn frozen_shorter_than_half(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    frozen(fleets, history, SHORT).await
}

/// Judged at once, without the time to live that others wait in between.
async fn frozen(fleets: &dyn FleetFactory, history: &History, length: Duration) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let stage = Stage::new(&url(&[etcd.address()]), Truth::of(&etcd));
    let world = stage.open(fleets, history).await?;
    let start = Instant::now();
    etcd.freeze().await.must("freeze")?;
    history.outage("frozen");
    outage(start, length).await;
    history.ending("ending");
    etcd.thaw().must("thaw")?;
    history.usable("thawed");
    world.recovers(Losses::None).await
}
