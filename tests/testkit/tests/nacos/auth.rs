//! With users.

use std::time::Duration;

use registry_testkit::{Nacos, NacosLine, eventually};

const LONG: Duration = Duration::from_secs(20);

async fn only_those_with_a_living_token_are_served(line: NacosLine) {
    let path = "/nacos/v1/ns/instance/list?serviceName=a";
    let nacos = Nacos::builder(line).auth(Duration::from_secs(3)).start().await.unwrap();
    let nobody = nacos.api().get(path).await.unwrap();
    assert_eq!(nobody.status, 403, "{nobody:?}");
    let (user, password) = Nacos::ADMIN;
    let known = nacos.api_of(user, password).await.unwrap();
    assert_eq!(known.get(path).await.unwrap().status, 200);
    eventually("the token's end", LONG, async || (known.get(path).await.ok()?.status == 403).then_some(()))
        .await
        .unwrap();
    nacos.api_of(user, "wrong").await.unwrap_err();
    nacos.kill().await.unwrap();
    nacos.restart().await.unwrap();
    nacos.api_of(user, password).await.unwrap();
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn the_line_3_serves_who_has_a_living_token() {
    only_those_with_a_living_token_are_served(NacosLine::V3).await;
}

#[tokio::test]
#[ignore = "needs nacos: cargo xtask servers"]
async fn the_line_2_serves_who_has_a_living_token() {
    only_those_with_a_living_token_are_served(NacosLine::V2).await;
}
