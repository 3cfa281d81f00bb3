//! Row 34: certificates that are wrong, expired, somebody else's, or replaced while a watch runs.

use std::{fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use registry_testkit::{
    Proxy, Scratch, ServerError, TestCa, TestCert, TlsDoor,
    faults::{Figure, FleetFactory, History, Losses, Policy, Violation, x2_cold_start},
};
use service_registry::ErrorKind;
use tokio::time::Instant;

use super::{
    Place, Server, Site,
    site::COUNT,
    world::{Must, SERVICE, Stage, call, ensure, instance, outage},
};

/// The calls' own limit.
const LIMIT: Duration = Duration::from_secs(3);

/// Where TLS is spoken for a server.
#[async_trait(?Send)]
pub(crate) trait Door {
    fn address(&self) -> SocketAddr;
    /// Shows another certificate from now on; open connections may stay.
    async fn show(&self, cert: &TestCert) -> Result<(), ServerError>;
}

/// A server, and where it is reached over TLS.
pub(crate) struct Guarded {
    pub(crate) server: Arc<dyn Server>,
    pub(crate) door: Box<dyn Door>,
}

impl Guarded {
    /// By a door in front: a server that would have to be started anew for each certificate.
    pub(crate) async fn behind_a_door(server: Arc<dyn Server>, cert: &TestCert) -> Result<Self, ServerError> {
        let door = TlsDoor::start(server.address(), cert).await.map_err(unusable)?;
        Ok(Self { server, door: Box::new(door) })
    }
}

pub(crate) fn unusable(error: std::io::Error) -> ServerError {
    ServerError::new("a certificate for the server").with_source(error)
}

#[async_trait(?Send)]
impl Door for TlsDoor {
    fn address(&self) -> SocketAddr {
        Self::address(self)
    }

    async fn show(&self, cert: &TestCert) -> Result<(), ServerError> {
        Self::show(self, cert).map_err(unusable)
    }
}

fn tls_url(place: &Place<'_>, address: SocketAddr, ca: &Path) -> String {
    let url = place.url_via(&[address]).replacen("://", "+tls://", 1);
    format!("{url}&ca={}", ca.display())
}

/// Nothing is registered or found over a connection that can't be trusted, and the error says why.
async fn refused(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
    shown: &TestCert,
    trusted: &TestCa,
    options: &str,
) -> Result<Figure, Violation> {
    let guarded = site.guarded(shown).await.must("a server with TLS")?;
    let place = Place::at(site, Arc::clone(&guarded.server));
    let url = tls_url(&place, guarded.door.address(), trusted.cert());
    let url = format!("{url}&register_timeout=3s&initial_timeout=3s{options}");
    let fleet = fleets.open("careful", &url, history).await.must("opening")?;
    let (register, discover) = tokio::join!(
        call(history, "register", fleet.register(instance("a"), Policy::default())),
        call(history, "discover", fleet.discover("r", SERVICE)),
    );
    fleet.close().await;
    for error in [register.err(), discover.err()] {
        says_why(&error.map(|error| format!("{error:#}")).unwrap_or_default())?;
    }
    let records = place.truth().ask().await;
    ensure(records.is_some_and(|records| records.is_empty()), "it was registered all the same")?;
    let register = x2_cold_start(history, "register", ErrorKind::Timeout, LIMIT)?;
    Ok(register.with(&x2_cold_start(history, "discover", ErrorKind::NotReady, LIMIT)?))
}

fn says_why(error: &str) -> Result<(), Violation> {
    ensure(error.contains("certificate is not trusted"), format!("the error doesn't say why: {error}"))
}

/// What a man in the middle looks like: the right address, and a certificate of an authority of his own.
pub(crate) async fn another_authority(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let (ours, his) = (TestCa::new("ours").must("ours")?, TestCa::new("his").must("his")?);
    refused(site, fleets, history, &his.server().must("a certificate")?, &ours, "").await
}

pub(crate) async fn another_name(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let ca = TestCa::new("ours").must("ours")?;
    refused(site, fleets, history, &ca.server().must("a certificate")?, &ca, "&domain=registry.example").await
}

pub(crate) async fn expired(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let ca = TestCa::new("ours").must("ours")?;
    refused(site, fleets, history, &ca.expired_server().must("a certificate")?, &ca, "").await
}

/// The certificate expires while a watch runs; then a new authority signs another, under the same file name at the
/// client. Between the two everybody is turned away, for less than half of the time to live.
pub(crate) async fn rotated(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let folder = Scratch::new("rotation").must("a folder")?;
    let trusted = folder.path().join("ca.pem");
    let (first, second) = (TestCa::new("first").must("first")?, TestCa::new("second").must("second")?);
    fs::copy(first.cert(), &trusted).must("the first authority")?;
    let guarded = site.guarded(&first.server().must("a certificate")?).await.must("a server with TLS")?;
    let place = Place::at(site, Arc::clone(&guarded.server));
    let proxy = Proxy::start(guarded.door.address()).await.must("proxy")?;
    let url = tls_url(&place, proxy.address(), &trusted);
    let stage = Stage::new(&url, place.truth()).ttl(place.bounds.ttl).count(COUNT);
    let world = stage.open(fleets, history).await?;
    let start = Instant::now();
    guarded.door.show(&first.expired_server().must("a certificate")?).await.must("the expired one")?;
    // A connection outlives its certificate.
    proxy.reset().await;
    history.outage("expired");
    let late = format!("{url}&register_timeout=1s");
    let late = fleets.open("late", &late, history).await.must("opening")?;
    let refused = late.register(instance("late"), Policy::default()).await.err();
    says_why(&refused.map(|error| format!("{error:#}")).unwrap_or_default())?;
    late.close().await;
    drop(late);
    outage(start, place.bounds.short()).await;
    history.ending("ending");
    fs::copy(second.cert(), &trusted).must("the second authority")?;
    guarded.door.show(&second.server().must("a certificate")?).await.must("the second one")?;
    proxy.reset().await;
    history.usable("replaced");
    world.recovers(Losses::None).await
}
