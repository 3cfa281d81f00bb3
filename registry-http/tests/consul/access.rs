//! Tokens that lack rights, are revoked, or rotate.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use registry_core::{
    ConnectContext, Connector, Credential, CredentialProvider, Error, ErrorKind, Namespace, Secret, Status,
    backend::Presence,
};
use registry_http::consul::ConsulConnector;
use registry_testkit::{Consul, eventually};
use serde_json::json;

use crate::support::{LONG, View, connect, connect_with, instance, key, soon, target};

/// A token with these rules; its accessor, which revokes it, and its secret.
pub(crate) async fn token(consul: &Consul, name: &str, rules: &str) -> (String, String) {
    let api = consul.api();
    let policy = json!({"Name": name, "Rules": rules}).to_string();
    api.put("/v1/acl/policy", policy).await.unwrap().success().unwrap();
    let body = json!({"Policies": [{"Name": name}]}).to_string();
    let token = api.put("/v1/acl/token", body).await.unwrap().success().unwrap().json();
    let text = |field: &str| token[field].as_str().unwrap().to_owned();
    (text("AccessorID"), text("SecretID"))
}

const ENOUGH: &str = r#"service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }"#;

pub(crate) fn url(consul: &Consul, secret: &str) -> String {
    format!("consul://:{secret}@{}?wait=1s", consul.address())
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn enough_rights_are_enough_and_a_revoked_token_wipes_nothing() {
    // Agents keep what they know of a token for 30 s, unless told otherwise.
    let config = json!({"acl": {"token_ttl": "0s", "policy_ttl": "0s"}});
    let consul = Consul::builder().acl().config(config).start().await.unwrap();
    let (accessor, secret) = token(&consul, "enough", ENOUGH).await;
    let node = connect(&url(&consul, &secret)).await;
    let lease = node.grant(30).await;
    node.publish(&lease, "a").await.unwrap();
    let mut watch = View::new(node.watch(&target("orders")));
    watch.shows(&[("a", Status::Serving)]).await;
    lease.renew(soon()).await.unwrap();

    consul.api().delete(&format!("/v1/acl/token/{accessor}")).await.unwrap().success().unwrap();
    let error = watch.failure().await;
    assert!(matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::PermissionDenied), "{error:?}");
    assert!(watch.view.contains_key("a"), "{:?}", watch.view);
    for error in [lease.renew(soon()).await.unwrap_err(), node.lookup(&target("orders")).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        assert!(!format!("{error:#?}").contains(&secret));
    }
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn who_may_not_read_gets_an_error_and_never_an_empty_list() {
    let consul = Consul::builder().acl().start().await.unwrap();
    let manager = connect(&url(&consul, Consul::MANAGEMENT)).await;
    let lease = manager.grant(30).await;
    manager.publish(&lease, "a").await.unwrap();
    manager.finds(&target("orders"), &["a"]).await;
    let (_, blind) = token(&consul, "blind", r#"key_prefix "" { policy = "read" }"#).await;
    let (_, partly) = token(&consul, "partly", r#"service_prefix "" { policy = "write" }"#).await;
    for who in [url(&consul, &blind), url(&consul, &partly), format!("{}?wait=1s", consul.url())] {
        let node = connect(&who).await;
        let looked = node.lookup(&target("orders")).await.unwrap_err();
        assert_eq!(looked.kind(), ErrorKind::PermissionDenied, "{looked:?}");
        let mut watch = View::new(node.watch(&target("orders")));
        assert_eq!(watch.failure().await.kind(), ErrorKind::PermissionDenied);
    }
    let anonymous = connect(&consul.url()).await;
    let lease = anonymous.grant(30).await;
    let refused = anonymous.publish(&lease, "b").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused:?}");
    let unknown = connect(&url(&consul, "22222222-2222-3333-4444-555555555555")).await;
    let error = unknown.lookup(&target("orders")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
}

const READS: &str = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_service_that_is_just_empty_is_empty_for_who_may_read_it_without_a_token() {
    let own = json!({"acl": {"tokens": {"default": Consul::MANAGEMENT}}});
    let with_own = Consul::builder().acl().config(own).start().await.unwrap();
    let open = Consul::builder().acl().start().await.unwrap();
    let denied = connect(&open.url()).await.lookup(&target("orders")).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
    let policy = json!({"Name": "reads", "Rules": READS}).to_string();
    open.api().put("/v1/acl/policy", policy).await.unwrap().success().unwrap();
    let body = json!({"Policies": [{"Name": "reads"}]}).to_string();
    let anonymous = "/v1/acl/token/00000000-0000-0000-0000-000000000002";
    open.api().put(anonymous, body).await.unwrap().success().unwrap();
    for consul in [&with_own, &open] {
        let node = connect(&format!("{}?wait=1s", consul.url())).await;
        node.finds(&target("orders"), &[]).await;
        let mut watch = View::new(node.watch(&target("orders")));
        watch.shows(&[]).await;
        watch.next().await.expect("a sign of life");
        let manager = connect(&url(consul, Consul::MANAGEMENT)).await;
        let lease = manager.grant(30).await;
        manager.publish(&lease, "a").await.unwrap();
        watch.shows(&[("a", Status::Serving)]).await;
    }
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn what_a_token_may_not_see_at_the_agent_is_not_taken_for_gone() {
    let config = json!({"acl": {"token_ttl": "0s", "policy_ttl": "0s"}});
    let consul = Consul::builder().acl().config(config).start().await.unwrap();
    let manager = connect(&url(&consul, Consul::MANAGEMENT)).await;
    let others = manager.grant(60).await;
    others.publish(&[manager.record(&instance("users", "a"), 1)]).await.remove(0).unwrap();
    let rules = r#"service "orders" { policy = "write" } node_prefix "" { policy = "read" }"#;
    let (_, secret) = token(&consul, "orders", rules).await;
    let node = connect(&url(&consul, &secret)).await;
    let lease = node.grant(60).await;
    node.publish(&lease, "a").await.unwrap();
    node.publish(&lease, "b").await.unwrap();
    let path = "/v1/agent/service/deregister/orders:b";
    consul.api().put(path, "").await.unwrap().success().unwrap();
    let found = lease.inspect(&[key("a"), key("b")]).await.unwrap();
    assert!(matches!(found[..], [Presence::Ours { .. }, Presence::Missing]), "{found:?}");

    let less = r#"{"Name":"orders","Rules":"service \"users\" { policy = \"read\" }"}"#;
    let policy = consul.api().get("/v1/acl/policy/name/orders").await.unwrap().json();
    let path = format!("/v1/acl/policy/{}", policy["ID"].as_str().unwrap());
    consul.api().put(&path, less).await.unwrap().success().unwrap();
    let hidden = eventually("it is hidden", LONG, async || {
        (lease.inspect(&[key("a")]).await.unwrap() == [Presence::Unknown]).then_some(())
    });
    hidden.await.unwrap();
    let withdrawn = lease.withdraw(&[Arc::new(instance("orders", "a"))]).await.remove(0);
    assert_eq!(withdrawn.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_namespace_without_services_is_empty_for_a_token_that_may_read_no_other() {
    let consul = Consul::builder().acl().start().await.unwrap();
    let manager = connect(&url(&consul, Consul::MANAGEMENT)).await;
    let lease = manager.grant(30).await;
    manager.publish(&lease, "a").await.unwrap();
    manager.finds(&target("orders"), &["a"]).await;
    let (_, secret) = token(&consul, "prod", r#"service_prefix "prod/" { policy = "read" }"#).await;
    let services = async |namespace: &str| {
        let context =
            ConnectContext::new(Namespace::new(namespace).unwrap(), std::time::Duration::from_secs(5));
        let url = url(&consul, &secret).parse().unwrap();
        let backend = ConsulConnector::new().connect(&url, &context).await.unwrap();
        backend.catalogue.as_ref().unwrap().services().await
    };
    assert_eq!(services("prod").await.unwrap(), []);
    assert_eq!(services("test").await.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

/// Gives the first token until it is told of another.
#[derive(Clone, Debug)]
struct Rotating(Arc<Mutex<String>>);

#[async_trait]
impl CredentialProvider for Rotating {
    async fn credential(&self) -> Result<Credential, Error> {
        let secret = Secret::new(self.0.lock().unwrap().clone());
        Ok(Credential { user: None, secret, expires_in: None })
    }
}

#[tokio::test]
#[ignore = "needs consul: cargo xtask servers"]
async fn a_rotated_token_is_taken_up_when_the_old_one_is_refused() {
    let config = json!({"acl": {"token_ttl": "0s", "policy_ttl": "0s"}});
    let consul = Consul::builder().acl().config(config).start().await.unwrap();
    let (accessor, first) = token(&consul, "enough", ENOUGH).await;
    let provider = Rotating(Arc::new(Mutex::new(first)));
    let node = connect_with(&consul.url(), Some(Arc::new(provider.clone()))).await;
    let lease = node.grant(30).await;
    node.publish(&lease, "a").await.unwrap();
    let body = json!({"Policies": [{"Name": "enough"}]}).to_string();
    let next = consul.api().put("/v1/acl/token", body).await.unwrap().success().unwrap().json();
    *provider.0.lock().unwrap() = next["SecretID"].as_str().unwrap().to_owned();
    consul.api().delete(&format!("/v1/acl/token/{accessor}")).await.unwrap().success().unwrap();
    // Refusals within a second of the provider's last answer ask it nothing.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let renewal = lease.renew(soon()).await.unwrap();
    assert!(renewal.lost.is_empty() && renewal.missed.is_empty(), "{renewal:?}");
    node.finds(&target("orders"), &["a"]).await;
}
