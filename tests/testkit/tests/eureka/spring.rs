//! A Spring application on the same registry.

use registry_testkit::{Eureka, SpringPeer, eventually};
use serde_json::json;

use crate::instance::{LONG, eventually_listed, listed};

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn spring_is_listed_and_calls_the_smallest_instance() {
    let eureka = Eureka::start().await.unwrap();
    let peer = SpringPeer::start("billing", &eureka.url()).await.unwrap();
    let own = format!("billing:{}", peer.address().port());
    eventually("the list", LONG, async || (listed(&eureka, "billing").await == [own.clone()]).then_some(()))
        .await
        .unwrap();

    // The peer itself stands behind the instance.
    let body = json!({ "instance": {
        "instanceId": "a", "hostName": "127.0.0.1", "app": "orders", "vipAddress": "orders",
        "ipAddr": "127.0.0.1", "port": { "$": peer.address().port(), "@enabled": "true" },
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn",
        },
    } });
    let registered = eureka.api().post("/eureka/apps/orders", body.to_string()).await.unwrap();
    assert_eq!(registered.status, 204, "{registered:?}");
    let answer =
        eventually("a call", LONG, async || peer.call("orders", "/whoami").await.ok()).await.unwrap();
    assert_eq!(answer, r#"{"name":"billing"}"#);

    peer.terminate().await.unwrap();
    eventually_listed(&eureka, "billing", &[]).await;
}
