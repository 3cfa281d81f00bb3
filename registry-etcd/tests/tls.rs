//! TLS with private authorities, client certificates, and addresses that speak something else.
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod support;

use std::{fs, path::Path, time::Duration};

use registry_core::{ConnectContext, Connector, ErrorKind, Namespace, backend::Read};
use registry_etcd::EtcdConnector;
use registry_testkit::{Etcd, Scratch, TestCa};
use support::{connect, instance, target, url};
use tokio::{io::AsyncWriteExt, time::Instant};

fn tls_url(etcd: &Etcd, ca: &Path) -> String {
    format!("etcd+tls://{}?ca={}", etcd.address(), ca.display())
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_private_authority_is_trusted_by_file_and_no_other_is() {
    let (ca, stranger) = (TestCa::new("ours").unwrap(), TestCa::new("stranger").unwrap());
    let etcd = Etcd::builder().tls(&ca).start().await.unwrap();
    let node = connect(&tls_url(&etcd, ca.cert())).await;
    let lease = node.grant(10).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();

    let wrong = connect(&tls_url(&etcd, stranger.cert())).await;
    let error = wrong.grant(10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("not trusted"), "{error:?}");
    let name = connect(&(tls_url(&etcd, ca.cert()) + "&domain=etcd.example")).await;
    assert!(name.grant(10).await.unwrap_err().to_string().contains("not trusted"), "another name is refused");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_client_certificate_opens_the_door_and_its_lack_is_named() {
    let ca = TestCa::new("mutual").unwrap();
    let client = ca.client("app").unwrap();
    let etcd = Etcd::builder().tls(&ca).client_certs(&ca).start().await.unwrap();
    let without = tls_url(&etcd, ca.cert());
    let with = format!("{without}&cert={}&key={}", client.cert().display(), client.key().display());
    connect(&with).await.grant(10).await.unwrap();
    let error = connect(&without).await.grant(10).await.unwrap_err();
    // The alert that says why may or may not arrive before the connection is closed.
    assert!(matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Unavailable), "{error:?}");
    assert!(error.to_string().contains("client certificate"), "{error:?}");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn replaced_certificates_are_taken_up_without_a_restart() {
    let folder = Scratch::new("rotation").unwrap();
    let file = |name: &str| folder.path().join(name);
    let place = |ca: &TestCa| {
        let (server, client) = (ca.server().unwrap(), ca.client("app").unwrap());
        for (from, to) in [
            (ca.cert(), "ca.pem"),
            (server.cert(), "server.pem"),
            (server.key(), "server.key"),
            (client.cert(), "client.pem"),
            (client.key(), "client.key"),
        ] {
            fs::copy(from, file(to)).unwrap();
        }
    };
    let ca = TestCa::new("first").unwrap();
    place(&ca);
    let mut builder = Etcd::builder().tls(&ca).client_certs(&ca);
    for (flag, name) in
        [("--cert-file", "server.pem"), ("--key-file", "server.key"), ("--trusted-ca-file", "ca.pem")]
    {
        builder = builder.arg(format!("{flag}={}", file(name).display()));
    }
    let etcd = builder.start().await.unwrap();
    let with = format!("&cert={}&key={}", file("client.pem").display(), file("client.key").display());
    let node = connect(&(tls_url(&etcd, &file("ca.pem")) + &with)).await;
    let lease = node.grant(30).await.unwrap();
    // A new authority signs everything anew, under the same file names.
    place(&TestCa::new("second").unwrap());
    etcd.restart().await.unwrap();
    let start = Instant::now();
    while let Err(error) = lease.renew(Instant::now() + Duration::from_secs(2)).await {
        assert!(start.elapsed() < Duration::from_secs(5), "{error:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn an_address_that_speaks_another_protocol_is_named() {
    let ca = TestCa::new("mismatch").unwrap();
    let (tls, plain) = (Etcd::builder().tls(&ca).start().await.unwrap(), Etcd::start().await.unwrap());
    let read = Read::default();

    let over_plain = connect(&tls_url(&plain, ca.cert())).await;
    let error = over_plain.discovery().lookup(&target("orders"), &read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("does not speak TLS"), "{error:?}");

    let over_tls = connect(&url(&tls)).await;
    let error = over_tls.discovery().lookup(&target("orders"), &read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("etcd+tls"), "{error:?}");

    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let over_web = connect(&format!("etcd://{address}")).await;
    let error = over_web.discovery().lookup(&target("orders"), &read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(error.to_string().contains("client port"), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_no_certificate_is_refused_at_once() {
    let folder = Scratch::new("broken").unwrap();
    let ca = TestCa::new("broken").unwrap();
    let broken = folder.path().join("broken.pem");
    fs::write(&broken, "no pem").unwrap();
    let (broken, ca) = (broken.display(), ca.cert().display());
    for url in [
        "etcd+tls://127.0.0.1:1?ca=/no/such/file".to_owned(),
        format!("etcd+tls://127.0.0.1:1?ca={ca}&cert={broken}&key={broken}"),
    ] {
        let context = ConnectContext::new(Namespace::new("prod").unwrap(), Duration::from_secs(5));
        let error = EtcdConnector::new().connect(&url.parse().unwrap(), &context).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}: {error:?}");
    }
}
