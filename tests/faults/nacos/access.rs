//! Row 11: tokens that end, and a password that is wrong.

use std::time::Duration;

use registry_testkit::{
    Nacos,
    faults::{Figure, FleetFactory, History, Invariant, Losses, Policy, Violation, s1_no_secrets},
};
use service_registry::{ErrorKind, Phase, Start, nacos::NacosConnector};
use tokio::time::Instant;

use super::site::NacosSite;
use crate::live::{
    Site,
    counter::Counter,
    site::COUNT,
    truth::Ask,
    world::{Must, Stage, call, ensure, instance, key, outage},
};

/// The life of a token; the shortest that Nacos likes.
const TOKEN: Duration = Duration::from_secs(5);
/// With a wrong password, in 5 s.
const MOST_LOGINS: usize = 5;

pub(crate) async fn tokens(
    site: &NacosSite,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let nacos = Nacos::builder(site.0).auth(TOKEN).start().await.must("nacos")?;
    let (user, password) = Nacos::ADMIN;
    let url_of = |password: &str| {
        let url = site.url(&[nacos.address()], "guarded");
        url.replacen("://", &format!("://{user}:{password}@"), 1)
    };
    let truth = Ask::by(NacosConnector::new(), &url_of(password).replace("ttl=5s&", ""), "guarded");
    let stage = Stage::new(&url_of(password), truth.aged(Duration::from_secs(1)));
    let world = stage.ttl(site.bounds().ttl).count(COUNT).open(fleets, history).await?;
    let door = Counter::start(nacos.address()).await.must("a door")?;
    let wrong = site.url(&[door.address()], "guarded").replacen("://", &format!("://{user}:hunter3@"), 1);
    let intruder = fleets.open("intruder", &wrong, history).await.must("opening")?;
    let refused = call(history, "intrusion", intruder.register(instance("a"), Policy::default())).await;
    let kind = refused.err().map(|error| error.kind());
    ensure(kind == Some(ErrorKind::Unauthenticated), format!("a wrong password was answered with {kind:?}"))?;
    let background = Policy::default().start(Start::Background);
    intruder.register(instance("b"), background).await.must("registering in the background")?;
    let begun = Instant::now();
    outage(begun, Duration::from_secs(5)).await;
    let phase = intruder.phase(&key("b"));
    ensure(phase == Some(Phase::Blocked), format!("phase {phase:?} with a wrong password"))?;
    // An account may be locked for a wrong password that is tried in a loop.
    let logins = door.arrivals(begun).iter().filter(|arrival| arrival.target.contains("login")).count();
    if logins > MOST_LOGINS {
        return Err(Violation::new(Invariant::H1, format!("{logins} logins in 5 s with a wrong password")));
    }
    intruder.close().await;
    drop(intruder);
    // Three lives of a token.
    outage(Instant::now(), 3 * TOKEN).await;
    history.usable("all the time");
    let figure = world.recovers(Losses::None).await?;
    s1_no_secrets(history, &[password, "hunter3"])?;
    Ok(figure.and("logins in 5 s with a wrong password", logins))
}
