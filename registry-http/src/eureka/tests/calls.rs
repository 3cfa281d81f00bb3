use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use registry_core::{
    Credential, CredentialProvider, ErrorKind, Secret,
    backend::{Consistency, Read},
};

use super::*;

async fn lookup(backend: &Backend, read: &Read) -> Result<registry_core::backend::Listing, Error> {
    backend.discovery.as_ref().unwrap().lookup(&target(), read).await
}

fn application(ids: &[&str]) -> Reply {
    let instances: Vec<_> = ids.iter().map(|id| listed(id, "ADDED")).collect();
    Reply::ok(json!({"application": {"name": "ORDERS", "instance": instances}}).to_string())
}

#[tokio::test]
async fn a_lookup_asks_for_one_application_and_an_absent_one_is_empty() {
    let fake = Fake::start(|seen| match &*seen.target {
        "/eureka/v2/apps/ORDERS" => application(&["a"]),
        "/eureka/apps/" => list(&[]),
        _ => Reply::status(404, ""),
    })
    .await;
    let here = backend(&[&fake.address], "context=/eureka/v2").await;
    let listing = lookup(&here, &Read::default()).await.unwrap();
    assert_eq!(listing.instances.len(), 1);
    assert_eq!(listing.evidence.endpoint.as_deref(), Some(&*fake.address));
    let elsewhere = backend(&[&fake.address], "").await;
    assert!(lookup(&elsewhere, &Read::default()).await.unwrap().instances.is_empty());
}

