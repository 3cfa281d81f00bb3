//! One server.

use std::time::Duration;

use registry_testkit::{Eureka, Proxy, eventually};

use crate::instance::{LONG, eventually_listed, register};

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn a_restart_forgets_and_a_freeze_does_not() {
    let eureka = Eureka::start().await.unwrap();
    register(&eureka, "orders", "a", 600).await;
    eventually_listed(&eureka, "orders", &["a"]).await;

    eureka.freeze().await.unwrap();
    assert!(eureka.is_running());
    eureka.api().within(Duration::from_millis(300)).get("/eureka/apps").await.unwrap_err();
    eureka.thaw().unwrap();
    eureka.ready().await.unwrap();
    eventually_listed(&eureka, "orders", &["a"]).await;

    eureka.kill().await.unwrap();
    let refused = tokio::net::TcpStream::connect(eureka.address()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    eureka.restart().await.unwrap();
    eventually_listed(&eureka, "orders", &[]).await;
}

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn who_never_renews_is_gone_and_who_is_unknown_is_told_so() {
    let eureka = Eureka::start().await.unwrap();
    register(&eureka, "orders", "short", 1).await;
    register(&eureka, "orders", "long", 600).await;
    eventually_listed(&eureka, "orders", &["long"]).await;
    for (id, status) in [("long", 200), ("short", 404), ("nobody", 404)] {
        let beat = eureka.api().put(&format!("/eureka/apps/ORDERS/{id}"), "").await.unwrap();
        assert_eq!(beat.status, status, "{id}");
    }

    let proxy = Proxy::start(eureka.address()).await.unwrap();
    let api = eureka.api().via(proxy.address()).within(Duration::from_secs(1));
    assert_eq!(api.get("/eureka/apps").await.unwrap().status, 200);
    proxy.hold();
    api.get("/eureka/apps").await.unwrap_err();
    proxy.restore().await;
    eventually("an answer", LONG, async || api.get("/eureka/apps").await.ok()).await.unwrap();
}

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn a_property_is_stronger_than_the_launcher_s_own() {
    let eureka = Eureka::builder().property("eureka.server.disable-delta", "true").start().await.unwrap();
    assert_eq!(eureka.api().get("/eureka/apps/delta").await.unwrap().status, 403);
    eureka.terminate().await.unwrap();
    assert!(!eureka.is_running());
}
