//! What others wrote, and what others read of ours.

use registry_testkit::Consul;

use crate::support::{connect, instance, target};

const KRATOS: &str = r#"{"ID":"inv-7f3a","Name":"inventory","Tags":["version=2.4.1"],"Address":"10.8.3.21","Port":9000,"Meta":{"team":"core","weight":"100","zone":"z1"},"TaggedAddresses":{"grpc":{"Address":"grpc://10.8.3.21:9000","Port":9000},"http":{"Address":"http://10.8.3.21:8080","Port":8080}},"Checks":[{"CheckID":"service:inv-7f3a","TTL":"20s","Status":"passing","DeregisterCriticalServiceAfter":"600s"}]}"#;
const SPRING: &str = r#"{"ID":"inventory-8080","Name":"inventory","Tags":[],"Address":"10.8.3.21","Meta":{"gRPC_port":"9000","secure":"false","team":"core","zone":"z1"},"Port":8080,"Check":{"CheckID":"service:inventory-8080","TTL":"30s","Status":"passing","DeregisterCriticalServiceAfter":"5m"}}"#;

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn other_fleets_records_are_found_and_a_bad_one_hides_nobody() {
    let consul = Consul::start().await.unwrap();
    let plain = r#"{"ID":"plain","Name":"inventory","Address":"10.0.0.1","Port":80}"#;
    let bad = r#"{"ID":"bad","Name":"inventory"}"#;
    for body in [KRATOS, SPRING, plain, bad] {
        consul.api().put("/v1/agent/service/register", body).await.unwrap().success().unwrap();
    }
    let node = connect(&consul.url()).await;
    node.finds(&target("inventory"), &["inv-7f3a@n1", "inventory-8080@n1", "plain@n1"]).await;
    let listing = node.lookup(&target("inventory")).await.unwrap();
    let rejected: Vec<_> = listing.rejected.iter().map(|key| key.id.as_str()).collect();
    assert_eq!(rejected, ["bad@n1"]);
    let kratos = listing.instances.iter().find(|one| one.id().as_str() == "inv-7f3a@n1").unwrap();
    let endpoints: Vec<_> = kratos.endpoints().iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["grpc://10.8.3.21:9000", "http://10.8.3.21:8080"]);
    assert_eq!((kratos.version(), kratos.zone()), (Some("2.4.1"), Some("z1")));
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn ours_look_like_anybodys_to_others() {
    let consul = Consul::start().await.unwrap();
    let node = connect(&consul.url()).await;
    let lease = node.grant(30).await;
    let ours = instance("orders", "a").to_builder();
    let ours = ours.version("2.4.1").zone("z1").tag("eu").metadata("team", "core").build().unwrap();
    lease.publish(&[node.record(&ours, 1)]).await.remove(0).unwrap();
    node.finds(&target("orders"), &["a"]).await;
    let listed = consul.api().get("/v1/health/service/orders?passing").await.unwrap().json();
    let service = &listed[0]["Service"];
    assert_eq!(
        (&service["ID"], &service["Address"], &service["Port"]),
        (&"orders:a".into(), &"10.0.0.7".into(), &8080.into())
    );
    assert_eq!(service["Tags"][0], "eu");
    for (key, value) in [("version", "2.4.1"), ("zone", "z1"), ("team", "core")] {
        assert_eq!(service["Meta"][key], value, "{key}");
    }
    assert_eq!(service["Weights"]["Passing"], 1, "neutral among others");
}
