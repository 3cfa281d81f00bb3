use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use registry_core::{
    Backend, ConnectContext, Connector, ErrorKind, Incarnation, Instance, Lease, Namespace, OnDuplicate,
    Target,
    backend::{Change, Event, Grant, Presence, Publish, Read, WatchStream},
    model::RecordVersion,
};
use tokio::{net::UdpSocket, time::Instant};

use crate::{
    http::fake::{Fake, Reply, Seen},
    nacos::NacosConnector,
};

mod absence;
mod auth;
mod beats;
mod edits;
mod operators;
mod pace;
mod protection;
mod refusals;
mod restarts;

/// What a busy machine may be late by.
const SLACK: Duration = Duration::from_secs(2);
const US: Incarnation = Incarnation::from_bits(1);
const EMPTY_V1: &str = r#"{"name":"DEFAULT_GROUP@@orders","hosts":[],"reachProtectionThreshold":false}"#;
const OK_V3: &str = r#"{"code":0,"message":"success","data":"ok"}"#;
const BEAT: &str = r#"{"clientBeatInterval":5000,"code":10200,"lightBeatEnabled":true}"#;
const GONE: &str = r#"{"status":410,"error":"Gone"}"#;

/// Which servers there are, by what they refuse.
fn lacks(request: &Seen, versions: &[&str]) -> Option<Reply> {
    let lacking = |version: &&str| request.target.starts_with(&format!("/nacos/{version}/"));
    if versions.iter().any(lacking) {
        return Some(Reply::status(410, GONE));
    }
    let is_probe = request.method == "GET" && request.target.ends_with("/list");
    is_probe.then(|| Reply::status(400, "Param 'serviceName' is required."))
}

