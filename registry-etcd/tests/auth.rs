//! Users, tokens and rights, against a real etcd with authentication.
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use registry_core::{
    ConnectContext, Connector, Credential, CredentialProvider, Error, ErrorKind, Incarnation, Namespace,
    Secret,
    backend::{Change, Read},
};
use registry_etcd::EtcdConnector;
use registry_testkit::Etcd;
use support::{Node, connect, event, instance, key, target};
use tokio::time::Instant;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

/// An etcd with a user `app` that may use `/prod/` only; tokens live 2 s after their last use.
async fn guarded() -> Etcd {
    let etcd = Etcd::builder().auth(Duration::from_secs(2)).start().await.unwrap();
    etcd.ctl().add_user("app", "hunter2", "/prod/").await.unwrap();
    etcd
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_token_that_expires_every_two_seconds_stops_neither_watch_nor_lease() {
    let etcd = guarded().await;
    let node = connect(&format!("etcd://app:hunter2@{}", etcd.address())).await;
    let lease = node.grant(4).await.unwrap();
    let mut watch = node.watch("orders");
    event(&mut watch).await.unwrap();
    for round in 1..5 {
        // Long enough for an unused token to expire.
        tokio::time::sleep(Duration::from_millis(2600)).await;
        lease.renew(soon()).await.unwrap();
        lease.publish(&[node.record(&instance("orders", "a"), round)]).await.remove(0).unwrap();
        let seen = event(&mut watch).await.unwrap();
        assert!(
            matches!(&seen.changes[..], [Change::Upsert(i)] if i.key() == key("orders", "a")),
            "{seen:?}"
        );
    }
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn tokens_that_die_with_the_server_are_replaced_within_the_call() {
    let etcd = guarded().await;
    let node = connect(&format!("etcd://app:hunter2@{}", etcd.address())).await;
    let lease = node.grant(20).await.unwrap();
    lease.renew(soon()).await.unwrap();
    let mut watch = node.watch("orders");
    let cursor = event(&mut watch).await.unwrap().cursor;
    etcd.restart().await.unwrap();
    // The first call may meet the broken connection; none may see a refused token.
    for _ in 0..10 {
        match lease.renew(soon()).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();
    let mut watch = node.discovery().watch(&target("orders"), cursor);
    assert!(matches!(event(&mut watch).await.unwrap().changes[..], [Change::Resumed]));
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_changed_auth_configuration_stops_nobody_who_still_has_the_rights() {
    let etcd = guarded().await;
    let node = connect(&format!("etcd://app:hunter2@{}", etcd.address())).await;
    let lease = node.grant(20).await.unwrap();
    lease.renew(soon()).await.unwrap();
    for round in 1..4 {
        etcd.ctl().add_user(&format!("u{round}"), "x", "/other/").await.unwrap();
        lease.publish(&[node.record(&instance("orders", "a"), round)]).await.remove(0).unwrap();
        lease.renew(soon()).await.unwrap();
        node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_wrong_password_is_named_once_for_all_and_never_shown() {
    let etcd = guarded().await;
    let node = connect(&format!("etcd://app:hunter3@{}", etcd.address())).await;
    let error = node.grant(5).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.to_string().contains("authentication failed"), "{error:?}");
    assert!(!format!("{error:?} {node:?}", node = node.backend).contains("hunter3"));
    let mut watch = node.watch("orders");
    assert_eq!(watch.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn without_a_user_or_the_rights_the_error_says_which() {
    let etcd = guarded().await;
    let nobody = connect(&format!("etcd://{}", etcd.address())).await;
    let error = nobody.discovery().lookup(&target("orders"), &Read::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    let mut watch = nobody.watch("orders");
    assert_eq!(watch.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unauthenticated);

    let url = format!("etcd://app:hunter2@{}", etcd.address()).parse().unwrap();
    let context = ConnectContext::new(Namespace::new("staging").unwrap(), Duration::from_secs(5));
    let backend = EtcdConnector::new().connect(&url, &context).await.unwrap();
    let stranger = Node { backend, incarnation: Incarnation::generate() };
    let error = stranger.discovery().lookup(&target("orders"), &Read::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "never an empty list: {error:?}");
    let mut watch = stranger.watch("orders");
    assert_eq!(watch.next().await.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
    let lease = stranger.grant(5).await.unwrap();
    let outcomes = lease
        .publish(&[
            stranger.record(&instance("orders", "a"), 1),
            stranger.record(&instance("orders", "b"), 1),
        ])
        .await;
    assert!(
        outcomes.iter().all(|o| o.as_ref().unwrap_err().kind() == ErrorKind::PermissionDenied),
        "{outcomes:?}"
    );
}

#[derive(Debug)]
struct Rotating {
    password: Mutex<&'static str>,
    life: Option<Duration>,
    asked: AtomicUsize,
}

#[async_trait]
impl CredentialProvider for Rotating {
    async fn credential(&self) -> Result<Credential, Error> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let secret = Secret::new(*self.password.lock().unwrap());
        Ok(Credential { user: Some("app".into()), secret, expires_in: self.life })
    }
}

async fn with_provider(etcd: &Etcd, provider: &Arc<Rotating>) -> Node {
    let url = format!("etcd://{}", etcd.address()).parse().unwrap();
    let mut context = ConnectContext::new(Namespace::new("prod").unwrap(), Duration::from_secs(5));
    let provider: Arc<Rotating> = Arc::clone(provider);
    context.credentials = Some(provider);
    let backend = EtcdConnector::new().connect(&url, &context).await.unwrap();
    Node { backend, incarnation: Incarnation::generate() }
}

/// Answers at once, at first; later it takes its time.
#[derive(Debug)]
struct Sluggish {
    at_once: usize,
    then: Duration,
    asked: AtomicUsize,
}

#[async_trait]
impl CredentialProvider for Sluggish {
    async fn credential(&self) -> Result<Credential, Error> {
        if self.asked.fetch_add(1, Ordering::SeqCst) >= self.at_once {
            tokio::time::sleep(self.then).await;
        }
        let life = Some(Duration::from_millis(500));
        Ok(Credential { user: Some("app".into()), secret: Secret::new("hunter2"), expires_in: life })
    }
}

async fn with_sluggish(etcd: &Etcd, hosts: &str, provider: Sluggish) -> Node {
    let url = format!("etcd://{}{hosts}", etcd.address()).parse().unwrap();
    let mut context = ConnectContext::new(Namespace::new("prod").unwrap(), Duration::from_secs(5));
    context.credentials = Some(Arc::new(provider));
    let backend = EtcdConnector::new().connect(&url, &context).await.unwrap();
    Node { backend, incarnation: Incarnation::generate() }
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_provider_slower_than_a_call_is_named_and_its_answer_is_not_lost() {
    let etcd = guarded().await;
    // Two endpoints: half of a call's time each, and neither is to blame.
    let slow = Sluggish { at_once: 0, then: Duration::from_secs(3), asked: AtomicUsize::new(0) };
    let node = with_sluggish(&etcd, &format!(",localhost:{}", etcd.address().port()), slow).await;
    let error = node.grant(20).await.unwrap_err();
    assert!(error.to_string().contains("credential provider has not answered"), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    node.grant(20).await.expect("the provider has answered by now");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_provider_that_hangs_stops_nobody_while_the_token_works() {
    let etcd = guarded().await;
    let hangs = Sluggish { at_once: 1, then: Duration::from_secs(3600), asked: AtomicUsize::new(0) };
    let node = with_sluggish(&etcd, "", hangs).await;
    let lease = node.grant(20).await.unwrap();
    // Well past the moment at which the provider is asked for the next credential.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let asked = Instant::now();
        lease.renew(soon()).await.unwrap();
        node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1), "nobody waits for the provider");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_rotated_password_is_asked_for_when_the_old_one_is_refused() {
    let etcd = guarded().await;
    let provider =
        Arc::new(Rotating { password: Mutex::new("hunter2"), life: None, asked: AtomicUsize::new(0) });
    let node = with_provider(&etcd, &provider).await;
    let lease = node.grant(20).await.unwrap();
    assert_eq!(provider.asked.load(Ordering::SeqCst), 1);
    etcd.ctl().change_password("app", "hunter4").await.unwrap();
    *provider.password.lock().unwrap() = "hunter4";
    // The change ended the tokens of the old password.
    lease.renew(soon()).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();
    assert_eq!(provider.asked.load(Ordering::SeqCst), 2, "once at the start, once after the refusal");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_credential_is_renewed_before_it_ends_and_a_refused_one_is_not_tried_in_a_loop() {
    let etcd = guarded().await;
    let life = Some(Duration::from_secs(2));
    let provider = Arc::new(Rotating { password: Mutex::new("hunter2"), life, asked: AtomicUsize::new(0) });
    let node = with_provider(&etcd, &provider).await;
    for _ in 0..20 {
        node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let asked = provider.asked.load(Ordering::SeqCst);
    assert!((3..=4).contains(&asked), "asked {asked} times in 4 s for a life of 2 s");

    *provider.password.lock().unwrap() = "wrong";
    // Past the moment at which the next credential is asked for, using the token often enough to keep it.
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        node.discovery()
            .lookup(&target("orders"), &Read::default())
            .await
            .expect("the old token still works");
    }

    // Which ends the tokens of the old one too.
    etcd.ctl().change_password("app", "hunter4").await.unwrap();
    let before = provider.asked.load(Ordering::SeqCst);
    let start = Instant::now();
    let mut refused = 0;
    while start.elapsed() < Duration::from_secs(3) {
        let looked = node.discovery().lookup(&target("orders"), &Read::default()).await;
        if looked.is_err_and(|error| error.kind() == ErrorKind::Unauthenticated) {
            refused += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(refused > 100, "refused {refused} times");
    let asked = provider.asked.load(Ordering::SeqCst) - before;
    assert!(asked <= 5, "asked {asked} times for {refused} refused calls");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn the_role_of_the_documentation_is_enough() {
    let etcd = guarded().await;
    let ctl = etcd.ctl();
    ctl.add_user("least", "pw", "/prod/orders/").await.unwrap();
    ctl.run(&["role", "grant-permission", "--prefix=true", "least", "read", "/prod/billing/"]).await.unwrap();
    let node = connect(&format!("etcd://least:pw@{}", etcd.address())).await;
    let lease = node.grant(5).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();
    lease.renew(soon()).await.unwrap();
    let mut watch = node.watch("billing");
    let cursor = event(&mut watch).await.unwrap().cursor;
    let mut watch = node.discovery().watch(&target("billing"), cursor);
    assert!(matches!(event(&mut watch).await.unwrap().changes[..], [Change::Resumed]));
    let denied = lease.publish(&[node.record(&instance("billing", "a"), 1)]).await.remove(0).unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    lease.withdraw(&[Arc::new(instance("orders", "a"))]).await.remove(0).unwrap();
    lease.revoke().await.unwrap();
}
