//! HTTPS with a private authority and client certificates.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
};

use registry_core::ErrorKind;
use registry_testkit::{Consul, Scratch, TestCa};
use serde_json::json;

use crate::support::{connect, target};

/// An agent that serves HTTPS too, to whom it knows.
async fn start(ca: &TestCa) -> (Consul, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cert = ca.server().unwrap();
    let config = json!({
        "ports": {"https": address.port()},
        "tls": {"https": {"ca_file": ca.cert(), "cert_file": cert.cert(), "key_file": cert.key(), "verify_incoming": true}},
    });
    (Consul::builder().config(config).start().await.unwrap(), address)
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_private_authority_and_a_client_certificate_open_the_door() {
    let (ca, stranger) = (TestCa::new("ours").unwrap(), TestCa::new("stranger").unwrap());
    let (_consul, address) = start(&ca).await;
    let client = ca.client("app").unwrap();
    let url = |ca: &TestCa, rest: &str| format!("consul+tls://{address}?ca={}{rest}", ca.cert().display());
    let identity = format!("&cert={}&key={}", client.cert().display(), client.key().display());

    let node = connect(&url(&ca, &identity)).await;
    let lease = node.grant(30).await;
    node.publish(&lease, "a").await.unwrap();
    node.finds(&target("orders"), &["a"]).await;
    // The name in the certificate, wherever it is reached.
    let named = connect(&url(&ca, &format!("{identity}&domain=localhost"))).await;
    named.finds(&target("orders"), &["a"]).await;

    for (wrong, kind) in [
        (url(&stranger, &identity), ErrorKind::Protocol),
        (url(&ca, &format!("{identity}&domain=consul.example")), ErrorKind::Protocol),
        (format!("consul://{address}"), ErrorKind::InvalidArgument),
    ] {
        let error = connect(&wrong).await.lookup(&target("orders")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{wrong}: {error:?}");
    }
    let error = connect(&url(&ca, "")).await.lookup(&target("orders")).await.unwrap_err();
    // The alert that says why may or may not arrive before the connection is closed.
    assert!(matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Unavailable), "{error:?}");
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn replaced_certificates_are_taken_up_without_a_restart() {
    let folder = Scratch::new("rotation").unwrap();
    let file = |name: &str| folder.path().join(name);
    let place = |ca: &TestCa| {
        let (server, client) = (ca.server().unwrap(), ca.client("app").unwrap());
        for (from, to) in [
            (ca.cert(), "ca.pem"),
            (server.cert(), "server.pem"),
            (server.key(), "server.key"),
            (client.cert(), "app.pem"),
            (client.key(), "app.key"),
        ] {
            fs::copy(from, file(to)).unwrap();
        }
    };
    let (before, after) = (TestCa::new("before").unwrap(), TestCa::new("after").unwrap());
    place(&before);
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let https = json!({
        "ca_file": file("ca.pem"),
        "cert_file": file("server.pem"),
        "key_file": file("server.key"),
        "verify_incoming": true,
    });
    let config = json!({"ports": {"https": address.port()}, "tls": {"https": https}});
    let consul = Consul::builder().config(config).start().await.unwrap();
    let show = |name: &str| file(name).display().to_string();
    let (ca, cert, key) = (show("ca.pem"), show("app.pem"), show("app.key"));
    let node = connect(&format!("consul+tls://{address}?ca={ca}&cert={cert}&key={key}")).await;
    node.finds(&target("orders"), &[]).await;

    consul.kill().await.unwrap();
    place(&after);
    consul.restart().await.unwrap();
    node.finds(&target("orders"), &[]).await;
}
