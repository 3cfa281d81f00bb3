//! Row 38: the registry isn't there when a node starts.

use std::time::Duration;

use registry_testkit::{
    eventually,
    faults::{
        Figure, FleetFactory, History, Losses, Policy, Recorders, Violation, r1_reconvergence, x2_cold_start,
    },
};
use service_registry::{ErrorKind, Phase, Start};
use tokio::time::Instant;

use super::{
    Place, Site,
    world::{BACK_WITHIN, Must, SERVICE, call, ensure, instance, judged, key, outage},
};

const LIMIT: Duration = Duration::from_secs(2);
pub(crate) const LIMITS: &str = "register_timeout=2s&initial_timeout=2s";

/// New calls, to a registry that isn't there.
pub(crate) fn failed_in_time(history: &History) -> Result<Figure, Violation> {
    let register = x2_cold_start(history, "register", ErrorKind::Timeout, LIMIT)?;
    Ok(register.with(&x2_cold_start(history, "discover", ErrorKind::NotReady, LIMIT)?))
}

pub(crate) async fn late(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::own(site).await?;
    // Its address is known from here on, and nobody listens there.
    place.server.kill().await.must("kill")?;
    history.outage("not there yet");
    let url = format!("{}&{LIMITS}", place.url());
    let fleet = fleets.open("new", &url, history).await.must("opening")?;
    drop(call(history, "register", fleet.register(instance("a"), Policy::default())).await);
    drop(call(history, "discover", fleet.discover("r", SERVICE)).await);
    let background = Policy::default().start(Start::Background);
    fleet.register(instance("b"), background).await.must("registering in the background")?;
    let phase = fleet.phase(&key("b"));
    ensure(phase == Some(Phase::Registering), format!("phase {phase:?} without a registry"))?;
    let failed = failed_in_time(history)?;
    let mut recorders = Recorders::new(history);
    place.truth().record(&mut recorders, history);
    recorders.statuses(&fleet);
    history.ending("ending");
    place.server.restart().await.must("start")?;
    history.usable("started");
    let back = judged(history, BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
    // Its limit is shorter than the pause between two attempts may be after so many.
    let found =
        eventually("discovering at last", BACK_WITHIN, async || fleet.discover("r", SERVICE).await.ok());
    let reader = found.await.must("a reader")?;
    recorders.views(&reader);
    let seen = eventually("the reader sees it", BACK_WITHIN, async || {
        reader.view().records.contains_key(&key("b")).then_some(())
    });
    seen.await.must("b")?;
    recorders.stop().await;
    fleet.close().await;
    Ok(failed.with(&back))
}

pub(crate) async fn beside_an_old_one(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::own(site).await?;
    let world = place.stage().open(fleets, history).await?;
    place.server.kill().await.must("kill")?;
    history.outage("killed");
    place.given_up(history, world.keys(), "no longer alive");
    let start = Instant::now();
    let url = format!("{}&{LIMITS}", place.url());
    let new = fleets.open("new", &url, history).await.must("opening")?;
    drop(call(history, "register", new.register(instance("a"), Policy::default())).await);
    drop(call(history, "discover", new.discover("r", SERVICE)).await);
    let failed = failed_in_time(history)?;
    world.never_without()?;
    outage(start, place.bounds.long()).await;
    new.close().await;
    drop(new);
    history.ending("ending");
    place.server.restart().await.must("restart")?;
    history.usable("restarted");
    Ok(failed.with(&world.recovers(Losses::OneEach).await?))
}
