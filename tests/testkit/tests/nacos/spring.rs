//! A Spring application on the same registry.

use std::time::Duration;

use registry_testkit::{Nacos, NacosLine, SpringPeer, eventually};

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn spring_is_listed_and_calls_the_smallest_instance() {
    let nacos = Nacos::start(NacosLine::V3).await.unwrap();
    let peer = SpringPeer::start("billing", &nacos.url()).await.unwrap();
    let list = "/nacos/v3/client/ns/instance/list?serviceName=billing";
    let listed = nacos.api().get(list).await.unwrap().json();
    assert_eq!(listed["data"][0]["port"], peer.address().port());

    // The peer itself stands behind the instance.
    let form = format!("serviceName=orders&ip=127.0.0.1&port={}", peer.address().port());
    let registered = nacos.api().post("/nacos/v3/client/ns/instance", form).await.unwrap();
    assert_eq!(registered.json()["code"], 0, "{registered:?}");
    let answer =
        eventually("a call", LONG, async || peer.call("orders", "/whoami").await.ok()).await.unwrap();
    assert_eq!(answer, r#"{"name":"billing"}"#);

    peer.terminate().await.unwrap();
    eventually("its leaving", LONG, async || {
        let listed = nacos.api().get(list).await.ok()?.json();
        listed["data"].as_array()?.is_empty().then_some(())
    })
    .await
    .unwrap();
}
