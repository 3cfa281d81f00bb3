//! Checks that Consul makes itself, and operators.

use std::time::Duration;

use registry_core::{
    Instance, Status,
    backend::{Lifetime, Presence},
};
use registry_testkit::{Consul, eventually};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};

use crate::{
    grpc_health::GrpcHealth,
    support::{LONG, Node, View, connect, instance, key, target},
};

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn consul_asks_an_http_endpoint_and_nobody_beats() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let app = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            assert!(request.starts_with(b"GET /health "));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    let consul = Consul::start().await.unwrap();
    let url = format!("{}?check=http&check_path=/health&check_interval=1s&wait=2s", consul.url());
    let node = connect(&url).await;
    let lease = node.grant(15).await;
    assert!(matches!(lease.lifetime(), Lifetime::Verified { .. }));
    let instance =
        Instance::builder("orders").id("a").endpoint(format!("http://127.0.0.1:{port}")).build().unwrap();
    lease.publish(&[node.record(&instance, 1)]).await.remove(0).unwrap();
    let mut watch = View::new(node.watch(&target("orders")));
    watch.shows(&[("a", Status::Serving)]).await;
    assert!(matches!(lease.inspect(&[key("a")]).await.unwrap()[..], [Presence::Ours { .. }]));
    // Two rounds of the check later it still stands.
    tokio::time::sleep(Duration::from_secs(3)).await;
    node.finds(&target("orders"), &["a"]).await;
    app.abort();
    watch.shows(&[]).await;
    let again = lease.publish(&[node.record(&instance, 2)]).await.remove(0);
    assert!(again.unwrap_err().to_string().contains("check"), "it says why nobody sees it");
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn consul_asks_a_grpc_endpoint_and_one_whose_check_fails_is_lost_until_it_passes() {
    let health = GrpcHealth::start("orders.v1.Orders").await;
    let consul = Consul::start().await.unwrap();
    let url = format!("{}?check=grpc&check_path=orders.v1.Orders&check_interval=1s&wait=2s", consul.url());
    let node = connect(&url).await;
    let lease = node.grant(15).await;
    let endpoint = format!("grpc://127.0.0.1:{}", health.port);
    let instance = Instance::builder("orders").id("a").endpoint(endpoint).build().unwrap();
    let mut watch = View::new(node.watch(&target("orders")));
    let record = node.record(&instance, 1);
    let publish = async || lease.publish(std::slice::from_ref(&record)).await.remove(0);
    publish().await.unwrap();
    watch.shows(&[("a", Status::Serving)]).await;
    let asked = eventually("it is asked", LONG, async || (health.asked() > 1).then_some(()));
    asked.await.unwrap();
    node.finds(&target("orders"), &["a"]).await;
    assert!(matches!(lease.inspect(&[key("a")]).await.unwrap()[..], [Presence::Ours { .. }]));

    health.serve(false);
    watch.shows(&[]).await;
    assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Failing]);
    assert!(publish().await.unwrap_err().to_string().contains("check"));
    health.serve(true);
    watch.shows(&[("a", Status::Serving)]).await;
    publish().await.unwrap();
    assert!(matches!(lease.inspect(&[key("a")]).await.unwrap()[..], [Presence::Ours { .. }]));
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn one_that_is_registered_out_of_traffic_is_in_maintenance_like_any_other() {
    let consul = Consul::start().await.unwrap();
    let node = connect(&format!("{}?wait=2s", consul.url())).await;
    let lease = node.grant(30).await;
    let api = consul.api();
    let passing = async || {
        let list = api.get("/v1/health/service/orders?passing").await.unwrap().json();
        list.as_array().unwrap().len()
    };
    let with = |status| instance("orders", "a").to_builder().status(status).build().unwrap();
    let publish = async |node: &Node, status, sequence| {
        lease.publish(&[node.record(&with(status), sequence)]).await.remove(0).unwrap();
    };
    let mut watch = View::new(node.watch(&target("orders")));
    publish(&node, Status::Starting, 1).await;
    watch.shows(&[("a", Status::Starting)]).await;
    assert_eq!(passing().await, 0);
    publish(&node, Status::Draining, 2).await;
    watch.shows(&[("a", Status::Draining)]).await;
    assert_eq!(passing().await, 0);
    publish(&node, Status::Serving, 3).await;
    watch.shows(&[("a", Status::Serving)]).await;
    assert_eq!(passing().await, 1);
    lease.revoke().await.unwrap();

    publish(&node, Status::Draining, 4).await;
    watch.shows(&[("a", Status::Draining)]).await;
    // An operator lifts it as any.
    let path = "/v1/agent/service/maintenance/orders:a?enable=false";
    api.put(path, "").await.unwrap().success().unwrap();
    let checks = api.get("/v1/agent/checks").await.unwrap().json();
    assert_eq!(checks["_service_maintenance:orders:a"], serde_json::Value::Null);
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn consul_connects_to_an_endpoint_and_hides_it_once_its_port_is_closed() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", app.local_addr().unwrap());
    let consul = Consul::start().await.unwrap();
    let node = connect(&format!("{}?check=tcp&check_interval=1s&read=cached&wait=2s", consul.url())).await;
    let lease = node.grant(15).await;
    let instance = Instance::builder("orders").id("a").endpoint(endpoint).build().unwrap();
    lease.publish(&[node.record(&instance, 1)]).await.remove(0).unwrap();
    let mut watch = View::new(node.watch(&target("orders")));
    watch.shows(&[("a", Status::Serving)]).await;
    let (connection, _) = tokio::time::timeout(LONG, app.accept()).await.expect("it is asked").unwrap();
    drop(connection);
    let passed = eventually("it passed", LONG, async || {
        let checks = consul.api().get("/v1/agent/checks").await.ok()?.json();
        let check = &checks["service:orders:a"];
        (check["Output"].as_str()?.contains("Success") && check["Status"] == "passing").then_some(())
    });
    passed.await.unwrap();
    node.finds(&target("orders"), &["a"]).await;
    assert!(matches!(lease.inspect(&[key("a")]).await.unwrap()[..], [Presence::Ours { .. }]));

    drop(app);
    watch.shows(&[]).await;
    assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Failing]);
    node.finds(&target("orders"), &[]).await;
}

