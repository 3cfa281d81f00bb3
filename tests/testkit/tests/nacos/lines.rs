//! What both lines do, and where they differ.

use std::time::Duration;

use registry_testkit::{HttpAnswer, Nacos, NacosLine, Proxy, eventually};

const LONG: Duration = Duration::from_secs(20);

async fn register(nacos: &Nacos, service: &str, port: u16, ephemeral: bool) -> HttpAnswer {
    let path = "/nacos/v1/ns/instance";
    let form = format!("serviceName={service}&ip=10.0.0.1&port={port}&ephemeral={ephemeral}");
    nacos.api().post(path, form).await.unwrap()
}

async fn ports(nacos: &Nacos, service: &str) -> Vec<u64> {
    let path = format!("/nacos/v1/ns/instance/list?serviceName={service}");
    let list = nacos.api().get(&path).await.unwrap().json();
    let hosts = list["hosts"].as_array().cloned().unwrap_or_default();
    hosts.iter().filter_map(|host| host["port"].as_u64()).collect()
}

async fn eventually_listed(nacos: &Nacos, service: &str, wanted: &[u64]) {
    eventually("the list", LONG, async || (ports(nacos, service).await == wanted).then_some(()))
        .await
        .unwrap();
}

/// A restart, a freeze, a wipe and a proxy: one server for all, as a start takes long.
async fn is_controlled(nacos: &Nacos) {
    assert!(register(nacos, "short", 80, true).await.is_success());
    assert!(register(nacos, "kept", 81, false).await.is_success());
    eventually_listed(nacos, "short", &[80]).await;
    eventually_listed(nacos, "kept", &[81]).await;
    let mixed = register(nacos, "kept", 82, true).await;
    assert_eq!(mixed.status, 400, "{mixed:?}");
    assert!(mixed.body.contains("persistent"), "{mixed:?}");

    nacos.freeze().await.unwrap();
    assert!(nacos.is_running());
    nacos.api().within(Duration::from_millis(300)).get("/nacos/v1/ns/operator/metrics").await.unwrap_err();
    nacos.thaw().unwrap();
    nacos.ready().await.unwrap();

    let proxy = Proxy::start(nacos.address()).await.unwrap();
    let api = nacos.api().via(proxy.address()).within(Duration::from_secs(1));
    proxy.hold();
    api.get("/nacos/v1/ns/operator/metrics").await.unwrap_err();
    proxy.restore().await;
    eventually("an answer", LONG, async || api.get("/nacos/v1/ns/operator/metrics").await.ok())
        .await
        .unwrap();

    nacos.kill().await.unwrap();
    for port in [nacos.address(), nacos.grpc()] {
        let refused = tokio::net::TcpStream::connect(port).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    nacos.restart().await.unwrap();
    eventually_listed(nacos, "short", &[]).await;
    eventually_listed(nacos, "kept", &[81]).await;
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn the_line_3_serves_v3_and_of_v1_what_clients_need() {
    let nacos = Nacos::start(NacosLine::V3).await.unwrap();
    let two = nacos.api().get("/nacos/v2/ns/instance/list?serviceName=a").await.unwrap();
    assert_eq!(two.status, 410, "{two:?}");
    let three = nacos.api().get("/nacos/v3/client/ns/instance/list?serviceName=a").await.unwrap();
    assert_eq!((three.status, three.json()["code"].as_i64()), (200, Some(0)), "{three:?}");
    let beat = nacos.api().put("/nacos/v1/ns/instance/beat", "serviceName=a&ip=10.0.0.1&port=80").await;
    assert_eq!(beat.unwrap().json()["code"], 20404);
    is_controlled(&nacos).await;
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn the_line_2_serves_v1_and_v2() {
    let nacos = Nacos::start(NacosLine::V2).await.unwrap();
    let two = nacos.api().get("/nacos/v2/ns/instance/list?serviceName=a").await.unwrap();
    assert_eq!((two.status, two.json()["code"].as_i64()), (200, Some(0)), "{two:?}");
    let three = nacos.api().get("/nacos/v3/client/ns/instance/list?serviceName=a").await.unwrap();
    assert_eq!(three.status, 404, "{three:?}");
    is_controlled(&nacos).await;
    nacos.kill().await.unwrap();
    nacos.wipe().await.unwrap();
    nacos.restart().await.unwrap();
    eventually_listed(&nacos, "kept", &[]).await;
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn the_older_apis_of_the_line_3_come_back_with_a_property() {
    let compatible =
        Nacos::builder(NacosLine::V3).property("nacos.core.api.compatibility.admin.enabled", "true");
    let nacos = compatible.start().await.unwrap();
    let two = nacos.api().get("/nacos/v2/ns/instance/list?serviceName=a").await.unwrap();
    assert_eq!((two.status, two.json()["code"].as_i64()), (200, Some(0)), "{two:?}");
    nacos.terminate().await.unwrap();
    assert!(!nacos.is_running());
}
