use std::time::Duration;

use futures_util::StreamExt;
use registry_core::{
    Discovery, ErrorKind, Incarnation, Instance, Namespace, Target,
    backend::{Read, WatchStream},
    model::RecordVersion,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    consul::{codec::encode_meta, config::ConsulConfig, discovery::ConsulDiscovery, names::Names},
    http::fake::{Fake, Reply, Seen},
};

mod datacenters;
mod missed;
mod owed;
mod partial;
mod told;

/// Answers lists of services as told, by the number of the read; and nothing to whom asks which registry it is.
async fn lists(mut script: impl FnMut(usize, &Seen) -> Reply + Send + 'static) -> Fake {
    let mut reads = 0;
    Fake::start(move |seen| {
        if seen.target.starts_with("/v1/catalog/service/consul") {
            return Reply::ok("[]");
        }
        reads += 1;
        script(reads, seen)
    })
    .await
}

fn reads(fake: &Fake) -> Vec<String> {
    let targets = fake.seen().into_iter().map(|seen| seen.target);
    targets.filter(|target| !target.starts_with("/v1/catalog/service/consul")).collect()
}

fn discovery(fake: &Fake, options: &str) -> ConsulDiscovery {
    let config: ConsulConfig = format!("consul://{}?wait=1s{options}", fake.address).parse().unwrap();
    ConsulDiscovery::new(Session::new(config, None), Names::new(&Namespace::default()))
}

fn target() -> Target {
    Target::try_from("orders").unwrap()
}

fn watch(fake: &Fake, options: &str) -> WatchStream {
    discovery(fake, options).watch(&target(), None)
}

fn entry(id: &str, port: u16) -> Value {
    json!({"Node": {"Node": "n1", "Address": "10.0.0.1"},
        "Service": {"ID": id, "Service": "orders", "Address": "10.0.0.1", "Port": port},
        "Checks": [{"CheckID": "serfHealth", "Status": "passing"}]})
}

fn list(index: u64, entries: &[Value]) -> Reply {
    Reply::ok(Value::from(entries).to_string()).with("X-Consul-Index", &index)
}

/// Events as text: `=` with ids, `+`, `-`, `!` for rejected ones, and the revision.
fn shown(event: &Event) -> String {
    let mut text = String::new();
    for change in &event.changes {
        text.push_str(&match change {
            Change::Reset(all) => {
                format!("={:?} ", all.iter().map(|one| one.id().as_str()).collect::<Vec<_>>())
            }
            Change::Upsert(one) => format!("+{}:{} ", one.id(), one.endpoint().port()),
            Change::Remove(key) => format!("-{} ", key.id),
            other => format!("{other:?} "),
        });
    }
    for key in &event.rejected {
        text.push_str(&format!("!{} ", key.id));
    }
    text + &format!("@{:?}", event.evidence.revision)
}

async fn next(stream: &mut WatchStream) -> String {
    shown(&stream.next().await.unwrap().unwrap())
}

