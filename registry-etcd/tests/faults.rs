//! What the backend does when etcd dies, freezes, forgets or loses its quorum.
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod support;

use std::time::Duration;

use futures_util::StreamExt;
use registry_core::{
    ErrorKind,
    backend::{Change, Consistency, Cursor, Read, WatchStream},
};
use registry_testkit::{Etcd, EtcdCluster};
use support::{cluster_url, connect, dead_port, event, instance, key, reset_ids, target, url};
use tokio::time::{Instant, timeout};

async fn failure(watch: &mut WatchStream) -> registry_core::Error {
    loop {
        match timeout(Duration::from_secs(40), watch.next()).await.expect("it fails in time") {
            Some(Ok(_)) => {}
            Some(Err(error)) => return error,
            None => panic!("the stream ended without saying why"),
        }
    }
}

/// Repeats what the core would repeat.
async fn eventually<T, F: AsyncFnMut() -> Result<T, registry_core::Error>>(mut call: F) -> T {
    let start = Instant::now();
    loop {
        match call().await {
            Ok(value) => return value,
            Err(error) if start.elapsed() > Duration::from_secs(15) => panic!("{error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn after_a_kill_and_a_restart_the_watch_resumes_without_a_gap_and_the_lease_lives_on() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    let lease = node.grant(30).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();
    lease.renew(soon()).await.unwrap();
    let mut watch = node.watch("orders");
    event(&mut watch).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "b"), 1)]).await.remove(0).unwrap();
    let cursor = event(&mut watch).await.unwrap().cursor;

    etcd.kill().await.unwrap();
    let error = failure(&mut watch).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(watch.next().await.is_none(), "the failure is the last item");
    let error = lease.renew(soon()).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Unavailable,
        "an unreachable registry doesn't deny the lease: {error:?}"
    );

    etcd.restart().await.unwrap();
    eventually(async || lease.renew(soon()).await).await;
    let lease_outcome = lease.publish(&[node.record(&instance("orders", "c"), 1)]).await.remove(0);
    lease_outcome.unwrap();
    let mut watch = node.discovery().watch(&target("orders"), cursor);
    assert!(matches!(event(&mut watch).await.unwrap().changes[..], [Change::Resumed]));
    let missed = event(&mut watch).await.unwrap();
    assert!(
        matches!(&missed.changes[..], [Change::Upsert(i)] if i.key() == key("orders", "c")),
        "{missed:?}"
    );
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_server_that_lost_its_data_gets_a_new_list_and_no_resume() {
    let etcd = Etcd::start().await.unwrap();
    lose_data(&etcd).await;
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn lost_data_is_noticed_even_if_the_cluster_keeps_its_id() {
    // The id is made of the peers' addresses and this token.
    let etcd = Etcd::builder().arg("--initial-cluster-token=fixed").start().await.unwrap();
    lose_data(&etcd).await;
}

async fn lose_data(etcd: &Etcd) {
    let node = connect(&url(etcd)).await;
    let lease = node.grant(30).await.unwrap();
    for i in 0..5 {
        lease.publish(&[node.record(&instance("orders", &format!("i{i}")), 1)]).await.remove(0).unwrap();
    }
    let mut watch = node.watch("orders");
    event(&mut watch).await.unwrap();
    let mut unopened = node.watch("orders");
    event(&mut unopened).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "last"), 1)]).await.remove(0).unwrap();
    let before = event(&mut watch).await.unwrap();
    etcd.kill().await.unwrap();
    etcd.wipe().await.unwrap();
    etcd.restart().await.unwrap();
    failure(&mut watch).await;
    assert_eq!(
        eventually(async || match lease.renew(soon()).await {
            Err(error) if error.kind() == ErrorKind::LeaseLost => Ok(error.kind()),
            other => other.map(|_| ErrorKind::Closed),
        })
        .await,
        ErrorKind::LeaseLost
    );
    let mut watch = node.discovery().watch(&target("orders"), before.cursor);
    let after = event(&mut watch).await.unwrap();
    assert!(reset_ids(&after).is_empty());
    assert!(after.evidence.revision < before.evidence.revision, "the core sees the history go back");
    // A session whose list came from the old server and whose watch meets the new one: the core lists again, in a
    // session of its own, as it paces those.
    let error = event(&mut unopened).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error}");
    assert!(unopened.next().await.is_none(), "a session ends with its first failure");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_cursor_that_was_compacted_away_says_so_and_a_new_session_lists() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    let lease = node.grant(30).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();
    let mut watch = node.watch("orders");
    let cursor = event(&mut watch).await.unwrap().cursor;
    drop(watch);
    for i in 0..10 {
        lease.publish(&[node.record(&instance("orders", &format!("i{i}")), 1)]).await.remove(0).unwrap();
    }
    let now = node
        .discovery()
        .lookup(&target("orders"), &Read::default())
        .await
        .unwrap()
        .evidence
        .revision
        .unwrap();
    etcd.ctl().compact(now.cast_signed()).await.unwrap();
    let mut watch = node.discovery().watch(&target("orders"), cursor);
    let error = failure(&mut watch).await;
    assert_eq!(error.kind(), ErrorKind::Compacted, "{error:?}");
    assert_eq!(reset_ids(&event(&mut node.watch("orders")).await.unwrap()).len(), 11);
    // The compacted revision itself can still be resumed from.
    let cluster =
        node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap().evidence.source.unwrap();
    let mut watch = node.discovery().watch(&target("orders"), Some(Cursor::new(format!("{cluster}/{now}"))));
    assert!(matches!(event(&mut watch).await.unwrap().changes[..], [Change::Resumed]));
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_malformed_cursor_is_not_honoured() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    for cursor in ["", "x", "1/", "zz/5", "1/-3", "ffffffffffffffffff/1"] {
        let mut watch = node.discovery().watch(&target("orders"), Some(Cursor::new(cursor)));
        assert!(reset_ids(&event(&mut watch).await.unwrap()).is_empty(), "{cursor}");
    }
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_frozen_server_is_bounded_by_the_deadlines_of_each_call() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&format!("etcd://{}?request_timeout=1s", etcd.address())).await;
    let lease = node.grant(30).await.unwrap();
    let a = instance("orders", "a");
    lease.publish(&[node.record(&a, 1)]).await.remove(0).unwrap();
    lease.renew(soon()).await.unwrap();
    let mut watch = node.watch("orders");
    event(&mut watch).await.unwrap();
    etcd.freeze().await.unwrap();
    // 1 s per call and up to one more for a busy machine.
    let bound = Duration::from_secs(2);
    let publish = timeout(bound, lease.publish(&[node.record(&a, 2)])).await.unwrap().remove(0).unwrap_err();
    assert_eq!(publish.kind(), ErrorKind::Timeout, "{publish:?}");
    let renew =
        timeout(bound, lease.renew(Instant::now() + Duration::from_secs(1))).await.unwrap().unwrap_err();
    assert_eq!(renew.kind(), ErrorKind::Timeout, "{renew:?}");
    let grant = timeout(bound, node.grant(5)).await.unwrap().unwrap_err();
    assert_eq!(grant.kind(), ErrorKind::Timeout, "{grant:?}");
    let looked = timeout(bound, node.discovery().lookup(&target("orders"), &Read::default())).await.unwrap();
    assert_eq!(looked.unwrap_err().kind(), ErrorKind::Timeout);
    let stuck = failure(&mut watch).await;
    assert!(matches!(stuck.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{stuck:?}");
    etcd.thaw().unwrap();
    eventually(async || lease.renew(soon()).await).await;
    eventually(async || lease.publish(&[node.record(&a, 3)]).await.remove(0)).await;
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn an_idle_watch_gives_a_sign_of_life_every_ten_seconds() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    let mut watch = node.watch("orders");
    let opened = event(&mut watch).await.unwrap();
    let sign = timeout(Duration::from_secs(12), watch.next()).await.unwrap().unwrap().unwrap();
    assert!(sign.changes.is_empty());
    assert_eq!(sign.evidence.revision, opened.evidence.revision, "nobody has written anything");
    // Somebody else's write moves the revision without touching the service.
    etcd.ctl().put("/prod/billing/x", "{}").await.unwrap();
    let sign = timeout(Duration::from_secs(12), watch.next()).await.unwrap().unwrap().unwrap();
    assert!(sign.changes.is_empty());
    assert!(sign.evidence.revision > opened.evidence.revision, "progress moves the cursor");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn dead_endpoints_cost_at_most_one_attempt() {
    let etcd = Etcd::start().await.unwrap();
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute_port = mute.local_addr().unwrap().port();
    // Each client shuffles: some start with the endpoint that refuses, some with the one that never answers.
    for _ in 0..8 {
        let url = format!(
            "etcd://127.0.0.1:{},{},127.0.0.1:{mute_port}?request_timeout=1s",
            dead_port(),
            etcd.address()
        );
        let node = connect(&url).await;
        let lease = node.grant(30).await.unwrap();
        let start = Instant::now();
        for i in 0..20 {
            lease.publish(&[node.record(&instance("orders", "a"), i + 2)]).await.remove(0).unwrap();
        }
        assert!(
            start.elapsed() < Duration::from_millis(400),
            "the dead are not asked again: {:?}",
            start.elapsed()
        );
    }
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_caller_with_a_shorter_deadline_than_ours_still_moves_on_from_a_frozen_endpoint() {
    let cluster = EtcdCluster::start(3).await.unwrap();
    let node = connect(&(cluster_url(&cluster) + "?request_timeout=10s")).await;
    let first = node
        .discovery()
        .lookup(&target("orders"), &Read::default())
        .await
        .unwrap()
        .evidence
        .endpoint
        .unwrap();
    let frozen = cluster.nodes().iter().find(|n| n.address().to_string() == *first).unwrap();
    frozen.freeze().await.unwrap();
    let dropped =
        timeout(Duration::from_millis(700), node.discovery().lookup(&target("orders"), &Read::default()))
            .await;
    assert!(dropped.is_err());
    let second = eventually(async || {
        timeout(Duration::from_millis(700), node.discovery().lookup(&target("orders"), &Read::default()))
            .await
            .unwrap_or_else(|_| Err(registry_core::Error::new(ErrorKind::Timeout, "too slow")))
    })
    .await;
    assert_ne!(second.evidence.endpoint.unwrap(), first);
    frozen.thaw().unwrap();
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_second_opinion_comes_from_another_member() {
    let cluster = EtcdCluster::start(3).await.unwrap();
    let node = connect(&cluster_url(&cluster)).await;
    let first = node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap().evidence.endpoint;
    let read = Read::new(Consistency::Strong).avoiding(first.clone());
    let second = node.discovery().lookup(&target("orders"), &read).await.unwrap().evidence.endpoint;
    assert_ne!(first, second);
    let third = node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap().evidence.endpoint;
    assert_eq!(first, third, "a second opinion moves nobody");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn renewals_outlive_the_loss_of_the_leader() {
    let cluster = EtcdCluster::start(3).await.unwrap();
    let node = connect(&cluster_url(&cluster)).await;
    let lease = node.grant(6).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();
    lease.renew(soon()).await.unwrap();
    let leader = cluster.leader_index().await.expect("there is a leader");
    cluster.node(leader).kill().await.unwrap();
    let end = Instant::now() + Duration::from_secs(12);
    let mut last = Instant::now();
    while Instant::now() < end {
        match lease.renew(Instant::now() + Duration::from_secs(1)).await {
            Ok(_) => last = Instant::now(),
            Err(error) => assert_ne!(error.kind(), ErrorKind::LeaseLost, "{error:?}"),
        }
        assert!(last.elapsed() < Duration::from_secs(5), "renewals stopped");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let listing =
        eventually(async || node.discovery().lookup(&target("orders"), &Read::default()).await).await;
    assert_eq!(listing.instances.len(), 1, "twice the time to live later the record is still there");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn without_a_quorum_only_serializable_reads_are_answered() {
    let cluster = EtcdCluster::start(3).await.unwrap();
    let node = connect(&cluster_url(&cluster)).await;
    let stale = connect(&(cluster_url(&cluster) + "?read=serializable")).await;
    let lease = node.grant(60).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();
    let mut watch = node.watch("orders");
    event(&mut watch).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.node(0).kill().await.unwrap();
    cluster.node(1).kill().await.unwrap();
    let ended = failure(&mut watch).await;
    assert_eq!(ended.kind(), ErrorKind::Unavailable, "a member without leader ends its watches: {ended:?}");
    let strong = node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap_err();
    assert!(matches!(strong.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{strong:?}");
    let listing = stale.discovery().lookup(&target("orders"), &Read::default()).await.unwrap();
    assert_eq!(listing.instances.len(), 1);
    let read = Read::new(Consistency::Stale);
    assert_eq!(node.discovery().lookup(&target("orders"), &read).await.unwrap().instances.len(), 1);
}
