//! Tokens that lack rights, are revoked, or rotate.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use registry_core::{Credential, CredentialProvider, Error, ErrorKind, Secret, Status};
use registry_testkit::Consul;
use serde_json::json;

use crate::support::{View, connect, connect_with, soon, target};

/// A token with these rules; its accessor, which revokes it, and its secret.
async fn token(consul: &Consul, name: &str, rules: &str) -> (String, String) {
    let api = consul.api();
    let policy = json!({"Name": name, "Rules": rules}).to_string();
    api.put("/v1/acl/policy", policy).await.unwrap().success().unwrap();
    let body = json!({"Policies": [{"Name": name}]}).to_string();
    let token = api.put("/v1/acl/token", body).await.unwrap().success().unwrap().json();
    let text = |field: &str| token[field].as_str().unwrap().to_owned();
    (text("AccessorID"), text("SecretID"))
}

const ENOUGH: &str = r#"service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }"#;

fn url(consul: &Consul, secret: &str) -> String {
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