#[tokio::test]
async fn a_proxy_that_knows_no_eureka_doesn_t_say_that_there_is_nothing() {
    let fake = Fake::start(|_| Reply::status(404, "default backend")).await;
    let backend = backend(&[&fake.address], "").await;
    assert_eq!(lookup(&backend, &Read::default()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(next(&mut watch(&backend)).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let services = backend.catalogue.as_ref().unwrap().services().await;
    assert_eq!(services.unwrap_err().kind(), ErrorKind::Unavailable);
    let outcome = lease(&backend).await.publish(&[record(&instance("a"))]).await.remove(0);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable, "it passes, and is tried again soon");
}

#[tokio::test]
async fn a_second_opinion_comes_from_another_server() {
    let one = Fake::start(|_| application(&["a"])).await;
    let other = Fake::start(|_| application(&["a", "b"])).await;
    let backend = backend(&[&one.address, &other.address], "").await;
    let first = lookup(&backend, &Read::default()).await.unwrap().evidence.endpoint;
    let read = Read::new(Consistency::Strong).avoiding(first.clone());
    let second = lookup(&backend, &read).await.unwrap().evidence;
    assert_ne!(second.endpoint, first);
    assert_eq!(second.source, None, "it doesn't begin another life");
}

#[tokio::test]
async fn a_server_that_fails_is_followed_by_another() {
    for broken in [Reply::Close, Reply::status(500, ""), Reply::Hang] {
        let bad = Fake::start(move |_| broken.clone()).await;
        let good = Fake::start(|_| application(&["a"])).await;
        for _ in 0..4 {
            let backend = backend(&[&bad.address, &good.address], "request_timeout=3s").await;
            assert_eq!(lookup(&backend, &Read::default()).await.unwrap().instances.len(), 1);
        }
    }
}

/// What Spring Cloud's server answers for its first minutes, as seen.
const SPRING: &str = r#"{"timestamp":"2026-11-21T17:32:39.807+00:00","status":403,"error":"Forbidden","path":"/eureka/apps/ORDERS"}"#;
/// What Tomcat itself makes of a refusal without a body.
const TOMCAT: &str = "<!doctype html><html><head><title>HTTP Status 403 – Forbidden</title></head></html>";

#[tokio::test]
async fn a_refusal_passes_if_the_server_is_warming_up_and_is_one_if_it_is_about_us() {
    let ask = || Reply::status(403, "").with("www-authenticate", &"Basic realm=\"x\"");
    for (reply, kind) in [
        (Reply::status(403, ""), ErrorKind::Unavailable),
        (Reply::status(403, SPRING), ErrorKind::Unavailable),
        (Reply::status(403, TOMCAT), ErrorKind::Unavailable),
        (ask(), ErrorKind::PermissionDenied),
        (Reply::status(403, "RBAC: access denied"), ErrorKind::PermissionDenied),
        (Reply::status(403, "<html><h1>403 Forbidden</h1>nginx</html>"), ErrorKind::PermissionDenied),
        (Reply::status(403, r#"{"error":"no such right"}"#), ErrorKind::PermissionDenied),
        (Reply::status(401, SPRING), ErrorKind::Unauthenticated),
    ] {
        let answer = reply.clone();
        let fake = Fake::start(move |seen| match is_single(seen) {
            true => Reply::status(404, ""),
            false => answer.clone(),
        })
        .await;
        let backend = backend(&[&fake.address], "").await;
        let looked = lookup(&backend, &Read::default()).await.unwrap_err();
        let services = backend.catalogue.as_ref().unwrap().services().await.unwrap_err();
        let watched = next(&mut watch(&backend)).await.unwrap_err();
        assert_eq!([looked.kind(), services.kind(), watched.kind()], [kind; 3], "{reply:?}");
    }
}

#[tokio::test]
async fn who_refuses_single_instances_too_is_not_warming_up_whatever_its_words() {
    for body in ["", SPRING, TOMCAT] {
        for status in [403, 401] {
            let fake = Fake::start(move |seen| match is_single(seen) {
                true => Reply::status(status, body),
                false => Reply::status(403, body),
            })
            .await;
            let backend = backend(&[&fake.address], "").await;
            let looked = lookup(&backend, &Read::default()).await.unwrap_err();
            let services = backend.catalogue.as_ref().unwrap().services().await.unwrap_err();
            let watched = next(&mut watch(&backend)).await.unwrap_err();
            let kind = match status {
                403 => ErrorKind::PermissionDenied,
                _ => ErrorKind::Unauthenticated,
            };
            assert_eq!([looked.kind(), services.kind(), watched.kind()], [kind; 3], "{body} {status}");
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_lists_for_longer_than_any_waits_refuses_us() {
    let refuses = Arc::new(AtomicBool::new(true));
    let still = Arc::clone(&refuses);
    let fake = Fake::start(move |seen| match is_single(seen) {
        true => Reply::status(404, ""),
        false if still.load(Ordering::SeqCst) => Reply::status(403, SPRING),
        false => application(&["a"]),
    })
    .await;
    let backend = backend(&[&fake.address], "").await;
    let asked = async || lookup(&backend, &Read::default()).await.map_err(|error| error.kind());
    let later = async |minutes: u64| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60 * minutes)).await;
        tokio::time::resume();
    };
    assert_eq!(asked().await.unwrap_err(), ErrorKind::Unavailable);
    later(14).await;
    assert_eq!(asked().await.unwrap_err(), ErrorKind::Unavailable);
    later(2).await;
    assert_eq!(asked().await.unwrap_err(), ErrorKind::PermissionDenied);
    refuses.store(false, Ordering::SeqCst);
    assert_eq!(asked().await.unwrap().instances.len(), 1);
    refuses.store(true, Ordering::SeqCst);
    assert_eq!(asked().await.unwrap_err(), ErrorKind::Unavailable, "it starts once more");
}

#[tokio::test]
async fn servers_that_restart_days_later_are_warming_up_once_more() {
    let refusing = Arc::new(AtomicUsize::new(0));
    let mut fakes = Vec::new();
    for server in 0..2 {
        let refusing = Arc::clone(&refusing);
        let fake = Fake::start(move |seen| match is_single(seen) {
            true => Reply::status(404, ""),
            false if server < refusing.load(Ordering::SeqCst) => Reply::status(403, SPRING),
            false => application(&["a"]),
        });
        fakes.push(fake.await);
    }
    let addresses: Vec<_> = fakes.iter().map(|fake| &*fake.address).collect();
    let backend = backend(&addresses, "").await;
    let asked = async || lookup(&backend, &Read::default()).await.map_err(|error| error.kind());
    let later = async |minutes: u64| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60 * minutes)).await;
        tokio::time::resume();
    };
    let all_refuse = async || {
        refusing.store(2, Ordering::SeqCst);
        for _ in 0..6 {
            assert_eq!(asked().await.unwrap_err(), ErrorKind::Unavailable);
            later(1).await;
        }
    };
    all_refuse().await;
    later(3 * 24 * 60).await;
    all_refuse().await;
    for _ in 0..3 {
        // One of them is ready, whom all lists come from.
        refusing.store(1, Ordering::SeqCst);
        assert_eq!(asked().await.unwrap().instances.len(), 1);
        all_refuse().await;
    }
}

#[tokio::test]
async fn what_isn_t_a_list_is_never_refused_for_a_while() {
    let fake = Fake::start(|_| Reply::status(403, SPRING)).await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    let outcome = lease.publish(&[record(&instance("a"))]).await.remove(0);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_server_that_is_warming_up_is_followed_by_another_and_then_left_alone() {
    let starting = Fake::start(|_| Reply::status(403, SPRING)).await;
    let ready = Fake::start(|_| application(&["a"])).await;
    let mut asked = 0;
    for _ in 0..40 {
        let backend = backend(&[&starting.address, &ready.address], "").await;
        let before = starting.seen().len();
        for _ in 0..3 {
            assert_eq!(lookup(&backend, &Read::default()).await.unwrap().instances.len(), 1);
        }
        let now = starting.seen().len() - before;
        assert!(now <= 1, "{now}");
        asked += now;
    }
    assert!(asked > 0, "somebody prefers it");
}

#[tokio::test]
async fn a_user_is_told_by_basic_authentication_and_a_bare_token_as_bearer() {
    for (info, expected) in [("user:p%40ss", "Basic dXNlcjpwQHNz"), (":t0ken", "Bearer t0ken")] {
        let fake = Fake::start(|_| application(&[])).await;
        let config: EurekaConfig = format!("eureka://{info}@{}", fake.address).parse().unwrap();
        let context = ConnectContext::new(Namespace::default(), Duration::from_secs(30));
        let backend = EurekaConnector::new().backend(config, &context).await.unwrap();
        lookup(&backend, &Read::default()).await.unwrap();
        let seen = fake.seen();
        assert_eq!(seen[0].header("authorization"), Some(expected));
        assert_eq!(seen[0].header("accept-encoding"), Some("gzip"));
        assert_eq!(seen[0].header("discoveryidentity-name"), Some("service-registry"));
        assert_eq!(seen[0].header("discoveryidentity-version"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(seen[0].header("discoveryidentity-id").map(str::len), Some(16));
    }
}

#[derive(Debug, Default)]
struct Rotating(AtomicUsize);

#[async_trait]
impl CredentialProvider for Rotating {
    async fn credential(&self) -> Result<Credential, Error> {
        let turn = self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Credential { user: None, secret: Secret::new(format!("t{turn}")), expires_in: None })
    }
}

#[tokio::test]
async fn a_refused_credential_is_replaced_once() {
    let fake = Fake::start(|seen| match seen.header("authorization") {
        Some("Bearer t0") => Reply::status(401, ""),
        _ => application(&["a"]),
    })
    .await;
    let config: EurekaConfig = format!("eureka://{}", fake.address).parse().unwrap();
    let mut context = ConnectContext::new(Namespace::default(), Duration::from_secs(30));
    context.credentials = Some(Arc::new(Rotating::default()));
    let backend = EurekaConnector::new().backend(config, &context).await.unwrap();
    // What was just given stands for a second.
    let refused = lookup(&backend, &Read::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(lookup(&backend, &Read::default()).await.unwrap().instances.len(), 1);
}

#[tokio::test]
async fn the_catalogue_names_each_service_as_its_writer_does() {
    let item =
        |app: &str, id: &str, vip: Option<&str>| json!({"instanceId": id, "app": app, "vipAddress": vip});
    let all = [
        item("ORDERS", "Orders:a1", Some("orders")),
        item("ORDERS", "orders:a1", Some("orders")),
        item("PROD:ORDERS", "prod:orders:a1", Some("prod:orders")),
        item("A~2FB", "a~2Fb:x", None),
        item("SPRING", "10.0.0.1:spring:8080", Some("Spring")),
        item("PLAIN", "10.0.0.1", None),
    ];
    let apps: Vec<_> = all.iter().map(|item| json!({"name": item["app"], "instance": [item]})).collect();
    let body = json!({"applications": {"apps__hashcode": "", "application": apps}}).to_string();
    let fake = Fake::start(move |_| Reply::ok(body.clone())).await;
    let services = backend(&[&fake.address], "").await.catalogue.unwrap().services().await.unwrap();
    let services: Vec<_> = services.iter().map(registry_core::ServiceName::as_str).collect();
    assert_eq!(services, ["Orders", "Spring", "a/b", "orders", "plain"]);
}

#[tokio::test]
async fn a_watched_catalogue_ends_when_the_data_start_anew() {
    let mut requests = 0;
    let fake = Fake::start(move |_| {
        requests += 1;
        if requests == 1 { list(&["a"]) } else { list(&[]) }
    })
    .await;
    let backend = backend(&[&fake.address], "").await;
    let mut watch = backend.catalogue.as_ref().unwrap().watch_services();
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.len(), 1);
    let end = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(end.kind(), ErrorKind::Compacted);
    assert!(watch.next().await.is_none());
}
