//! Row 11: a token is revoked while it is in use.

use std::time::Duration;

use registry_testkit::{
    Consul,
    faults::{
        Figure, FleetFactory, History, Invariant, Violation, d1_never_wiped, r3_no_false_life,
        r4_callback_discipline, s1_no_secrets,
    },
};
use service_registry::{Phase, consul::ConsulConnector};
use tokio::time::Instant;

use crate::live::{
    Site,
    counter::Counter,
    site::{COUNT, forgotten},
    truth::Ask,
    world::{Must, READER, Stage, ensure, outage},
};

const TOKEN: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
const ACCESSOR: &str = "ffffffff-0000-1111-2222-333333333333";
/// What the table of least rights says.
const RULES: &str = r#"{"Name":"stories","Rules":"service_prefix \"\" { policy = \"write\" } node_prefix \"\" { policy = \"read\" } agent_prefix \"\" { policy = \"read\" }"}"#;

pub(super) async fn revoked(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let consul = Consul::builder().acl().start().await.must("consul")?;
    let api = consul.api();
    api.put("/v1/acl/policy", RULES).await.and_then(|answer| answer.success()).must("a policy")?;
    let token =
        format!(r#"{{"AccessorID":"{ACCESSOR}","SecretID":"{TOKEN}","Policies":[{{"Name":"stories"}}]}}"#);
    api.put("/v1/acl/token", token).await.and_then(|answer| answer.success()).must("a token")?;
    let door = Counter::start(consul.address()).await.must("a door")?;
    let url = site.url(&[door.address()], "guarded").replacen("://", &format!("://:{TOKEN}@"), 1);
    let all = format!("consul://:{}@{}/guarded?read=consistent", Consul::MANAGEMENT, consul.address());
    let truth = Ask::by(ConsulConnector::new(), &all, "guarded");
    let ttl = site.bounds().ttl;
    let world = Stage::new(&url, truth).ttl(ttl).count(COUNT).open(fleets, history).await?;
    let revoked = api.delete(&format!("/v1/acl/token/{ACCESSOR}")).await;
    revoked.and_then(|answer| answer.success()).must("revoking the token")?;
    history.outage("the token is revoked");
    let (begun, length) = (Instant::now(), site.bounds().long());
    outage(begun, length).await;
    // A lease goes on with its beats, each with a pause of its own; everything else waits its minute.
    let refused = door.arrivals(begun).len();
    let most = (usize::try_from(length.as_secs()).unwrap_or(usize::MAX) + 2) * (COUNT + 2);
    if refused > most {
        let what = format!("{refused} calls in {length:?} with a revoked token; at most {most}");
        return Err(Violation::new(Invariant::H1, what));
    }
    forgotten(history, world.keys(), "not renewed");
    // Nobody claims what can't be proven, and the reader keeps what it had: a refusal is no empty list.
    let blocked = world.keys().iter().filter(|key| world.writer.phase(key) == Some(Phase::Blocked)).count();
    ensure(blocked == COUNT, format!("{blocked} of {COUNT} say that they are blocked"))?;
    r3_no_false_life(history, ttl, Duration::from_millis(50))?;
    r4_callback_discipline(history)?;
    let kept = d1_never_wiped(history, READER)?;
    s1_no_secrets(history, &[TOKEN])?;
    world.leave().await?;
    Ok(Figure::new("blocked", blocked).and("calls while revoked", refused).with(&kept))
}
