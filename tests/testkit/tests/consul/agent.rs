//! One agent, and two that are data centres of their own.

use std::time::Duration;

use registry_testkit::{Consul, Proxy, TestCa, eventually};
use serde_json::json;

const LONG: Duration = Duration::from_secs(10);

/// Registers an instance as a client would: with a TTL check that no heartbeat has passed yet.
async fn register(consul: &Consul, id: &str) {
    let service = json!({
        "ID": id, "Name": "orders", "Address": "10.0.0.1", "Port": 8080,
        "Check": { "TTL": "60s", "Status": "passing" },
    });
    let answer = consul.api().put("/v1/agent/service/register", service.to_string()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// The status of the TTL check, once the catalogue has it.
async fn status(consul: &Consul, id: &str) -> Option<String> {
    let answer = consul.api().get("/v1/health/checks/orders").await.unwrap().json();
    let check = answer.as_array()?.iter().find(|check| check["ServiceID"] == id)?;
    check["Status"].as_str().map(str::to_owned)
}

async fn eventually_is(consul: &Consul, id: &str, wanted: Option<&str>) {
    eventually("a status", LONG, async || (status(consul, id).await.as_deref() == wanted).then_some(()))
        .await
        .unwrap();
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn development_mode_forgets_with_a_restart() {
    let consul = Consul::start().await.unwrap();
    let version = consul.api().get("/v1/agent/self").await.unwrap().json();
    assert_eq!(version["Config"]["Version"], "1.16.3");
    register(&consul, "a").await;
    eventually_is(&consul, "a", Some("passing")).await;

    consul.kill().await.unwrap();
    let refused = tokio::net::TcpStream::connect(consul.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    consul.restart().await.unwrap();
    eventually_is(&consul, "a", None).await;
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn data_survives_a_kill_and_only_heartbeats_keep_a_check_passing() {
    let consul = Consul::builder().data().start().await.unwrap();
    for id in ["beating", "registered"] {
        register(&consul, id).await;
    }
    let beat = consul.api().put("/v1/agent/check/pass/service:beating", "").await.unwrap();
    assert_eq!(beat.status, 200, "{beat:?}");
    for id in ["beating", "registered"] {
        eventually_is(&consul, id, Some("passing")).await;
    }

    consul.kill().await.unwrap();
    consul.restart().await.unwrap();
    eventually_is(&consul, "beating", Some("passing")).await;
    eventually_is(&consul, "registered", Some("critical")).await;

    assert!(consul.wipe().await.is_err(), "it runs");
    consul.terminate().await.unwrap();
    consul.wipe().await.unwrap();
    consul.restart().await.unwrap();
    eventually_is(&consul, "beating", None).await;
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_frozen_agent_answers_nobody_until_thawed() {
    let consul = Consul::start().await.unwrap();
    consul.freeze().await.unwrap();
    assert!(consul.is_running());
    consul.api().within(Duration::from_millis(300)).get("/v1/status/leader").await.unwrap_err();
    consul.thaw().unwrap();
    consul.ready().await.unwrap();
    consul.freeze().await.unwrap();
    consul.kill().await.unwrap();
    assert!(!consul.is_running());
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn who_has_no_token_may_nothing_and_is_not_told() {
    let consul = Consul::builder().acl().start().await.unwrap();
    register(&consul, "a").await;
    eventually_is(&consul, "a", Some("passing")).await;

    let nobody = consul.api().without_header("x-consul-token");
    let denied = nobody.put("/v1/agent/service/register", r#"{"Name":"orders"}"#).await.unwrap();
    assert_eq!(denied.status, 403, "{denied:?}");
    let empty = nobody.get("/v1/health/service/orders").await.unwrap();
    assert_eq!((empty.status, empty.body.trim()), (200, "[]"));
    assert_eq!(empty.header("X-Consul-Results-Filtered-By-Acls"), None);
    assert_eq!(empty.header("X-Consul-Default-Acl-Policy"), Some("deny"));
    let stranger = nobody.with_header("x-consul-token", "99999999-2222-3333-4444-555555555555");
    let unknown = stranger.get("/v1/health/service/orders").await.unwrap();
    assert_eq!((unknown.status, unknown.body.trim()), (403, "ACL not found"));
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn one_connection_too_many_is_answered_429() {
    let consul = Consul::builder().connections_per_client(2).start().await.unwrap();
    // One more with each try: those of the start may count for a moment yet, and then Consul closes ours.
    let mut held = Vec::new();
    eventually("429", LONG, async || {
        held.push(tokio::net::TcpStream::connect(consul.address()).await.unwrap());
        // The reset that follows the answer may be faster than it.
        let answer = consul.api().get("/v1/status/leader").await.ok()?;
        (answer.status == 429).then_some(())
    })
    .await
    .unwrap();
    drop(held);
    consul.ready().await.unwrap();
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn too_many_reads_are_answered_429_and_a_registration_still_200() {
    let consul = Consul::builder().requests_per_second(1.0, 1.0).start().await.unwrap();
    // Not after an exact number: Consul fills its buckets anew while it takes in the limits.
    eventually("429", LONG, async || {
        let answer = consul.api().get("/v1/catalog/services").await.unwrap();
        assert!([200, 429].contains(&answer.status), "{answer:?}");
        (answer.status == 429).then_some(())
    })
    .await
    .unwrap();
    eventually("503", LONG, async || {
        let answer = consul.api().put("/v1/kv/key", "value").await.unwrap();
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        (answer.status == 503).then_some(())
    })
    .await
    .unwrap();
    register(&consul, "a").await;
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_data_centre_answers_for_the_other_while_that_lives() {
    let first = Consul::start().await.unwrap();
    let second = Consul::builder().datacenter("dc2").join_wan(&first).start().await.unwrap();
    register(&second, "there").await;
    eventually_is(&second, "there", Some("passing")).await;
    let elsewhere = first.api().get("/v1/health/service/orders?dc=dc2").await.unwrap();
    assert_eq!(elsewhere.json()[0]["Service"]["ID"], "there", "{elsewhere:?}");
    let unknown = first.api().get("/v1/health/service/orders?dc=dc3").await.unwrap();
    assert_eq!((unknown.status, unknown.body.trim()), (500, "No path to datacenter"));

    second.kill().await.unwrap();
    let gone = first.api().get("/v1/health/service/orders?dc=dc2").await.unwrap();
    assert_eq!(gone.status, 500, "{gone:?}");
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_proxy_stands_between() {
    let consul = Consul::start().await.unwrap();
    let proxy = Proxy::start(consul.address()).await.unwrap();
    let api = consul.api().via(proxy.address()).within(Duration::from_millis(300));
    assert_eq!(api.get("/v1/status/leader").await.unwrap().status, 200);
    proxy.hold();
    api.get("/v1/status/leader").await.unwrap_err();
    proxy.restore().await;
    eventually("an answer", LONG, async || api.get("/v1/status/leader").await.ok()).await.unwrap();
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn tls_with_client_certificates_admits_those_who_have_one() {
    let (ca, wrong) = (TestCa::new("right").unwrap(), TestCa::new("wrong").unwrap());
    let consul = Consul::builder().tls(&ca).client_certs(&ca).start().await.unwrap();
    let members = async |server: &TestCa, client: Option<&TestCa>| {
        let mut args = vec![
            "members".to_owned(),
            format!("-http-addr=https://{}", consul.tls_address()),
            format!("-ca-file={}", server.cert().display()),
        ];
        let client = client.map(|ca| ca.client("app").unwrap());
        if let Some(client) = &client {
            args.push(format!("-client-cert={}", client.cert().display()));
            args.push(format!("-client-key={}", client.key().display()));
        }
        consul.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    assert!(members(&ca, Some(&ca)).await.unwrap().contains("n1"));
    for (server, client) in [(&ca, None), (&ca, Some(&wrong)), (&wrong, Some(&ca))] {
        members(server, client).await.unwrap_err();
    }
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_start_that_fails_tells_why() {
    let error = Consul::builder().config(json!({ "no_such_option": 1 })).start().await.unwrap_err();
    assert!(format!("{error:?}").contains("no_such_option"), "{error:?}");
}
