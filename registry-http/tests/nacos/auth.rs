//! Servers that want a login.

use std::time::Duration;

use registry_core::ErrorKind;
use registry_testkit::{Nacos, NacosLine};
use tokio::time::{Instant, sleep};

use super::support::{connect_to, instance};

/// With a call, on a busy machine: a login takes the server a while.
const PATIENCE: Duration = Duration::from_secs(10);
const TOKEN_TTL: Duration = Duration::from_secs(4);

async fn outlives_its_token(line: NacosLine) {
    let nacos = Nacos::builder(line).auth(TOKEN_TTL).start().await.unwrap();
    let (user, password) = Nacos::ADMIN;
    let node =
        connect_to(&format!("nacos://{user}:{password}@{}?request_timeout=10s", nacos.address())).await;
    let lease = node.grant(Duration::from_secs(30)).await;
    node.publish(&lease, &instance("a")).await.unwrap();
    let end = Instant::now() + 3 * TOKEN_TTL;
    while Instant::now() < end {
        let renewal = lease.renew(Instant::now() + PATIENCE).await.unwrap();
        assert_eq!((renewal.lost, renewal.missed), (Vec::new(), Vec::new()));
        assert_eq!(node.lookup().await.unwrap().instances.len(), 1);
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(node.backend.catalogue.as_ref().unwrap().services().await.unwrap().len(), 1);

    for user_info in ["", "nacos:wrong@"] {
        let other = connect_to(&format!("nacos://{user_info}{}?request_timeout=10s", nacos.address())).await;
        let error = other.lookup().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{user_info}: {error:?}");
    }
    // What was given by hand can't be renewed.
    let other = connect_to(&format!("nacos://:made-up@{}?request_timeout=10s", nacos.address())).await;
    let error = other.lookup().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn a_client_outlives_its_tokens_on_3() {
    outlives_its_token(NacosLine::V3).await;
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn a_client_outlives_its_tokens_on_2() {
    outlives_its_token(NacosLine::V2).await;
}
