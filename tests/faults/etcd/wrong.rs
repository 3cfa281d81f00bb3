//! Beyond the rows: the wrong thing listens at the address. Each gets a typed error in bounded time that says what to
//! do. How such an address is told from others is tested with the backend, in `registry-etcd/tests/tls.rs`.

use std::time::Duration;

use registry_testkit::{
    Etcd, Proxy, TestCa,
    faults::{Figure, FleetFactory, History, Policy, Violation, x2_cold_start},
};
use service_registry::ErrorKind;

use super::{
    fake::{Fake, Manner},
    rows,
    world::{Must, call, ensure, instance, url},
};

rows! {
    row_07_a_web_server_at_the_address_is_named = web;
    row_07_plain_text_where_tls_is_spoken_is_named = plain_to_tls;
    row_07_tls_where_plain_text_is_spoken_is_named = tls_to_plain;
    row_07_a_path_into_nowhere_ends_with_a_timeout = nowhere;
}

const LIMIT: Duration = Duration::from_secs(3);

/// Registering fails in time, with `advice` somewhere in the error.
async fn advises(
    fleets: &dyn FleetFactory,
    history: &History,
    url: &str,
    advice: &str,
) -> Result<Figure, Violation> {
    let fleet = fleets.open("lost", &format!("{url}&register_timeout=3s"), history).await.must("opening")?;
    let error = call(history, "register", fleet.register(instance("a"), Policy::default())).await.err();
    fleet.close().await;
    let text = error.map(|error| format!("{error:#}")).unwrap_or_default();
    ensure(text.contains(advice), format!("{advice:?} is not in the error: {text}"))?;
    x2_cold_start(history, "register", ErrorKind::Timeout, LIMIT)
}

async fn web(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let fake = Fake::start(Manner::Web).await.must("fake server")?;
    advises(fleets, history, &url(&[fake.address()]), "is it etcd's client port?").await
}

async fn plain_to_tls(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let ca = TestCa::new("mismatch").must("an authority")?;
    let etcd = Etcd::builder().tls(&ca).start().await.must("etcd")?;
    advises(fleets, history, &url(&[etcd.address()]), "use the scheme etcd+tls").await
}

async fn tls_to_plain(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let ca = TestCa::new("mismatch").must("an authority")?;
    let etcd = Etcd::start().await.must("etcd")?;
    let url = format!("etcd+tls://{}/stories?ttl=3s&ca={}", etcd.address(), ca.cert().display());
    advises(fleets, history, &url, "does not speak TLS").await
}

/// Connections are accepted and nothing ever passes.
async fn nowhere(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let proxy = Proxy::start(etcd.address()).await.must("proxy")?;
    proxy.hold();
    advises(fleets, history, &url(&[proxy.address()]), "not confirmed within 3s").await
}
