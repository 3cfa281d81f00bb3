//! Servers that come back with less than they had, as clients register again one after the other.

use std::sync::Mutex;

use registry_core::{Client, backend::SourceId};

use super::*;

fn list_of(count: u16) -> Reply {
    let host = |port| format!(r#"{{"ip":"10.0.0.7","port":{port}}}"#);
    let hosts: Vec<String> = (1..=count).map(host).collect();
    Reply::ok(format!(r#"{{"hosts":[{}]}}"#, hosts.join(",")))
}

/// A server whose lists are as `reply` says now.
async fn listing(reply: Reply) -> (Fake, Arc<Mutex<Reply>>) {
    let reply = Arc::new(Mutex::new(reply));
    let state = Arc::clone(&reply);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "GET" => state.lock().unwrap().clone(),
        _ if matches!(*state.lock().unwrap(), Reply::Close) => Reply::Close,
        _ => usual(request),
    });
    (fake.await, reply)
}

#[tokio::test]
async fn after_a_restart_who_is_not_back_yet_is_still_shown() {
    let (fake, reply) = listing(list_of(10)).await;
    let url = format!("nacos://{}?api=v1&poll=1s&push=false", fake.address);
    let client = Client::builder().connector(NacosConnector::new()).url(&url).build().await.unwrap();
    let orders = client.discover("orders").await.unwrap();
    assert_eq!(orders.snapshot().len(), 10);
    let lists = || fake.seen().len();
    let listed = async |more: usize| {
        let before = lists();
        while lists() < before + more {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Some leave, and are believed to.
    *reply.lock().unwrap() = list_of(9);
    listed(3).await;
    assert_eq!(orders.snapshot().len(), 9);
    *reply.lock().unwrap() = list_of(10);
    listed(3).await;
    *reply.lock().unwrap() = Reply::Close;
    // Two calls, each repeated at once as its connection broke.
    listed(4).await;
    *reply.lock().unwrap() = list_of(6);
    listed(4).await;
    assert_eq!(orders.snapshot().len(), 10, "they are registering again");
    *reply.lock().unwrap() = list_of(10);
    listed(2).await;
    assert_eq!(orders.snapshot().len(), 10);
    client.close().await;
}

#[tokio::test]
async fn data_may_have_started_anew_when_a_server_was_away_and_not_when_it_was_slow_or_busy() {
    for (reply, is_anew) in [
        (Reply::Close, true),
        (Reply::status(503, "server is STARTING now, please try again later!"), true),
        (Reply::status(502, "no upstream"), true),
        (Reply::status(500, "caused: java.lang.NullPointerException"), false),
        (Reply::status(429, "over").with("Retry-After", &"1"), false),
        (Reply::status(503, "over").with("Retry-After", &"1"), false),
        (Reply::Hang, false),
    ] {
        let (fake, now) = listing(list_of(2)).await;
        let backend = connect(&fake, "?api=v1&push=false&request_timeout=300ms").await;
        let source = async || -> Option<SourceId> { lookup(&backend).await.unwrap().evidence.source };
        let before = source().await;
        assert_eq!(source().await, before);
        let mut watch = backend.discovery.as_ref().unwrap().watch(&target(), None);
        assert_eq!(event(&mut watch).await.evidence.source, before);
        *now.lock().unwrap() = reply.clone();
        lookup(&backend).await.unwrap_err();
        later(Duration::from_secs(1)).await;
        *now.lock().unwrap() = list_of(2);
        let after = source().await;
        assert_eq!(after != before, is_anew, "{reply:?}");
        assert_eq!(source().await, after, "once");
        // Who saw nothing of it begins anew all the same.
        let told = event(&mut watch).await;
        assert_eq!(told.evidence.source, after);
        assert_eq!(matches!(told.changes[..], [Change::Reset(_)]), is_anew, "{reply:?}: {told:?}");
    }
}

#[tokio::test]
async fn a_stray_failure_among_answers_starts_nothing_anew() {
    for reply in [Reply::Close, Reply::status(502, "no upstream")] {
        let (fake, now) = listing(list_of(2)).await;
        let backend = connect(&fake, "?api=v1&push=false").await;
        let source = async || lookup(&backend).await.unwrap().evidence.source;
        let before = source().await;
        // The third is the first call after a while: its answer comes at once when it is made again.
        for (quiet, failures) in [(0, 1), (0, 3), (5, 1)] {
            later(Duration::from_secs(quiet)).await;
            *now.lock().unwrap() = reply.clone();
            for _ in 0..failures {
                lookup(&backend).await.unwrap_err();
            }
            *now.lock().unwrap() = list_of(2);
            assert_eq!(source().await, before, "{reply:?}: {failures} after {quiet} s");
        }
    }
}

#[tokio::test]
async fn a_server_that_alone_was_asked_for_an_instance_may_fail_and_the_data_are_the_same() {
    for options in ["?api=v1", "?api=v3"] {
        // Who tells no one of an instance is asked by a beat.
        let is_pinned = |request: &Seen| {
            let is_one = request.method == "GET" && !request.target.contains("/list");
            is_one || String::from_utf8_lossy(&request.body).contains("heartBeat=true")
        };
        let fake = Fake::start(move |request| match is_pinned(request) {
            true if request.target.contains("/admin/") => Reply::status(403, "no rights"),
            true => Reply::status(502, "no upstream"),
            false => usual(request),
        });
        let fake = fake.await;
        let backend = connect(&fake, options).await;
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        let source = async || lookup(&backend).await.unwrap().evidence.source;
        let before = source().await;
        later(Duration::from_secs(3)).await;
        let keys = [instance("a", 80).key()];
        lease.inspect(&keys).await.unwrap();
        assert!(fake.seen().iter().any(is_pinned), "{options}");
        later(Duration::from_secs(3)).await;
        assert_eq!(source().await, before, "{options}");
    }
}