#[tokio::test]
async fn only_what_changed_is_told_and_the_same_list_is_a_sign_of_life() {
    let fake = lists(|read, _| match read {
        1 => list(5, &[entry("a", 1), entry("b", 1)]),
        2 => list(5, &[entry("a", 1), entry("b", 1)]),
        3 => list(7, &[entry("a", 1), entry("c", 1)]),
        _ => Reply::Hang,
    })
    .await;
    let mut stream = watch(&fake, "");
    assert_eq!(next(&mut stream).await, r#"=["a@n1", "b@n1"] @Some(5)"#);
    assert_eq!(next(&mut stream).await, "@Some(5)");
    assert_eq!(next(&mut stream).await, "+c@n1:1 -b@n1 @Some(7)");
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(stream.next().await.is_none());
    let asked = reads(&fake);
    assert_eq!(asked[0], "/v1/health/service/orders?stale");
    assert_eq!(asked[3], "/v1/health/service/orders?stale&index=7&wait=1000ms");
}

#[tokio::test]
async fn an_index_that_went_back_is_followed_by_a_whole_list_from_the_leader() {
    let fake = lists(|read, _| match read {
        1 => list(100, &[entry("a", 1)]),
        2 => list(9, &[]),
        3 => list(10, &[entry("b", 1)]),
        _ => Reply::Hang,
    })
    .await;
    let mut stream = watch(&fake, "");
    assert_eq!(next(&mut stream).await, r#"=["a@n1"] @Some(100)"#);
    assert_eq!(next(&mut stream).await, r#"=["b@n1"] @Some(10)"#);
    assert_eq!(reads(&fake)[2], "/v1/health/service/orders");
}

#[tokio::test]
async fn a_lower_index_of_another_kind_of_answer_is_no_way_back() {
    let streaming = |index, entries: &[Value]| {
        list(index, entries)
            .with("X-Consul-Query-Backend", &"streaming")
            .with("X-Consul-KnownLeader", &"false")
    };
    let fake = lists(move |read, _| match read {
        1 => list(36, &[]).with("X-Consul-Query-Backend", &"blocking-query"),
        2 => streaming(25, &[]),
        3 => streaming(40, &[entry("a", 1)]),
        _ => Reply::Hang,
    })
    .await;
    let mut stream = watch(&fake, "");
    assert_eq!(next(&mut stream).await, "=[] @Some(36)");
    assert_eq!(next(&mut stream).await, "@Some(36)");
    assert_eq!(next(&mut stream).await, "+a@n1:1 @Some(40)");
}

#[tokio::test]
async fn an_agents_empty_view_is_not_believed_before_the_leader_says_so() {
    let empty = |index: u64| list(index, &[]).with("X-Consul-Query-Backend", &"streaming");
    let fake = lists(move |read, _| match read {
        1 => list(25, &[entry("a", 1)]).with("X-Consul-Query-Backend", &"blocking-query"),
        // The token was revoked, or the agent's view is broken.
        2 | 4 => empty(1),
        3 => list(26, &[entry("a", 1)]),
        5 => Reply::status(403, "ACL not found"),
        _ => Reply::Hang,
    })
    .await;
    let mut stream = watch(&fake, "");
    assert_eq!(next(&mut stream).await, r#"=["a@n1"] @Some(25)"#);
    assert_eq!(next(&mut stream).await, "@Some(26)");
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::Unauthenticated);
    let looked =
        lists(move |read, _| if read == 1 { empty(1) } else { Reply::status(403, "ACL not found") }).await;
    let error = discovery(&looked, "&read=cached").lookup(&target(), &Read::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn an_index_of_zero_counts_as_one() {
    let fake = lists(|read, _| match read {
        1 => list(0, &[]),
        _ => Reply::Hang,
    })
    .await;
    let mut stream = watch(&fake, "");
    next(&mut stream).await;
    assert!(stream.next().await.unwrap().is_err());
    assert!(reads(&fake)[1].contains("index=1&"), "{:?}", reads(&fake));
}

#[tokio::test]
async fn a_server_that_returns_at_once_makes_no_busy_loop() {
    let fake = lists(|read, _| list(read as u64, &[entry("a", 1)])).await;
    let mut stream = watch(&fake, "");
    let drain = async { while stream.next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
    // More than a session that ends at its first answers would make.
    assert!((5..=22).contains(&reads(&fake).len()), "{}", reads(&fake).len());
}

#[tokio::test]
async fn a_server_that_ignores_the_index_is_asked_ever_more_rarely() {
    let fake = lists(|_, _| list(5, &[entry("a", 1)])).await;
    let mut stream = watch(&fake, "");
    let drain = async { while stream.next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
    assert!((5..=14).contains(&reads(&fake).len()), "{}", reads(&fake).len());
}

#[tokio::test]
async fn every_failure_ends_the_session_and_none_is_an_empty_list() {
    let filtered = || list(6, &[]).with("X-Consul-Results-Filtered-By-ACLs", &"true");
    let anonymous = || list(6, &[]).with("X-Consul-Default-Acl-Policy", &"deny");
    for (reply, kind) in [
        (Reply::status(500, "No cluster leader"), ErrorKind::Unavailable),
        (Reply::status(429, "Your IP is issuing too many concurrent connections"), ErrorKind::RateLimited),
        (Reply::status(503, "rate limit exceeded"), ErrorKind::RateLimited),
        (Reply::status(403, "ACL not found"), ErrorKind::Unauthenticated),
        (Reply::status(403, "Permission denied"), ErrorKind::PermissionDenied),
        (filtered(), ErrorKind::PermissionDenied),
        (anonymous(), ErrorKind::PermissionDenied),
        (Reply::status(404, "404 page not found"), ErrorKind::Protocol),
        (Reply::ok("[{\"Node\":"), ErrorKind::Protocol),
        (Reply::ok("<html>"), ErrorKind::Protocol),
        (Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n[".to_vec()), ErrorKind::Protocol),
        (Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[".to_vec()), ErrorKind::Unavailable),
        (Reply::Close, ErrorKind::Unavailable),
    ] {
        let answer = reply.clone();
        let fake = lists(move |read, _| match read {
            1 => list(5, &[entry("a", 1)]),
            _ => answer.clone(),
        })
        .await;
        let mut stream = watch(&fake, "");
        next(&mut stream).await;
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), kind, "{reply:?}: {error:?}");
        assert!(error.to_string().contains(&fake.address), "{error} names the agent");
        assert!(stream.next().await.is_none());
        let looked = discovery(&fake, "").lookup(&target(), &Read::default()).await;
        assert_eq!(looked.unwrap_err().kind(), kind, "{reply:?} of a look-up");
    }
}

#[tokio::test]
async fn an_empty_list_is_the_truth_for_who_has_a_token() {
    let fake = lists(|_, _| list(6, &[]).with("X-Consul-Default-Acl-Policy", &"deny")).await;
    let config: ConsulConfig = format!("consul://:secret@{}", fake.address).parse().unwrap();
    let discovery = ConsulDiscovery::new(Session::new(config, None), Names::new(&Namespace::default()));
    let listing = discovery.lookup(&target(), &Read::default()).await.unwrap();
    assert!(listing.instances.is_empty());
    assert_eq!(fake.seen()[0].header("x-consul-token"), Some("secret"));
    assert!(!fake.seen()[0].target.contains("secret"));
}

#[tokio::test]
async fn a_list_that_was_filtered_removes_nobody() {
    let filtered = |entries: &[Value]| list(6, entries).with("X-Consul-Results-Filtered-By-ACLs", &"true");
    for (first, second) in [(vec![entry("a", 1), entry("b", 1)], vec![entry("a", 1)]), (vec![], vec![])] {
        let fake = lists(move |read, _| if read == 1 { list(5, &first) } else { filtered(&second) }).await;
        let discovery = discovery(&fake, "");
        let mut stream = discovery.watch(&target(), None);
        next(&mut stream).await;
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        let looked = discovery.lookup(&target(), &Read::default()).await;
        assert_eq!(looked.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}

#[tokio::test]
async fn an_anonymous_readers_empty_list_is_believed_if_the_registry_says_what_may_be_read() {
    let allowed = |service: bool, node: bool| {
        let answer = |resource: &str, allow| json!({"Resource": resource, "Access": "read", "Allow": allow});
        Reply::ok(json!([answer("service", service), answer("node", node)]).to_string())
    };
    for (told, expected) in [
        (allowed(true, true), None),
        (allowed(true, false), Some(ErrorKind::PermissionDenied)),
        (allowed(false, true), Some(ErrorKind::PermissionDenied)),
        // An agent that doesn't say.
        (Reply::ok("[]"), Some(ErrorKind::PermissionDenied)),
        (Reply::status(403, "Endpoint is blocked by agent configuration"), Some(ErrorKind::PermissionDenied)),
        (Reply::status(404, "404 page not found"), Some(ErrorKind::PermissionDenied)),
        // Its own token is no more.
        (Reply::status(403, "ACL not found"), Some(ErrorKind::Unauthenticated)),
        (Reply::status(500, "No cluster leader"), Some(ErrorKind::Unavailable)),
    ] {
        let fake = lists(move |_, seen| match seen.target.starts_with("/v1/internal/acl/authorize") {
            true => told.clone(),
            false => list(6, &[]).with("X-Consul-Default-Acl-Policy", &"deny"),
        })
        .await;
        let looked = discovery(&fake, "").lookup(&target(), &Read::default()).await;
        assert_eq!(looked.as_ref().err().map(Error::kind), expected, "{looked:?}");
        let asked = fake.seen().into_iter().find(|seen| seen.method == "POST").expect("it is asked");
        let asked: Value = serde_json::from_slice(&asked.body).unwrap();
        assert_eq!(asked[0], json!({"Resource": "service", "Access": "read", "Segment": "orders"}));
        assert_eq!(asked[1], json!({"Resource": "node", "Access": "read", "Segment": ""}));
    }
}

#[tokio::test]
async fn rights_that_end_while_a_list_is_empty_are_noticed() {
    let mut may = true;
    let fake = lists(move |_, seen| {
        if !seen.target.starts_with("/v1/internal/acl/authorize") {
            return list(6, &[]).with("X-Consul-Default-Acl-Policy", &"deny");
        }
        let answer = json!([{"Allow": may}, {"Allow": may}]);
        may = false;
        Reply::ok(answer.to_string())
    })
    .await;
    let mut stream = watch(&fake, "");
    assert_eq!(next(&mut stream).await, "=[] @Some(6)");
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_failure_is_told_while_nobody_says_which_registry_it_is() {
    let fake = Fake::start(|seen| match seen.target.as_str() {
        target if target.starts_with("/v1/catalog/service/consul") => Reply::Hang,
        target if target.starts_with("/v1/health/service/broken") => Reply::status(500, "No cluster leader"),
        _ => list(5, &[]),
    })
    .await;
    let discovery = discovery(&fake, "&request_timeout=60s");
    let mut asking = discovery.watch(&target(), None);
    let asking = tokio::spawn(async move { asking.next().await });
    while fake.seen().len() < 2 {
        tokio::task::yield_now().await;
    }
    let mut broken = discovery.watch(&Target::try_from("broken").unwrap(), None);
    let told = tokio::time::timeout(Duration::from_secs(20), broken.next()).await;
    assert!(told.expect("at once").unwrap().is_err());
    asking.abort();
}

#[tokio::test]
async fn which_registry_it_is_is_asked_once_for_all_and_again_if_the_one_who_asked_gave_up() {
    let mut questions = 0;
    let fake = Fake::start(move |seen| {
        assert!(seen.target.starts_with("/v1/catalog/service/consul"));
        questions += 1;
        let node = json!([{"ID": "node-1", "Datacenter": "dc1", "CreateIndex": 5}]);
        let answer = Reply::ok(node.to_string());
        if questions == 1 { Reply::Hang } else { Reply::After(Duration::from_millis(50), Box::new(answer)) }
    })
    .await;
    let config: ConsulConfig = format!("consul://{}?request_timeout=60s", fake.address).parse().unwrap();
    let session = Session::new(config, None);
    let ask = || {
        let session = Arc::clone(&session);
        tokio::spawn(async move { session.source(None).await })
    };
    let first = ask();
    while fake.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let others: Vec<_> = (0..20).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    first.abort();
    for other in others {
        let told = tokio::time::timeout(Duration::from_secs(20), other).await;
        assert_eq!(told.expect("somebody else asks").unwrap(), SourceId::new("dc1/node-1"));
    }
    assert_eq!(fake.seen().len(), 2);
}

#[tokio::test]
async fn a_bad_record_is_told_and_hides_nobody() {
    let fake = lists(|_, _| list(5, &[entry("a", 1), entry("bad", 0), entry("b", 1)])).await;
    let mut stream = watch(&fake, "");
    assert_eq!(next(&mut stream).await, r#"=["a@n1", "b@n1"] !bad@n1 @Some(5)"#);
}

#[tokio::test]
async fn an_instance_at_two_agents_is_one_in_its_latest_version() {
    let record = |node: &str, epoch: u64, port: u16| {
        let endpoint = format!("http://10.0.0.1:{port}");
        let instance = Instance::builder("orders").id("a1").endpoint(endpoint).build().unwrap();
        let version = RecordVersion { incarnation: Incarnation::from_bits(1), epoch, sequence: 1 };
        let mut entry = entry("orders:a1", port);
        entry["Node"]["Node"] = node.into();
        entry["Service"]["Meta"] = json!(encode_meta(&instance, version).unwrap());
        entry
    };
    let fake = lists(move |read, _| match read {
        1 => list(5, &[record("n1", 1, 1)]),
        2 => list(6, &[record("n1", 1, 1), record("n2", 2, 2)]),
        3 => list(7, &[record("n2", 2, 2)]),
        _ => Reply::Hang,
    })
    .await;
    let mut stream = watch(&fake, "");
    let mut ports = Vec::new();
    for _ in 0..3 {
        for change in stream.next().await.unwrap().unwrap().changes {
            let Change::Reset(all) = change else { panic!("{change:?}") };
            ports.extend(all.iter().map(|one| one.endpoint().port()));
        }
    }
    assert_eq!(ports, [1, 2, 2]);
}

#[tokio::test]
async fn a_prepared_query_is_executed_again_and_again() {
    let answer = |entries: &[Value]| {
        Reply::ok(json!({"Service": "orders", "Nodes": entries}).to_string()).with("X-Consul-Index", &1)
    };
    let fake = lists(move |read, _| match read {
        1 => answer(&[entry("a", 1)]),
        2 => answer(&[entry("b", 1)]),
        _ => Reply::status(404, "Query not found"),
    })
    .await;
    let target = target().with_qualifier("query", "near orders").unwrap();
    let mut stream = discovery(&fake, "&poll=1s").watch(&target, None);
    next(&mut stream).await;
    assert!(next(&mut stream).await.starts_with("+b@n1:1 -a@n1"));
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(reads(&fake)[1], "/v1/query/near%20orders/execute?stale");
}

#[tokio::test]
async fn a_prepared_query_that_fails_over_gives_addresses_that_lead_there() {
    let placed = |id: &str, dc: &str| {
        let mut entry = entry(id, 1);
        entry["Node"]["Datacenter"] = dc.into();
        entry["Service"]["TaggedAddresses"] = json!({"wan": {"Address": "198.51.100.1", "Port": 2}});
        entry
    };
    let fake = Fake::start(move |seen| {
        if seen.target.starts_with("/v1/catalog/service/consul") {
            return Reply::ok(json!([{"ID": "n", "Datacenter": "dc1", "CreateIndex": 5}]).to_string());
        }
        if seen.target.contains("dc=dc9") {
            return list(5, &[]);
        }
        let dc = if seen.target.contains("dc=dc1") || !seen.target.contains("far") { "dc1" } else { "dc2" };
        let entries = [placed("a", dc)];
        match seen.target.contains("/v1/query/") {
            true => Reply::ok(json!({"Service": "orders", "Datacenter": dc, "Nodes": entries}).to_string()),
            false => list(5, &entries),
        }
    })
    .await;
    let near = target().with_qualifier("query", "near").unwrap();
    let far = target().with_qualifier("query", "far").unwrap();
    // The agent's own, whatever its place among those that are named.
    let named = target().with_qualifier("dc", "dc9,dc1").unwrap();
    for (target, port) in [(&near, 1), (&far, 2), (&named, 1)] {
        let listing = discovery(&fake, "").lookup(target, &Read::default()).await.unwrap();
        assert_eq!(listing.instances[0].endpoint().port(), port, "{target:?}");
    }
}

#[tokio::test]
async fn an_unknown_qualifier_is_refused_and_a_known_one_is_passed_on() {
    let fake = lists(|_, _| list(5, &[])).await;
    for (key, value) in [("grup", "x"), ("query", ".."), ("query", ".")] {
        let wrong = target().with_qualifier(key, value).unwrap();
        let error = discovery(&fake, "").lookup(&wrong, &Read::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    assert!(reads(&fake).is_empty());
    let tagged = target().with_qualifier("tag", "a\"b").unwrap().with_qualifier("near", "_agent").unwrap();
    discovery(&fake, "&ns=team&partition=p&read=consistent").lookup(&tagged, &Read::default()).await.unwrap();
    assert_eq!(
        reads(&fake)[0],
        "/v1/health/service/orders?ns=team&partition=p&near=_agent&filter=%22a%5Cx22b%22%20in%20Service.Tags&consistent"
    );
}
