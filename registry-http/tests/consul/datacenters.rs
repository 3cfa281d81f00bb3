//! Two data centres.

use registry_core::Status;
use registry_testkit::{Consul, eventually};
use serde_json::json;

use crate::support::{LONG, View, connect, target};

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn the_next_data_centre_serves_while_the_first_has_nobody() {
    let here = Consul::builder().start().await.unwrap();
    let there = Consul::builder().datacenter("dc2").join_wan(&here).start().await.unwrap();
    let (near, far) = (connect(&format!("{}?wait=1s", here.url())).await, connect(&there.url()).await);
    let both = target("orders").with_qualifier("dc", "dc1,dc2").unwrap();
    let lease = far.grant(60).await;
    far.publish(&lease, "far").await.unwrap();
    near.finds(&both, &["far"]).await;
    near.finds(&target("orders"), &[]).await;

    let mut watch = View::new(near.watch(&both));
    watch.shows(&[("far", Status::Serving)]).await;
    let away = watch.events.last().unwrap().evidence.source.clone();
    let own = near.grant(60).await;
    near.publish(&own, "near").await.unwrap();
    watch.shows(&[("near", Status::Serving)]).await;
    assert_ne!(watch.events.last().unwrap().evidence.source, away, "other data");
    own.revoke().await.unwrap();
    watch.shows(&[("far", Status::Serving)]).await;

    // Nobody knows any more who is there, which is no empty list.
    there.kill().await.unwrap();
    let error = watch.failure().await;
    assert!(error.is_retryable(), "{error:?}");
    assert!(near.lookup(&both).await.is_err());
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_prepared_query_is_found_by_its_name() {
    let consul = Consul::start().await.unwrap();
    let node = connect(&format!("{}?poll=1s", consul.url())).await;
    let query = r#"{"Name":"nearest","Service":{"Service":"orders","OnlyPassing":true}}"#;
    consul.api().post("/v1/query", query).await.unwrap().success().unwrap();
    let lease = node.grant(60).await;
    node.publish(&lease, "a").await.unwrap();
    let prepared = target("orders").with_qualifier("query", "nearest").unwrap();
    node.finds(&prepared, &["a"]).await;
    let mut watch = View::new(node.watch(&prepared));
    watch.shows(&[("a", Status::Serving)]).await;
    node.publish(&lease, "b").await.unwrap();
    watch.shows(&[("a", Status::Serving), ("b", Status::Serving)]).await;
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_prepared_query_that_fails_over_gives_addresses_that_lead_there() {
    let here = Consul::builder().start().await.unwrap();
    let there = Consul::builder().datacenter("dc2").join_wan(&here).start().await.unwrap();
    let registered = |address: &str| {
        let wan = json!({"Address": "198.51.100.1", "Port": 8080});
        json!({"ID": "i", "Name": "orders", "Address": address, "Port": 80, "TaggedAddresses": {"wan": wan}})
    };
    let path = "/v1/agent/service/register";
    there.api().put(path, registered("10.2.0.1").to_string()).await.unwrap().success().unwrap();
    let query =
        json!({"Name": "nearest", "Service": {"Service": "orders", "Failover": {"Datacenters": ["dc2"]}}});
    here.api().post("/v1/query", query.to_string()).await.unwrap().success().unwrap();
    let near = connect(&here.url()).await;
    let prepared = target("orders").with_qualifier("query", "nearest").unwrap();
    let endpoint = async |wanted: &str| {
        let mut last = None;
        let found = eventually("an endpoint", LONG, async || {
            last = near.lookup(&prepared).await.ok()?.instances.first().map(|one| one.endpoint().to_string());
            (last.as_deref() == Some(wanted)).then_some(())
        });
        assert!(found.await.is_ok(), "{last:?} rather than {wanted}");
    };
    endpoint("http://198.51.100.1:8080").await;
    here.api().put(path, registered("10.1.0.1").to_string()).await.unwrap().success().unwrap();
    endpoint("http://10.1.0.1:80").await;
}
