use registry_core::{Phase, ViewState};
use registry_testkit::{Eureka, eventually};

use crate::world::{Consumer, LONG, Provider, instance, lists};

const ALL: [&str; 3] = ["orders:a", "orders:b", "orders:c"];

async fn fleet(url: &str) -> [Provider; 3] {
    [
        Provider::start(url, instance("a")).await,
        Provider::start(url, instance("b")).await,
        Provider::start(url, instance("c")).await,
    ]
}

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn a_server_that_comes_back_empty_gets_everything_again_and_nobody_s_list_empties() {
    let eureka = Eureka::start().await.unwrap();
    let providers = fleet(&eureka.url()).await;
    let consumer = Consumer::start(&eureka.url(), 3).await;
    eureka.kill().await.unwrap();
    eureka.restart().await.unwrap();
    lists(&eureka, &ALL).await;
    for provider in &providers {
        provider.reaches(Phase::Live).await;
        let told = provider.told();
        assert!(told.len() % 2 == 0 && !told.is_empty(), "each loss is told, and its end: {told:?}");
    }
    eventually("a fresh view", LONG, async || {
        (consumer.upstream.freshness().state == ViewState::Fresh).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(consumer.fewest(), 3);
}

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn while_the_server_is_dead_the_list_stays_and_the_loss_is_told_once() {
    let eureka = Eureka::start().await.unwrap();
    let providers = fleet(&eureka.url()).await;
    let consumer = Consumer::start(&eureka.url(), 3).await;
    eureka.kill().await.unwrap();
    for provider in &providers {
        provider.reaches(Phase::Lost).await;
        assert_eq!(provider.told(), ["lost: Expired"]);
    }
    assert_eq!(consumer.upstream.freshness().state, ViewState::Stale);
    assert!(consumer.upstream.pick().is_ok());
    eureka.restart().await.unwrap();
    lists(&eureka, &ALL).await;
    for provider in &providers {
        provider.reaches(Phase::Live).await;
        assert_eq!(provider.told(), ["lost: Expired", "recovered"]);
    }
    assert_eq!(consumer.fewest(), 3);
}

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn a_frozen_server_is_as_good_as_dead_and_thaws_without_harm() {
    let eureka = Eureka::start().await.unwrap();
    let providers = fleet(&eureka.url()).await;
    let consumer = Consumer::start(&eureka.url(), 3).await;
    eureka.freeze().await.unwrap();
    for provider in &providers {
        provider.reaches(Phase::Lost).await;
        assert_eq!(provider.told(), ["lost: Expired"]);
    }
    assert_eq!(consumer.upstream.freshness().state, ViewState::Stale);
    eureka.thaw().unwrap();
    for provider in &providers {
        provider.reaches(Phase::Live).await;
        assert_eq!(provider.told(), ["lost: Expired", "recovered"]);
    }
    lists(&eureka, &ALL).await;
    assert_eq!(consumer.fewest(), 3);
}
