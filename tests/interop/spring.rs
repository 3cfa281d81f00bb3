//! Spring Cloud: its discovery clients, and its load balancer behind a `RestClient`.

use std::{collections::BTreeSet, time::Duration};

#[cfg(feature = "consul")]
use registry_testkit::Consul;
#[cfg(feature = "eureka")]
use registry_testkit::Eureka;
#[cfg(feature = "nacos")]
use registry_testkit::{Nacos, NacosLine};
use registry_testkit::{SpringPeer, eventually};
use service_registry::{Attempt, tower::ServiceClient};
use tokio::time::timeout;

use crate::service::{Service, hello};

/// Until news have arrived; both sides look every second or sooner.
const LONG: Duration = Duration::from_secs(30);
/// Calls in each direction.
const CALLS: usize = 20;

#[cfg(feature = "eureka")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs eureka: cargo xtask servers"]
async fn spring_and_ours_call_each_other_on_eureka() {
    let eureka = Eureka::start().await.unwrap();
    meet(&eureka.url(), "poll=300ms").await;
}

#[cfg(feature = "consul")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs consul: cargo xtask servers"]
async fn spring_and_ours_call_each_other_on_consul() {
    let consul = Consul::start().await.unwrap();
    meet(&consul.url(), "wait=5s").await;
}

#[cfg(feature = "nacos")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nacos: cargo xtask servers"]
async fn spring_and_ours_call_each_other_on_nacos() {
    let nacos = Nacos::start(NacosLine::V3).await.unwrap();
    meet(&nacos.url(), "poll=1s").await;
}

#[cfg(feature = "nacos")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nacos: cargo xtask servers"]
async fn spring_and_ours_call_each_other_on_the_previous_nacos() {
    let nacos = Nacos::start(NacosLine::V2).await.unwrap();
    meet(&nacos.url(), "poll=1s").await;
}

/// Spring calls two instances of ours, ours call Spring, and one of ours leaves while Spring goes on calling.
async fn meet(server: &str, options: &str) {
    let url = format!("{server}?{options}");
    let one = Service::start(&url, "orders", "one").await;
    let two = Service::start(&url, "orders", "two").await;
    let spring = SpringPeer::start("billing", server).await.expect("Spring starts");

    let both = BTreeSet::from([one.uri().to_owned(), two.uri().to_owned()]);
    eventually("Spring sees both", LONG, async || {
        let seen: BTreeSet<_> = spring.instances("orders").await.ok()?.into_iter().collect();
        (seen == both).then_some(())
    })
    .await
    .expect("they are registered");
    let told = spring.instances_in_full("orders").await.expect("Spring answers");
    for instance in told.as_array().expect("a list") {
        assert_eq!(instance["metadata"]["language"], "Rust", "{instance}");
        assert_eq!(instance["secure"], false, "{instance}");
    }
    let mut answers = BTreeSet::new();
    for _ in 0..CALLS {
        answers.insert(spring.call("orders", "/hello").await.expect("no call fails"));
    }
    assert_eq!(answers, BTreeSet::from([hello("one"), hello("two")]));

    ours_calls(&url, &spring).await;

    let leaving = tokio::spawn(one.leave());
    let mut calls = 0;
    while !leaving.is_finished() {
        spring.call("orders", "/hello").await.expect("no call fails");
        calls += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let report = leaving.await.expect("it doesn't panic");
    assert!(report.is_clean(), "{report:?}");
    assert!(calls >= CALLS, "{calls} calls while an instance left are too few to tell");
    for _ in 0..CALLS {
        assert_eq!(spring.call("orders", "/hello").await.expect("no call fails"), hello("two"));
    }
    two.leave().await;
}

/// By a call of an upstream, and by a URL with the service's name as host.
async fn ours_calls(url: &str, spring: &SpringPeer) {
    const ANSWER: &str = r#"{"name":"billing"}"#;
    let http = reqwest::Client::builder().no_proxy().timeout(LONG).build().expect("a client");
    let client = service_registry::connect(url).await.expect("the URL is right");
    let billing = client.discover("billing").await.expect("a valid name");
    timeout(LONG, billing.ready(1)).await.expect("Spring is found").expect("the client is open");
    let found: Vec<_> = billing.snapshot().iter().map(|instance| instance.endpoint().to_string()).collect();
    assert_eq!(found, [format!("http://{}", spring.address())]);
    for _ in 0..CALLS {
        let answer = billing
            .call(async |instance| {
                let sent = http.get(format!("{}/whoami", instance.endpoint())).send().await;
                sent.map_err(Attempt::stop)?.text().await.map_err(Attempt::stop)
            })
            .await;
        assert_eq!(answer.expect("no call fails"), ANSWER);
    }
    let by_name = ServiceClient::new(&client, http);
    for _ in 0..CALLS {
        let answer = by_name.get("http://billing/whoami").send().await.expect("no call fails");
        assert_eq!(answer.text().await.expect("it is whole"), ANSWER);
    }
    client.close().await;
}