/// As 3.1, 2.5 or 1.x would do, with nobody registered.
fn usual(request: &Seen) -> Reply {
    let target = request.target.as_str();
    match (request.method.as_str(), target.contains("/v3/")) {
        ("GET", true) => Reply::ok(r#"{"code":0,"message":"success","data":[]}"#),
        ("GET", false) if target.contains("/v2/") => Reply::ok(format!(r#"{{"code":0,"data":{EMPTY_V1}}}"#)),
        ("GET", false) => Reply::ok(EMPTY_V1),
        (_, true) => Reply::ok(OK_V3),
        ("PUT", false) => Reply::ok(BEAT),
        (_, false) if target.contains("/v2/") => Reply::ok(OK_V3),
        (_, false) => Reply::ok("ok"),
    }
}

async fn connect(fake: &Fake, options: &str) -> Backend {
    connect_as("", fake, options).await
}

async fn connect_as(user_info: &str, fake: &Fake, options: &str) -> Backend {
    let url = format!("nacos://{user_info}{}{options}", fake.address).parse().unwrap();
    let context = ConnectContext::new(Namespace::default(), Duration::from_secs(15));
    NacosConnector::new().connect(&url, &context).await.unwrap()
}

async fn grant(backend: &Backend) -> Arc<dyn Lease> {
    backend.registry.as_ref().unwrap().grant(&Grant::new(Duration::from_secs(15), US)).await.unwrap()
}

fn instance(id: &str, port: u16) -> Arc<Instance> {
    let builder = Instance::builder("orders").id(id).endpoint(format!("http://10.0.0.7:{port}"));
    Arc::new(builder.build().unwrap())
}

fn record(id: &str, port: u16) -> Publish {
    let version = RecordVersion { incarnation: US, epoch: 1, sequence: 1 };
    Publish::new(instance(id, port), version, OnDuplicate::TakeOver)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

async fn later(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Method and path of what was asked, without probes and lists.
fn writes(fake: &Fake) -> Vec<String> {
    let seen = fake.seen();
    let writes = seen.iter().filter(|seen| seen.method != "GET");
    writes.map(|seen| format!("{} {}", seen.method, seen.target.split('?').next().unwrap())).collect()
}

fn target() -> Target {
    Target::try_from("orders").unwrap()
}

async fn lookup(backend: &Backend) -> Result<registry_core::backend::Listing, registry_core::Error> {
    backend.discovery.as_ref().unwrap().lookup(&target(), &Read::default()).await
}

async fn event(watch: &mut WatchStream) -> Event {
    use futures_util::StreamExt;
    tokio::time::timeout(Duration::from_secs(8), watch.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn the_api_is_what_the_servers_have() {
    for (lacking, register, beat, list) in [
        (&["v2"][..], "POST /nacos/v3/client/ns/instance", "POST /nacos/v3/client/ns/instance", "/nacos/v1/"),
        (&["v3"], "POST /nacos/v2/ns/instance", "PUT /nacos/v2/ns/instance/beat", "/nacos/v1/"),
        (&["v3", "v2"], "POST /nacos/v1/ns/instance", "PUT /nacos/v1/ns/instance/beat", "/nacos/v1/"),
        (
            &["v1", "v2"],
            "POST /nacos/v3/client/ns/instance",
            "POST /nacos/v3/client/ns/instance",
            "/nacos/v3/",
        ),
    ] {
        let fake =
            Fake::start(move |request| lacks(request, lacking).unwrap_or_else(|| usual(request))).await;
        let backend = connect(&fake, "").await;
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        let renewal = lease.renew(soon()).await.unwrap();
        assert_eq!((renewal.lost, renewal.missed), (Vec::new(), Vec::new()));
        lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
        let removal = register.replace("POST", "DELETE");
        assert_eq!(writes(&fake), [register, beat, &removal], "without {lacking:?}");
        let lists = fake.seen().into_iter().filter(|seen| seen.target.contains("/list?"));
        assert!(lists.map(|seen| seen.target).all(|target| target.starts_with(list)), "without {lacking:?}");
    }
}

#[tokio::test]
async fn a_server_that_loses_an_api_is_asked_anew() {
    let upgraded = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&upgraded);
    let fake = Fake::start(move |request| {
        let lacking = if now.load(Ordering::Relaxed) == 0 { ["v3", "-"] } else { ["v1", "v2"] };
        lacks(request, &lacking).unwrap_or_else(|| usual(request))
    });
    let fake = fake.await;
    let backend = connect(&fake, "").await;
    assert_eq!(lookup(&backend).await.unwrap().instances, []);
    upgraded.store(1, Ordering::Relaxed);
    assert_eq!(lookup(&backend).await.unwrap().instances, []);
    assert!(fake.seen().last().unwrap().target.starts_with("/nacos/v3/client/ns/instance/list?"));
}

#[tokio::test]
async fn what_is_no_nacos_is_said_to_be_none() {
    let fake = Fake::start(|_| Reply::status(404, "nothing here")).await;
    let error = lookup(&connect(&fake, "?context_path=/other").await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("context_path"), "{error}");
}

#[tokio::test]
async fn a_service_that_1_x_does_not_know_is_empty() {
    let fake = Fake::start(move |request| {
        lacks(request, &["v3", "v2"]).unwrap_or_else(|| match request.method.as_str() {
            "GET" => Reply::status(404, "caused: dom not found: orders;"),
            _ => usual(request),
        })
    });
    assert_eq!(lookup(&connect(&fake.await, "").await).await.unwrap().instances, []);
}

#[tokio::test]
async fn a_look_leaves_out_the_unhealthy_and_the_disabled_and_trusts_a_protected_list() {
    let entry = |port: u16, flags: &str| format!(r#"{{"ip":"10.0.0.7","port":{port},{flags}}}"#);
    let hosts = [entry(1, r#""weight":2.5"#), entry(2, r#""healthy":false"#), entry(3, r#""enabled":false"#)];
    let list = format!(r#"{{"hosts":[{}],"reachProtectionThreshold":true}}"#, hosts.join(","));
    let fake = Fake::start(move |_| Reply::ok(list.clone())).await;
    let listing = lookup(&connect(&fake, "?api=v1").await).await.unwrap();
    let found: Vec<_> = listing.instances.iter().map(|one| (one.id().as_str(), one.weight().get())).collect();
    assert_eq!(found, [("10.0.0.7:1", 250)]);
    assert_eq!(listing.rejected, [], "they can be read");
}

#[tokio::test]
async fn an_unknown_instance_is_lost_until_it_is_published_again() {
    for (options, unknown) in [
        ("?api=v1", r#"{"clientBeatInterval":5000,"code":20404,"lightBeatEnabled":true}"#),
        ("?api=v3", r#"{"code":21003,"message":"instance not found","data":null}"#),
    ] {
        let forgotten = Arc::new(AtomicUsize::new(0));
        let state = Arc::clone(&forgotten);
        let fake = Fake::start(move |request| {
            let body = String::from_utf8_lossy(&request.body).into_owned();
            let is_beat = request.target.contains("/beat") || body.contains("heartBeat=true");
            if request.method == "POST" && !is_beat {
                state.store(0, Ordering::Relaxed);
            }
            if is_beat && state.load(Ordering::Relaxed) == 1 { Reply::ok(unknown) } else { usual(request) }
        });
        let fake = fake.await;
        let backend = connect(&fake, options).await;
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        assert_eq!(lease.renew(soon()).await.unwrap().lost, []);
        forgotten.store(1, Ordering::Relaxed);
        for _ in 0..2 {
            assert_eq!(lease.renew(soon()).await.unwrap().lost, [instance("a", 80).key()]);
        }
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        assert_eq!(lease.renew(soon()).await.unwrap().lost, []);
    }
}

#[tokio::test]
async fn a_beat_without_an_answer_is_missed_and_the_others_count() {
    let fake = Fake::start(move |request| {
        let is_stuck = request.target.contains("/beat") && request.target.contains("port=81");
        if is_stuck { Reply::Hang } else { usual(request) }
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    let outcomes = lease.publish(&[record("a", 80), record("b", 81)]).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let deadline = Instant::now() + Duration::from_millis(400);
    let renewal = lease.renew(deadline);
    let renewal =
        tokio::time::timeout_at(deadline + SLACK, renewal).await.expect("it keeps the deadline").unwrap();
    assert_eq!(renewal.missed, [instance("b", 81).key()]);
    assert_eq!(renewal.renew_after, Some(Duration::from_secs(5)));
    lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
    let error = lease.renew(Instant::now() + Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "nothing was renewed: {error:?}");
}

#[tokio::test]
async fn two_ids_at_one_address_are_refused() {
    let fake = Fake::start(usual).await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    let outcomes = lease.publish(&[record("a", 80), record("b", 80)]).await;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[1].as_ref().unwrap_err().kind(), ErrorKind::Conflict);
    let again = lease.publish(&[record("b", 80)]).await.remove(0).unwrap_err();
    assert!(again.to_string().contains("orders/a"), "{again}");
    lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
    lease.publish(&[record("b", 80)]).await.remove(0).unwrap();
}

#[tokio::test]
async fn an_instance_that_moves_leaves_nothing_at_its_old_address() {
    let fake = Fake::start(usual).await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    lease.publish(&[record("a", 81)]).await.remove(0).unwrap();
    let removed = fake.seen().into_iter().rfind(|seen| seen.method == "DELETE").unwrap();
    assert!(removed.target.contains("port=80"), "{removed:?}");
}

#[tokio::test]
async fn an_earlier_life_at_another_address_is_replaced_or_respected() {
    let predecessor = r#"{"hosts":[{"ip":"10.0.0.7","port":70,"metadata":{"sr.id":"a","sr.by":"000000000000000000000000000000ff/1/1"}}]}"#;
    let fake = Fake::start(move |request| match request.method.as_str() {
        "GET" => Reply::ok(predecessor),
        _ => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    let mut rejecting = record("a", 80);
    rejecting.on_duplicate = OnDuplicate::Reject;
    assert_eq!(lease.publish(&[rejecting]).await.remove(0).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(writes(&fake), Vec::<String>::new());
    assert_eq!(lease.inspect(&[instance("a", 80).key()]).await.unwrap(), [Presence::Foreign]);
    lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
    assert_eq!(writes(&fake), Vec::<String>::new(), "it is not ours to remove");
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    let removed = fake.seen().into_iter().rfind(|seen| seen.method == "DELETE").unwrap();
    assert!(removed.target.contains("port=70"), "{removed:?}");
}

#[tokio::test]
async fn the_wrong_kind_of_service_is_a_typed_error_that_names_the_option() {
    let text = "errCode: 400, errMsg: Current service DEFAULT_GROUP@@orders is persistent service, can't register ephemeral instance.";
    for (options, body) in [
        ("?api=v1", text.to_owned()),
        ("?api=v3", format!(r#"{{"code":30000,"message":"server error","data":"{text}"}}"#)),
    ] {
        let fake = Fake::start(move |request| match request.method.as_str() {
            "POST" => Reply::status(400, &body),
            _ => usual(request),
        });
        let fake = fake.await;
        let backend = connect(&fake, options).await;
        let error = grant(&backend).await.publish(&[record("a", 80)]).await.remove(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        assert!(error.to_string().contains("\"ephemeral\""), "{error}");
    }
}

#[tokio::test]
async fn a_record_that_the_server_would_not_take_is_refused_before_it_is_sent() {
    let fake = Fake::start(usual).await;
    let backend = connect(&fake, "?api=v1").await;
    let builder = Instance::builder("orders").id("a").endpoint("http://10.0.0.7:80");
    let large = Arc::new(builder.metadata("k", "x".repeat(1024)).build().unwrap());
    let refused = backend.registry.as_ref().unwrap().check(&large).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    let version = RecordVersion { incarnation: US, epoch: 1, sequence: 1 };
    let publish = Publish::new(large, version, OnDuplicate::TakeOver);
    let error = grant(&backend).await.publish(&[publish]).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(writes(&fake), Vec::<String>::new());
}

#[tokio::test]
async fn truncated_and_oversized_answers_are_errors_and_never_empty() {
    for reply in [
        Reply::ok(&EMPTY_V1.as_bytes()[..40]),
        Reply::ok("<html>a proxy</html>"),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n".to_vec()),
        Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"hosts\":[".to_vec()),
        Reply::status(500, ""),
        Reply::status(503, "server is STARTING now, please try again later!"),
    ] {
        let scripted = reply.clone();
        let fake = Fake::start(move |_| scripted.clone()).await;
        let error = lookup(&connect(&fake, "?api=v1&request_timeout=500ms").await).await.unwrap_err();
        let expected = [ErrorKind::Protocol, ErrorKind::Unavailable, ErrorKind::Timeout];
        assert!(expected.contains(&error.kind()), "{reply:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_push_brings_the_next_list_at_once_and_what_it_claims_is_not_believed() {
    let fake = Fake::start(usual).await;
    let backend = connect(&fake, "?api=v1&poll=60s").await;
    let mut watch = backend.discovery.as_ref().unwrap().watch(&target(), None);
    assert!(matches!(&event(&mut watch).await.changes[..], [Change::Reset(all)] if all.is_empty()));
    let asked = fake.seen().pop().unwrap();
    assert!(asked.header("user-agent").unwrap().starts_with("Nacos-"), "{asked:?}");
    assert!(asked.target.contains("clientIP=127.0.0.1"), "{asked:?}");
    let port =
        asked.target.split("udpPort=").nth(1).unwrap().split('&').next().unwrap().parse::<u16>().unwrap();

    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let claim = r#"{"type":"dom","lastRefTime":1,"data":"{\"name\":\"DEFAULT_GROUP@@orders\",\"hosts\":[{\"ip\":\"6.6.6.6\",\"port\":6}]}"}"#;
    server.send_to(claim.as_bytes(), ("127.0.0.1", port)).await.unwrap();
    assert!(event(&mut watch).await.changes.is_empty(), "the list says that nothing has changed");
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn packets_that_claim_changes_which_there_are_not_are_believed_ever_more_slowly() {
    let fake = Fake::start(usual).await;
    let backend = connect(&fake, "?api=v1&poll=60s").await;
    let mut watch = backend.discovery.as_ref().unwrap().watch(&target(), None);
    event(&mut watch).await;
    let asked = fake.seen().pop().unwrap().target;
    let port: u16 = asked.split("udpPort=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
    let liar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let flood = async {
        for stamp in 1.. {
            let claim = format!(
                r#"{{"type":"dom","lastRefTime":{stamp},"data":"{{\"name\":\"DEFAULT_GROUP@@orders\"}}"}}"#
            );
            liar.send_to(claim.as_bytes(), ("127.0.0.1", port)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let read = async {
        loop {
            event(&mut watch).await;
        }
    };
    let both = async { tokio::join!(flood, read) };
    assert!(tokio::time::timeout(Duration::from_secs(3), both).await.is_err());
    // After 0.2, 0.6, 1.4 and 3 s.
    let lists = fake.seen().len() - 1;
    assert!((2..=4).contains(&lists), "{lists} lists in 3 s");
}

#[tokio::test]
async fn a_watch_ends_on_its_first_failure() {
    use futures_util::StreamExt;
    let lists = AtomicUsize::new(0);
    let fake = Fake::start(move |request| match lists.fetch_add(1, Ordering::Relaxed) {
        0 => usual(request),
        _ => Reply::status(500, ""),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1&poll=1s&push=false").await;
    let mut watch = backend.discovery.as_ref().unwrap().watch(&target(), None);
    event(&mut watch).await;
    let failed = watch.next().await.unwrap().unwrap_err();
    assert_eq!((failed.kind(), failed.operation()), (ErrorKind::Unavailable, Some("watch")));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_persistent_lease_never_beats() {
    let fake = Fake::start(usual).await;
    let backend = connect(&fake, "?api=v1&ephemeral=false").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    let written = String::from_utf8(fake.seen().pop().unwrap().body).unwrap();
    assert!(written.contains("ephemeral=false") && !written.contains("preserved."), "{written}");
    lease.renew(soon()).await.unwrap();
    assert_eq!(writes(&fake), ["POST /nacos/v1/ns/instance"]);
}

#[tokio::test]
async fn whoever_is_no_operator_lists_names_and_is_refused_once_only() {
    let fake = Fake::start(|request| {
        let target = request.target.as_str();
        if target.starts_with("/nacos/v3/admin") {
            return Reply::status(403, r#"{"status":403,"error":"Forbidden"}"#);
        }
        if target.starts_with("/nacos/v1/ns/catalog") {
            return Reply::status(410, GONE);
        }
        Reply::ok(r#"{"count":1,"doms":["orders"]}"#)
    });
    let fake = fake.await;
    let backend = connect_as(":token@", &fake, "?api=v1").await;
    let catalogue = backend.catalogue.as_ref().unwrap();
    for _ in 0..3 {
        assert_eq!(catalogue.services().await.unwrap(), [registry_core::ServiceName::new("orders").unwrap()]);
    }
    let refused = fake.seen().into_iter().filter(|seen| seen.target.starts_with("/nacos/v3/admin"));
    assert_eq!(refused.count(), 1);
    let last = fake.seen().pop().unwrap().target;
    assert!(last.starts_with("/nacos/v1/ns/service/list?"), "{last}");
}
