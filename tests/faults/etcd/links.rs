//! Rows 4 to 6: the link to the registry is cut, half-open, slow or lossy.

use registry_testkit::{
    Etcd, Proxy,
    faults::{Figure, FleetFactory, History, Losses, Violation, d1_never_wiped, r1_reconvergence},
};
use tokio::time::Instant;

use super::{
    rows,
    site::EtcdSite,
    truth::Truth,
    world::{BACK_WITHIN, LONG, Must, READER, Stage, outage, url},
};
use crate::live::links::{self, severed};

rows! {
    everywhere on EtcdSite {
        row_04_a_link_cut_longer_than_the_ttl_costs_each_registration_one_loss = links::cut_for_long;
        row_04_a_link_cut_shorter_than_half_the_ttl_costs_no_loss = links::cut_shortly;
        row_05_a_slow_and_uneven_link_costs_no_loss = links::slow;
        row_05_a_link_that_stalls_half_of_the_time_costs_no_loss = links::lossy;
        row_05_a_link_of_one_byte_per_second_costs_each_registration_one_loss = links::trickle;
        row_06_a_half_open_link_costs_each_registration_one_loss = links::half_open;
        row_06_a_half_open_watch_shows_that_it_is_stale_and_loses_nobody = links::half_open_watch;
    }
    here {
        row_04_answers_that_no_longer_arrive_cost_each_registration_one_loss = deaf;
        row_04_requests_that_no_longer_arrive_cost_each_registration_one_loss = mute;
        row_06_a_half_open_renewal_costs_one_loss_each_and_no_view = half_open_renewal;
    }
}

/// Requests take effect, so the registry may keep the records; nobody here can know.
async fn deaf(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let hold = async |proxy: &Proxy| proxy.hold_towards_client();
    severed(&EtcdSite, fleets, history, ("no answers", LONG), hold, Losses::OneEach).await
}

async fn mute(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let hold = async |proxy: &Proxy| proxy.hold_towards_server();
    severed(&EtcdSite, fleets, history, ("no requests", LONG), hold, Losses::OneEach).await
}

/// For twice the time to live, in which the lease expires: it is one for all.
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
