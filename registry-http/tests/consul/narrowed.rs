//! Tokens that may read some nodes only, and some that may read less than they did.

use registry_core::{ErrorKind, Status};
use registry_testkit::{Consul, eventually};
use serde_json::json;

use crate::{
    access::{token, url},
    support::{LONG, View, connect, target},
};

/// An agent that forgets at once what a token might.
async fn strict() -> Consul {
    let config = json!({"acl": {"token_ttl": "0s", "policy_ttl": "0s"}});
    Consul::builder().acl().config(config).start().await.unwrap()
}

/// An instance on a node without an agent; its id in a list is `{id}@{node}`.
async fn stands(consul: &Consul, node: &str, id: &str) {
    let service = json!({"ID": id, "Service": "orders", "Address": "10.0.0.7", "Port": 80});
    let body = json!({"Node": node, "Address": "10.0.0.7", "Service": service}).to_string();
    consul.api().put("/v1/catalog/register", body).await.unwrap().success().unwrap();
}

async fn goes(consul: &Consul, node: &str, id: &str) {
    let body = json!({"Node": node, "ServiceID": id}).to_string();
    consul.api().put("/v1/catalog/deregister", body).await.unwrap().success().unwrap();
}

fn reads(nodes: &[&str]) -> String {
    let nodes: Vec<String> =
        nodes.iter().map(|node| format!(r#"node "{node}" {{ policy = "read" }}"#)).collect();
    format!(r#"service_prefix "" {{ policy = "read" }} {}"#, nodes.join(" "))
}

/// Gives the policy `name` other rules.
async fn rule(consul: &Consul, name: &str, rules: &str) {
    let policy = consul.api().get(&format!("/v1/acl/policy/name/{name}")).await.unwrap().json();
    let path = format!("/v1/acl/policy/{}", policy["ID"].as_str().unwrap());
    let body = json!({"Name": name, "Rules": rules}).to_string();
    consul.api().put(&path, body).await.unwrap().success().unwrap();
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn who_may_read_some_nodes_finds_what_stands_on_those() {
    let consul = strict().await;
    for (node, id) in [("x1", "a"), ("x2", "b"), ("x3", "c")] {
        stands(&consul, node, id).await;
    }
    let (_, secret) = token(&consul, "some", &reads(&["x1", "x2"])).await;
    let reader = connect(&url(&consul, &secret)).await;
    reader.finds(&target("orders"), &["a@x1", "b@x2"]).await;
    let listing = reader.lookup(&target("orders")).await.unwrap();
    assert!(listing.evidence.partial, "{:?}", listing.evidence);
    let mut watch = View::new(reader.watch(&target("orders")));
    watch.shows(&[("a@x1", Status::Serving), ("b@x2", Status::Serving)]).await;
    // What it may see comes and goes as for anybody; what it may not see changes nothing.
    goes(&consul, "x3", "c").await;
    stands(&consul, "x3", "d").await;
    goes(&consul, "x2", "b").await;
    watch.shows(&[("a@x1", Status::Serving)]).await;
    stands(&consul, "x1", "e").await;
    watch.shows(&[("a@x1", Status::Serving), ("e@x1", Status::Serving)]).await;
    // Whatever it is called.
    let odd = r#"say "hi" \ `ü`"#;
    stands(&consul, "x1", odd).await;
    let name = format!("{odd}@x1");
    let mut all = [("a@x1", Status::Serving), ("e@x1", Status::Serving), (&*name, Status::Serving)];
    all.sort_unstable_by_key(|(id, _)| *id);
    watch.shows(&all).await;
    goes(&consul, "x1", odd).await;
    watch.shows(&[("a@x1", Status::Serving), ("e@x1", Status::Serving)]).await;
    assert!(watch.events.iter().all(|event| event.evidence.partial));
    let manager = connect(&url(&consul, Consul::MANAGEMENT)).await;
    assert!(!manager.lookup(&target("orders")).await.unwrap().evidence.partial);
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn what_a_narrowed_token_hides_is_not_told_as_gone_until_it_is() {
    let consul = strict().await;
    for (node, id) in [("x1", "a"), ("x2", "b"), ("x3", "c")] {
        stands(&consul, node, id).await;
    }
    let both = [("a@x1", Status::Serving), ("b@x2", Status::Serving)];
    for (name, before) in [("all", reads(&["x1", "x2", "x3"])), ("some", reads(&["x1", "x2"]))] {
        stands(&consul, "x2", "b").await;
        let (_, secret) = token(&consul, name, &before).await;
        let reader = connect(&url(&consul, &secret)).await;
        let mut watch = View::new(reader.watch(&target("orders")));
        let third = (name == "all").then_some(("c@x3", Status::Serving));
        watch.shows(&both.into_iter().chain(third).collect::<Vec<_>>()).await;

        rule(&consul, name, &reads(&["x1"])).await;
        assert_eq!(watch.failure().await.kind(), ErrorKind::PermissionDenied);
        assert!(watch.view.contains_key("b@x2"), "{:?}", watch.view);
        // Nor by who asks anew.
        let looked = reader.lookup(&target("orders")).await.unwrap_err();
        assert_eq!(looked.kind(), ErrorKind::PermissionDenied, "{looked:?}");
        let mut again = View::new(reader.watch(&target("orders")));
        assert_eq!(again.failure().await.kind(), ErrorKind::PermissionDenied);

        // Rights come back.
        rule(&consul, name, &before).await;
        let mut again = View::new(reader.watch(&target("orders")));
        again.shows(&both.into_iter().chain(third).collect::<Vec<_>>()).await;
        // Or it really goes.
        rule(&consul, name, &reads(&["x1"])).await;
        assert_eq!(again.failure().await.kind(), ErrorKind::PermissionDenied);
        goes(&consul, "x2", "b").await;
        if third.is_some() {
            goes(&consul, "x3", "c").await;
        }
        let found = eventually("what is left", LONG, async || {
            let found = reader.lookup(&target("orders")).await.ok()?.instances;
            (found.len() == 1 && found[0].id().as_str() == "a@x1").then_some(())
        });
        found.await.unwrap();
        let mut left = View::new(reader.watch(&target("orders")));
        left.shows(&[("a@x1", Status::Serving)]).await;
    }
}
