use std::time::Duration;

use registry_core::{ErrorKind, Phase, ViewState};
use registry_testkit::{Eureka, eventually};

use crate::world::{Consumer, LONG, Provider, client, instance, lists};

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

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn a_server_that_waits_for_its_peers_is_not_one_that_refuses_us() {
    // As Netflix's own server does; Spring's takes itself for a peer unless told otherwise.
    let eureka = Eureka::builder()
        .property("eureka.instance.registry.default-open-for-traffic-count", "0")
        .property("eureka.server.wait-time-in-ms-when-sync-empty", "12000")
        .start()
        .await
        .unwrap();
    let client = client(&eureka.url()).await;
    let mut refused = Vec::new();
    eureka.kill().await.unwrap();
    let watching = async {
        loop {
            match client.services().await {
                Ok(_) => break,
                Err(error) if error.to_string().contains("403") => refused.push(error.kind()),
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Until it gives its lists out.
    let (started, ()) = tokio::join!(eureka.restart(), watching);
    started.unwrap();
    assert!(!refused.is_empty(), "it waits");
    assert!(refused.iter().all(|kind| *kind == ErrorKind::Unavailable), "{refused:?}");
}
