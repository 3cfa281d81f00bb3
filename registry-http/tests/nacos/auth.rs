//! Servers that want a login.

use std::time::Duration;

use registry_core::ErrorKind;
use registry_testkit::{Nacos, NacosLine};
use tokio::time::{Instant, sleep};

use super::support::{connect_to, instance};

const TOKEN_TTL: Duration = Duration::from_secs(4);

async fn outlives_its_token(line: NacosLine) {
    let nacos = Nacos::builder(line).auth(TOKEN_TTL).start().await.unwrap();
    let (user, password) = Nacos::ADMIN;
    let node = connect_to(&format!("nacos://{user}:{password}@{}", nacos.address())).await;
    let lease = node.grant(Duration::from_secs(30)).await;
    node.publish(&lease, &instance("a")).await.unwrap();
    let end = Instant::now() + 3 * TOKEN_TTL;
    while Instant::now() < end {
        let renewal = lease.renew(Instant::now() + Duration::from_secs(2)).await.unwrap();
        assert_eq!((renewal.lost, renewal.missed), (Vec::new(), Vec::new()));
        assert_eq!(node.lookup().await.unwrap().instances.len(), 1);
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(node.backend.catalogue.as_ref().unwrap().services().await.unwrap().len(), 1);

    for user_info in ["", "nacos:wrong@"] {
        let other = connect_to(&format!("nacos://{user_info}{}", nacos.address())).await;
        let error = other.lookup().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{user_info}: {error:?}");
    }
    // A server that was restarted with another key refuses what it gave; so does one that forgot.
    let other = connect_to(&format!("nacos://:made-up@{}", nacos.address())).await;
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
