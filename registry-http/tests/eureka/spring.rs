use registry_core::{Instance, Status};
use registry_testkit::{Eureka, SpringPeer, eventually};

use crate::world::{LONG, Provider, client};

async fn spring_sees(spring: &SpringPeer, service: &str, expected: &[String]) {
    let mut last = Vec::new();
    let seen = eventually("Spring's view", LONG, async || {
        last = spring.instances(service).await.unwrap();
        (last == expected).then_some(())
    });
    let seen = seen.await;
    assert!(seen.is_ok(), "Spring sees {last:?} rather than {expected:?}");
}

#[tokio::test]
#[ignore = "needs eureka: cargo xtask servers"]
async fn spring_and_we_find_and_call_each_other_and_spring_leaves_alone_who_drains() {
    let eureka = Eureka::start().await.unwrap();
    let spring = SpringPeer::start("inventory", &eureka.url()).await.unwrap();
    let uri = format!("http://{}", spring.address());

    let consumer = client(&eureka.url()).await;
    let inventory = consumer.discover("inventory").await.unwrap();
    inventory.ready_within(1, LONG).await.unwrap();
    let picked = inventory.pick().unwrap();
    assert_eq!((picked.endpoint().to_string(), picked.status()), (uri.clone(), Status::Serving));
    assert!(consumer.services().await.unwrap().iter().any(|service| service.as_str() == "inventory"));

    // What listens there is Spring itself; it finds it under our name.
    let ours = Instance::builder("orders").id("a").endpoint(&uri).zone("z1").version("2").build().unwrap();
    let provider = Provider::start(&eureka.url(), ours).await;
    spring_sees(&spring, "orders", std::slice::from_ref(&uri)).await;
    assert!(spring.call("orders", "/whoami").await.unwrap().contains("inventory"));
    let metadata = &spring.instances_in_full("orders").await.unwrap()[0]["metadata"];
    assert_eq!((metadata["zone"].as_str(), metadata["version"].as_str()), (Some("z1"), Some("2")));

    provider.registration.set_status(Status::Draining).unwrap();
    spring_sees(&spring, "orders", &[]).await;
    provider.registration.set_status(Status::Serving).unwrap();
    spring_sees(&spring, "orders", &[uri]).await;
    provider.registration.deregister().await;
    spring_sees(&spring, "orders", &[]).await;
}
