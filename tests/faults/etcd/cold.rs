//! Row 38: the registry isn't there when a node starts.

use registry_testkit::{
    Etcd,
    faults::{Figure, FleetFactory, History, Policy, Recorders, Violation, r1_reconvergence},
};
use service_registry::{Phase, Start};

use super::{
    rows,
    site::EtcdSite,
    truth::Truth,
    world::{BACK_WITHIN, Must, SERVICE, call, ensure, instance, key, url},
};
use crate::live::cold::{self, LIMITS, failed_in_time};

rows! {
    everywhere on EtcdSite {
        row_38_a_node_that_starts_without_a_registry_leaves_the_old_ones_alone = cold::beside_an_old_one;
    }
    here {
        row_38_a_registry_that_appears_late_fails_new_calls_in_time_and_finds_all_waiting = late;
    }
}

/// As elsewhere, but here the first call to discover has to succeed when the registry is there.
async fn late(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    // Its address is known from here on, and nobody listens there.
    etcd.kill().await.must("kill")?;
    history.outage("not there yet");
    let url = format!("{}&{LIMITS}", url(&[etcd.address()]));
    let fleet = fleets.open("new", &url, history).await.must("opening")?;
    drop(call(history, "register", fleet.register(instance("a"), Policy::default())).await);
    drop(call(history, "discover", fleet.discover("r", SERVICE)).await);
    let background = Policy::default().start(Start::Background);
    fleet.register(instance("b"), background).await.must("registering in the background")?;
    let phase = fleet.phase(&key("b"));
    ensure(phase == Some(Phase::Registering), format!("phase {phase:?} without a registry"))?;
    let failed = failed_in_time(history)?;
    let mut recorders = Recorders::new(history);
    let truth = Truth::of(&etcd);
    recorders.truths(move || truth.clone().ask());
    recorders.statuses(&fleet);
    history.ending("ending");
    etcd.restart().await.must("start")?;
    history.usable("started");
    let back = super::world::judged(history, BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
    let reader = fleet.discover("r", SERVICE).await.must("discovering at last")?;
    recorders.views(&reader);
    let seen = registry_testkit::eventually("the reader sees it", BACK_WITHIN, async || {
        reader.view().records.contains_key(&key("b")).then_some(())
    });
    seen.await.must("b")?;
    recorders.stop().await;
    fleet.close().await;
    Ok(failed.with(&back))
}
