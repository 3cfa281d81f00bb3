//! Row 38: the registry isn't there when a node starts.

use std::{sync::Arc, time::Duration};

use registry_testkit::{
    Etcd,
    faults::{
        Figure, FleetFactory, History, Losses, Policy, Recorders, Violation, r1_reconvergence, x2_cold_start,
    },
};
use service_registry::{ErrorKind, Phase, Start};

use super::{
    rows,
    truth::Truth,
    world::{BACK_WITHIN, Must, SERVICE, Stage, call, ensure, instance, key, outage, url},
};

rows! {
    row_38_a_registry_that_appears_late_fails_new_calls_in_time_and_finds_all_waiting = late;
    row_38_a_node_that_starts_without_a_registry_leaves_the_old_ones_alone = beside_an_old_one;
}

const LIMIT: Duration = Duration::from_secs(2);
const LIMITS: &str = "register_timeout=2s&initial_timeout=2s";

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
    let failed = x2_cold_start(history, "register", ErrorKind::Timeout, LIMIT)?.with(&x2_cold_start(
        history,
        "discover",
        ErrorKind::NotReady,
        LIMIT,
    )?);
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

async fn beside_an_old_one(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let url = url(&[etcd.address()]);
    let world = Stage::new(&url, Truth::of(&etcd)).open(fleets, history).await?;
    etcd.kill().await.must("kill")?;
    history.outage("killed");
    let start = tokio::time::Instant::now();
    let new = fleets.open("new", &format!("{url}&{LIMITS}"), history).await.must("opening")?;
    drop(call(history, "register", new.register(instance("a"), Policy::default())).await);
    drop(call(history, "discover", new.discover("r", SERVICE)).await);
    let failed = x2_cold_start(history, "register", ErrorKind::Timeout, LIMIT)?.with(&x2_cold_start(
        history,
        "discover",
        ErrorKind::NotReady,
        LIMIT,
    )?);
    world.never_without()?;
    outage(start, super::world::LONG).await;
    new.close().await;
    drop::<Arc<_>>(new);
    history.ending("ending");
    etcd.restart().await.must("restart")?;
    history.usable("restarted");
    Ok(failed.with(&world.recovers(Losses::OneEach).await?))
}
