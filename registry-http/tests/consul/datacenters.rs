//! Two data centres.

use registry_core::Status;
use registry_testkit::Consul;

use crate::support::{View, connect, target};

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
