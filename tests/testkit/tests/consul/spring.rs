//! A Spring application on the same registry.

use std::time::Duration;

use registry_testkit::{Consul, SpringPeer, eventually};
use serde_json::json;

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn spring_is_listed_and_calls_the_smallest_instance() {
    let consul = Consul::start().await.unwrap();
    let peer = SpringPeer::start("billing", &consul.url()).await.unwrap();
    let listed = consul.api().get("/v1/health/service/billing?passing").await.unwrap().json();
    assert_eq!(listed[0]["Service"]["Port"], peer.address().port());

    // The peer itself stands behind the instance.
    let service =
        json!({ "ID": "a", "Name": "orders", "Address": "127.0.0.1", "Port": peer.address().port() });
    let registered = consul.api().put("/v1/agent/service/register", service.to_string()).await.unwrap();
    assert_eq!(registered.status, 200, "{registered:?}");
    let answer =
        eventually("a call", LONG, async || peer.call("orders", "/whoami").await.ok()).await.unwrap();
    assert_eq!(answer, r#"{"name":"billing"}"#);
    assert_eq!(peer.instances("orders").await.unwrap(), [format!("http://{}", peer.address())]);

    peer.terminate().await.unwrap();
    eventually("its leaving", LONG, async || {
        let listed = consul.api().get("/v1/health/service/billing").await.ok()?.json();
        (listed == json!([])).then_some(())
    })
    .await
    .unwrap();
}
