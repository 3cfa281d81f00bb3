//! Row 7: a server that accepts and never answers, or never ends its answer.

use std::time::Duration;

use registry_testkit::faults::{
    Figure, FleetFactory, History, Observation, Policy, Resources, Tolerance, Violation, h2_bounded,
    x2_cold_start,
};
use service_registry::{ErrorKind, Phase, Start};
use tokio::time::Instant;

use super::{
    Site,
    front::{Front, Manner},
    world::{Must, SERVICE, call, ensure, instance, key, outage},
};

/// The calls' own limit.
const LIMIT: Duration = Duration::from_secs(3);

pub(crate) async fn silent(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let front = Front::start(Manner::Silent).await.must("fake server")?;
    let url = site.url(&[front.address()], "mute");
    lives_with(front, &url, fleets, history).await
}

pub(crate) async fn endless(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let front = Front::start(Manner::Endless).await.must("fake server")?;
    let url = site.url(&[front.address()], "mute");
    lives_with(front, &url, fleets, history).await
}

/// With a server at `url` that doesn't answer.
pub(crate) async fn lives_with(
    server: impl Sized,
    url: &str,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    history.record(Observation::Resources(Resources::now()));
    let limits = "register_timeout=3s&initial_timeout=3s";
    let url = format!("{url}&{limits}");
    let fleet = fleets.open("new", &url, history).await.must("opening")?;
    drop(call(history, "register", fleet.register(instance("a"), Policy::default())).await);
    drop(call(history, "discover", fleet.discover("r", SERVICE)).await);
    let background = Policy::default().start(Start::Background);
    fleet.register(instance("b"), background).await.must("registering in the background")?;
    // The time during which it could pile something up.
    outage(Instant::now(), 2 * LIMIT).await;
    let phase = fleet.phase(&key("b"));
    ensure(phase == Some(Phase::Registering), format!("phase {phase:?} without an answer"))?;
    fleet.close().await;
    drop((fleet, server));
    history.record(Observation::Resources(Resources::settled(Duration::from_secs(5)).await));
    let register = x2_cold_start(history, "register", ErrorKind::Timeout, LIMIT)?;
    let discover = x2_cold_start(history, "discover", ErrorKind::NotReady, LIMIT)?;
    Ok(register.with(&discover).with(&h2_bounded(history, Tolerance::tasks_only())?))
}