/// Consul removes nothing before a minute, and looks for what to remove twice a minute.
#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn one_that_fails_for_long_is_removed_by_consul_and_comes_back_when_it_passes() {
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = app.local_addr().unwrap();
    let consul = Consul::start().await.unwrap();
    let options = "check=tcp&check_interval=1s&deregister_after=1m";
    let node = connect(&format!("{}?{options}", consul.url())).await;
    let lease = node.grant(15).await;
    let instance = Instance::builder("orders").id("a").endpoint(format!("http://{address}")).build().unwrap();
    let publish = async |sequence| lease.publish(&[node.record(&instance, sequence)]).await.remove(0);
    publish(1).await.unwrap();
    node.finds(&target("orders"), &["a"]).await;
    drop(app);
    node.finds(&target("orders"), &[]).await;
    assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Failing]);
    let failed = Instant::now();
    let removed = eventually("Consul removes it", Duration::from_secs(150), async || {
        let held = consul.api().get("/v1/agent/services").await.ok()?.json();
        held.get("orders:a").is_none().then_some(())
    });
    removed.await.unwrap();
    assert!(failed.elapsed() > Duration::from_secs(50), "{:?}", failed.elapsed());
    // Nobody deleted it, so that it isn't missing.
    assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Failing]);
    assert!(publish(2).await.is_err(), "nobody sees it before it passes");
    let _app = TcpListener::bind(address).await.unwrap();
    let back = eventually("it is seen", LONG, async || publish(2).await.ok());
    back.await.unwrap();
    node.finds(&target("orders"), &["a"]).await;
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn an_instance_deleted_by_hand_is_missing() {
    let consul = Consul::start().await.unwrap();
    let node = connect(&format!("{}?check=tcp", consul.url())).await;
    let lease = node.grant(15).await;
    node.publish(&lease, "a").await.unwrap();
    assert!(matches!(lease.inspect(&[key("a")]).await.unwrap()[..], [Presence::Ours { .. }]));
    consul.api().put("/v1/agent/service/deregister/orders:a", "").await.unwrap().success().unwrap();
    assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Missing]);
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn maintenance_is_draining_and_an_operators_outlives_our_updates() {
    let consul = Consul::start().await.unwrap();
    let node = connect(&format!("{}?wait=2s", consul.url())).await;
    let lease = node.grant(30).await;
    node.publish(&lease, "a").await.unwrap();
    let mut watch = View::new(node.watch(&target("orders")));
    watch.shows(&[("a", Status::Serving)]).await;

    let path = "/v1/agent/service/maintenance/orders:a?enable=";
    let api = consul.api();
    api.put(&format!("{path}true&reason=disk"), "").await.unwrap().success().unwrap();
    watch.shows(&[("a", Status::Draining)]).await;
    lease.publish(&[node.record(&instance("orders", "a"), 2)]).await.remove(0).unwrap();
    let checks = api.get("/v1/agent/checks").await.unwrap().json();
    assert_eq!(checks["_service_maintenance:orders:a"]["Notes"], "disk");
    api.put(&format!("{path}false"), "").await.unwrap().success().unwrap();
    watch.shows(&[("a", Status::Serving)]).await;

    for status in [Status::Starting, Status::Draining, Status::Down, Status::Serving] {
        let instance = instance("orders", "a").to_builder().status(status).build().unwrap();
        lease.publish(&[node.record(&instance, 3)]).await.remove(0).unwrap();
        watch.shows(&[("a", status)]).await;
        // What others see, who know nothing of us.
        let passing = api.get("/v1/health/service/orders?passing").await.unwrap().json();
        assert_eq!(passing.as_array().unwrap().len(), usize::from(status == Status::Serving), "{status}");
    }
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn one_that_takes_a_crashed_ones_place_is_seen_at_once_and_not_after_consuls_next_check() {
    let health = GrpcHealth::start("").await;
    let consul = Consul::start().await.unwrap();
    let check = json!({"CheckID": "service:orders:a", "TCP": "127.0.0.1:1", "Interval": "1s"});
    let left =
        json!({"ID": "orders:a", "Name": "orders", "Address": "127.0.0.1", "Port": 1, "Checks": [check]});
    consul.api().put("/v1/agent/service/register", left.to_string()).await.unwrap().success().unwrap();
    let node = connect(&format!("{}?check=tcp&check_interval=10m&wait=2s", consul.url())).await;
    let critical = eventually("it fails", LONG, async || {
        let checks = consul.api().get("/v1/agent/checks").await.ok()?.json();
        (checks["service:orders:a"]["Output"].as_str()?.contains("refused")).then_some(())
    });
    critical.await.unwrap();
    let lease = node.grant(15).await;
    let endpoint = format!("http://127.0.0.1:{}", health.port);
    let instance = Instance::builder("orders").id("a").endpoint(endpoint).build().unwrap();
    lease.publish(&[node.record(&instance, 1)]).await.remove(0).unwrap();
    node.finds(&target("orders"), &["a"]).await;
    assert!(matches!(lease.inspect(&[key("a")]).await.unwrap()[..], [Presence::Ours { .. }]));
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_check_that_an_operator_added_hides_an_instance_until_it_passes() {
    let consul = Consul::start().await.unwrap();
    let node = connect(&format!("{}?wait=2s", consul.url())).await;
    let lease = node.grant(60).await;
    node.publish(&lease, "a").await.unwrap();
    node.finds(&target("orders"), &["a"]).await;
    for service in [Some("orders:a"), None] {
        let mut check = json!({"ID": "disk", "Name": "disk", "TTL": "60s"});
        if let Some(service) = service {
            check["ServiceID"] = service.into();
        }
        let api = consul.api();
        api.put("/v1/agent/check/register", check.to_string()).await.unwrap().success().unwrap();
        node.finds(&target("orders"), &[]).await;
        assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Failing]);
        let again = lease.publish(&[node.record(&instance("orders", "a"), 2)]).await.remove(0);
        assert!(again.unwrap_err().to_string().contains("disk"));
        api.put("/v1/agent/check/pass/disk", "").await.unwrap().success().unwrap();
        node.finds(&target("orders"), &["a"]).await;
        assert!(matches!(lease.inspect(&[key("a")]).await.unwrap()[..], [Presence::Ours { .. }]));
        // Which replaces the check as well, if it is the service's own.
        node.publish(&lease, "a").await.unwrap();
    }
}
