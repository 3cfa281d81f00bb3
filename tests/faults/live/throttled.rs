//! Rows 11 and 25: the server refuses calls: it is overloaded, or no longer knows who we are.

use std::time::Duration;

use registry_testkit::faults::{
    Figure, FleetFactory, History, Invariant, Losses, Policy, Violation, s1_no_secrets,
};
use service_registry::{ErrorKind, Phase, Start};
use tokio::time::Instant;

use super::{
    Place, Site,
    front::{Front, Manner},
    site::forgotten,
    world::{Must, SERVICE, call, ensure, instance, key, outage},
};

/// The pause that is asked for.
const PAUSE: &str = "retry-after: 2\r\n";

/// Answers 429 for twice the time to live.
pub(crate) async fn overloaded(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let front = Front::start(Manner::Open(place.address())).await.must("front")?;
    let world = place.stage_via(&[front.address()]).open(fleets, history).await?;
    front.turn(Manner::Says(429, PAUSE.into()));
    history.outage("overloaded");
    let length = place.bounds.long();
    outage(Instant::now(), length).await;
    let asked = front.asked();
    forgotten(history, world.keys(), "silent for too long");
    history.ending("ending");
    front.turn(Manner::Open(place.address()));
    history.usable("no longer overloaded");
    let figure = world.recovers(Losses::OneEach).await?;
    // A renewal has a pause of its own, as a lease doesn't wait; then each of them beats once. Everything else has the
    // pause that was asked for.
    let most = (length.as_secs() + 2) * (super::site::COUNT as u64 + 2);
    if !(1..=most).contains(&asked) {
        let what = format!("{asked} calls in {length:?} to a server that asks for pauses; at most {most}");
        return Err(Violation::new(Invariant::H1, what));
    }
    Ok(Figure::new("calls while it asks for pauses", asked).with(&figure))
}

/// A server that lets nobody in: said at once, and not tried in a loop.
pub(crate) async fn unwelcome(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let front = Front::start(Manner::Says(403, String::new())).await.must("front")?;
    let url = site.url(&[front.address()], "closed").replacen("://", "://:hunter3@", 1);
    let fleet = fleets.open("intruder", &url, history).await.must("opening")?;
    let start = Instant::now();
    let refused = call(history, "register", fleet.register(instance("a"), Policy::default())).await;
    let named = start.elapsed();
    let kind = refused.err().map(|error| error.kind());
    let is_named = matches!(kind, Some(ErrorKind::Unauthenticated | ErrorKind::PermissionDenied));
    ensure(is_named, format!("a closed door was answered with {kind:?}"))?;
    ensure(named < Duration::from_secs(2), format!("it took {named:?} to say so"))?;
    drop(call(history, "discover", fleet.discover("r", SERVICE)).await);
    let background = Policy::default().start(Start::Background);
    fleet.register(instance("b"), background).await.must("registering in the background")?;
    let before = front.asked();
    // The time during which the calls are counted.
    outage(Instant::now(), Duration::from_secs(5)).await;
    let made = front.asked() - before;
    let phase = fleet.phase(&key("b"));
    ensure(phase == Some(Phase::Blocked), format!("phase {phase:?} at a closed door"))?;
    if made > 10 {
        return Err(Violation::new(Invariant::H1, format!("{made} calls in 5 s at a closed door")));
    }
    fleet.close().await;
    s1_no_secrets(history, &["hunter3"])?;
    Ok(Figure::new("register refused after", named).and("calls in 5 s", made))
}
