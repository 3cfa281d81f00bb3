use std::time::Duration;

use registry_core::{Phase, Status, Weight};
use registry_testkit::{Eureka, eventually};

use crate::world::{Consumer, LONG, Provider, instance, lists};

const STATUS: &str = "/eureka/apps/ORDERS/orders:a/status";

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn an_operator_s_override_survives_re_registration_until_he_ends_it() {
    let eureka = Eureka::start().await.unwrap();
    let provider = Provider::start(&eureka.url(), instance("a")).await;
    let consumer = Consumer::start(&eureka.url(), 1).await;
    eureka.api().put(&format!("{STATUS}?value=OUT_OF_SERVICE"), "").await.unwrap().success().unwrap();
    consumer.sees_status("a", Status::Draining).await;
    provider.registration.set_weight(Weight::new(7).unwrap()).unwrap();
    provider.registration.updated(LONG).await.unwrap();
    consumer.sees("a", "the update", |instance| instance.weight().get() == 7).await;
    consumer.sees_status("a", Status::Draining).await;
    assert_eq!(provider.registration.phase(), Phase::Live);
    eureka.api().delete(&format!("{STATUS}?value=UP")).await.unwrap().success().unwrap();
    consumer.sees_status("a", Status::Serving).await;
    assert_eq!(provider.told(), Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn each_status_can_be_left_for_each_other() {
    use Status::{Down, Draining, Serving, Starting};

    let eureka = Eureka::start().await.unwrap();
    let first = instance("a").to_builder().status(Draining).build().unwrap();
    let provider = Provider::start(&eureka.url(), first).await;
    let consumer = Consumer::start(&eureka.url(), 0).await;
    consumer.sees_status("a", Draining).await;
    for status in [
        Serving, Draining, Starting, Draining, Down, Draining, Serving, Starting, Serving, Down, Serving,
        Draining,
    ] {
        provider.registration.set_status(status).unwrap();
        provider.registration.updated(LONG).await.unwrap();
        consumer.sees_status("a", status).await;
    }
    assert_eq!((provider.registration.phase(), provider.told()), (Phase::Live, vec![]));
}

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn an_override_that_is_ended_without_a_status_is_a_loss_that_heals() {
    let eureka = Eureka::start().await.unwrap();
    let provider = Provider::start(&eureka.url(), instance("a")).await;
    let consumer = Consumer::start(&eureka.url(), 1).await;
    eureka.api().put(&format!("{STATUS}?value=OUT_OF_SERVICE"), "").await.unwrap().success().unwrap();
    eureka.api().delete(STATUS).await.unwrap().success().unwrap();
    let healed = eventually("the loss and its end", LONG, async || {
        (provider.told() == ["lost: Missing", "recovered"]).then_some(())
    });
    assert!(healed.await.is_ok(), "{:?}", provider.told());
    consumer.sees_status("a", Status::Serving).await;
}

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn who_is_deleted_by_hand_comes_back_and_who_leaves_is_gone() {
    let eureka = Eureka::start().await.unwrap();
    let a = Provider::start(&eureka.url(), instance("a")).await;
    let b = Provider::start(&eureka.url(), instance("b")).await;
    eureka.api().delete("/eureka/apps/ORDERS/orders:a").await.unwrap().success().unwrap();
    lists(&eureka, &["orders:a", "orders:b"]).await;
    a.reaches(Phase::Live).await;
    assert_eq!(a.told(), ["lost: Missing", "recovered"]);
    b.client.drain(registry_core::Drain::default().propagate(Duration::from_millis(100))).await;
    lists(&eureka, &["orders:a"]).await;
}
