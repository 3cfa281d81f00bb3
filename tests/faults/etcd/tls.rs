//! Row 34: certificates that are wrong, expired, somebody else's, or replaced while a watch runs.

use std::{fs, path::Path, time::Duration};

use registry_testkit::{
    Etcd, Scratch, TestCa,
    faults::{Figure, FleetFactory, History, Losses, Policy, Violation, x2_cold_start},
};
use service_registry::ErrorKind;
use tokio::time::Instant;

use super::{
    rows,
    truth::Truth,
    world::{Must, SERVICE, Stage, TTL, call, ensure, instance},
};

rows! {
    row_34_a_server_of_another_authority_is_refused = another_authority;
    row_34_a_server_of_another_name_is_refused = another_name;
    row_34_a_server_whose_certificate_has_expired_is_refused = expired;
    row_34_certificates_that_are_replaced_under_a_watch_are_taken_up_without_a_restart = rotated;
}

const LIMIT: Duration = Duration::from_secs(3);

fn tls_url(etcd: &Etcd, ca: &Path) -> String {
    let limits = "register_timeout=3s&initial_timeout=3s";
    format!("etcd+tls://{}/stories?ttl=3s&{limits}&ca={}", etcd.address(), ca.display())
}

/// Nothing is registered or found over a connection that can't be trusted, and the error says why.
async fn refused(fleets: &dyn FleetFactory, history: &History, url: &str) -> Result<Figure, Violation> {
    let fleet = fleets.open("careful", url, history).await.must("opening")?;
    let register = call(history, "register", fleet.register(instance("a"), Policy::default())).await.err();
    let discover = call(history, "discover", fleet.discover("r", SERVICE)).await.err();
    fleet.close().await;
    for error in [register, discover] {
        let text = error.map(|error| format!("{error:#}")).unwrap_or_default();
        ensure(text.contains("certificate is not trusted"), format!("the error doesn't say why: {text}"))?;
    }
    let register = x2_cold_start(history, "register", ErrorKind::Timeout, LIMIT)?;
    Ok(register.with(&x2_cold_start(history, "discover", ErrorKind::NotReady, LIMIT)?))
}

/// What a man in the middle looks like: the right address, and a certificate of an authority of his own.
async fn another_authority(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let (ours, his) = (TestCa::new("ours").must("ours")?, TestCa::new("his").must("his")?);
    let etcd = Etcd::builder().tls(&his).start().await.must("etcd")?;
    refused(fleets, history, &tls_url(&etcd, ours.cert())).await
}

async fn another_name(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let ca = TestCa::new("ours").must("ours")?;
    let etcd = Etcd::builder().tls(&ca).start().await.must("etcd")?;
    let url = tls_url(&etcd, ca.cert()) + "&domain=etcd.example";
    refused(fleets, history, &url).await
}

async fn expired(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let ca = TestCa::new("ours").must("ours")?;
    let old = ca.expired_server().must("a certificate")?;
    let etcd = Etcd::builder()
        .tls(&ca)
        .arg(format!("--cert-file={}", old.cert().display()))
        .arg(format!("--key-file={}", old.key().display()))
        .start()
        .await
        .must("etcd")?;
    refused(fleets, history, &tls_url(&etcd, ca.cert())).await
}

/// A new authority signs everything anew, under the same file names. The server trusts both for a while, as one does;
/// the client trusts only the newest.
async fn rotated(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let folder = Scratch::new("rotation").must("a folder")?;
    let file = |name: &str| folder.path().join(name);
    let place = |ca: &TestCa| -> std::io::Result<()> {
        let (server, client) = (ca.server()?, ca.client("app")?);
        for (from, to) in [
            (ca.cert(), "ca.pem"),
            (server.cert(), "server.pem"),
            (server.key(), "server.key"),
            (client.cert(), "client.pem"),
            (client.key(), "client.key"),
        ] {
            fs::copy(from, file(to))?;
        }
        Ok(())
    };
    let (first, second) = (TestCa::new("first").must("first")?, TestCa::new("second").must("second")?);
    place(&first).must("the first certificates")?;
    let both = [fs::read(first.cert()).must("pem")?, fs::read(second.cert()).must("pem")?].concat();
    fs::write(file("both.pem"), &both).must("both")?;
    // `etcdctl`, which looks on, trusts this file of the first authority.
    fs::write(first.cert(), &both).must("both")?;
    let mut builder = Etcd::builder().tls(&first).client_certs(&first);
    for (flag, name) in
        [("--cert-file", "server.pem"), ("--key-file", "server.key"), ("--trusted-ca-file", "both.pem")]
    {
        builder = builder.arg(format!("{flag}={}", file(name).display()));
    }
    let etcd = builder.start().await.must("etcd")?;
    let identity = format!("&cert={}&key={}", file("client.pem").display(), file("client.key").display());
    let url = tls_url(&etcd, &file("ca.pem")) + &identity;
    let world = Stage::new(&url, Truth::by(etcd.ctl())).open(fleets, history).await?;
    place(&second).must("the second certificates")?;
    let start = Instant::now();
    // An orderly end waits for open TLS connections, which is not what this is about.
    etcd.kill().await.must("kill")?;
    history.outage("replaced");
    history.ending("ending");
    etcd.restart().await.must("restart")?;
    history.usable("restarted with the new ones");
    let down = start.elapsed();
    ensure(down < TTL / 2, format!("this machine took {down:?} for a restart: too long for this story"))?;
    world.recovers(Losses::None).await
}
