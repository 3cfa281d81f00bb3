//! Publishing, finding and removing, against a real etcd.
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod support;

use std::{sync::Arc, time::Duration};

use registry_core::{
    ErrorKind, OnDuplicate,
    backend::{Change, Lifetime, Presence, Read},
};
use registry_testkit::Etcd;
use support::{connect, event, instance, key, reset_ids, target, url};
use tokio::time::Instant;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_record_is_published_found_watched_renewed_and_revoked() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    let mut watch = node.watch("orders");
    assert!(reset_ids(&event(&mut watch).await.unwrap()).is_empty());

    let lease = node.grant(5).await.unwrap();
    assert_eq!(lease.lifetime(), Lifetime::Leased { ttl: Duration::from_secs(5) });
    let a = instance("orders", "a");
    lease.publish(&[node.record(&a, 1)]).await.remove(0).unwrap();

    let seen = event(&mut watch).await.unwrap();
    let Change::Upsert(upserted) = &seen.changes[0] else { panic!("{seen:?}") };
    assert_eq!(**upserted, a);
    let listing = node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap();
    assert_eq!(*listing.instances[0], a);
    assert_eq!(listing.evidence.revision, seen.evidence.revision);
    assert_eq!(listing.evidence.endpoint.as_deref(), Some(&*etcd.address().to_string()));

    for _ in 0..3 {
        assert_eq!(lease.renew(soon()).await.unwrap().ttl, Some(Duration::from_secs(5)));
    }
    let version = node.record(&a, 1).version;
    assert_eq!(
        lease.inspect(&[a.key(), key("orders", "x")]).await.unwrap(),
        [Presence::Ours { version }, Presence::Missing]
    );

    lease.revoke().await.unwrap();
    let gone = event(&mut watch).await.unwrap();
    assert!(matches!(&gone.changes[..], [Change::Remove(key)] if *key == a.key()), "{gone:?}");
    lease.revoke().await.expect("revoking twice is success");
    assert_eq!(lease.renew(soon()).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(
        lease.publish(&[node.record(&a, 2)]).await.remove(0).unwrap_err().kind(),
        ErrorKind::LeaseLost
    );
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_record_that_is_no_longer_renewed_is_seen_as_removed() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    let lease = node.grant(2).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "a"), 1)]).await.remove(0).unwrap();
    let mut watch = node.watch("orders");
    assert_eq!(reset_ids(&event(&mut watch).await.unwrap()), ["a"]);
    let gone = event(&mut watch).await.unwrap();
    assert!(matches!(&gone.changes[..], [Change::Remove(k)] if *k == key("orders", "a")), "{gone:?}");
    assert_eq!(lease.renew(soon()).await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_foreign_record_is_taken_over_or_refused_and_its_owner_can_no_longer_remove_it() {
    let etcd = Etcd::start().await.unwrap();
    let url = url(&etcd);
    let (old, new) = (connect(&url).await, connect(&url).await);
    let (old_lease, new_lease) = (old.grant(10).await.unwrap(), new.grant(10).await.unwrap());
    let a = instance("orders", "a");
    old_lease.publish(&[old.record(&a, 1)]).await.remove(0).unwrap();

    let mut refused = new.record(&a, 1);
    refused.on_duplicate = OnDuplicate::Reject;
    assert_eq!(new_lease.publish(&[refused]).await.remove(0).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(new_lease.inspect(&[a.key()]).await.unwrap(), [Presence::Foreign]);

    new_lease.publish(&[new.record(&a, 1)]).await.remove(0).unwrap();
    assert_eq!(old_lease.inspect(&[a.key()]).await.unwrap(), [Presence::Foreign]);
    old_lease.withdraw(&[Arc::new(a.clone())]).await.remove(0).unwrap();
    old_lease.revoke().await.unwrap();
    let version = new.record(&a, 1).version;
    assert_eq!(new_lease.inspect(&[a.key()]).await.unwrap(), [Presence::Ours { version }]);

    new_lease.withdraw(&[Arc::new(a.clone())]).await.remove(0).unwrap();
    assert_eq!(new_lease.inspect(&[a.key()]).await.unwrap(), [Presence::Missing]);
    new_lease.withdraw(&[Arc::new(a)]).await.remove(0).expect("removing twice is success");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn our_record_moves_to_our_new_lease_and_counts_as_missing_on_the_other() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    let (first, second) = (node.grant(10).await.unwrap(), node.grant(10).await.unwrap());
    let a = instance("orders", "a");
    first.publish(&[node.record(&a, 1)]).await.remove(0).unwrap();
    assert_eq!(second.inspect(&[a.key()]).await.unwrap(), [Presence::Missing]);
    let mut moved = node.record(&a, 1);
    moved.on_duplicate = OnDuplicate::Reject;
    second.publish(&[moved]).await.remove(0).unwrap();
    first.revoke().await.unwrap();
    assert!(matches!(second.inspect(&[a.key()]).await.unwrap()[..], [Presence::Ours { .. }]));
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_thousand_records_are_published_listed_and_withdrawn() {
    let etcd = Etcd::start().await.unwrap();
    let (node, rival) = (connect(&url(&etcd)).await, connect(&url(&etcd)).await);
    let (lease, rival_lease) = (node.grant(30).await.unwrap(), rival.grant(30).await.unwrap());
    let all: Vec<_> = (0..1200).map(|i| instance("orders", &format!("i{i:04}"))).collect();
    rival_lease.publish(&[rival.record(&all[700], 1)]).await.remove(0).unwrap();

    let mut records: Vec<_> = all.iter().map(|i| node.record(i, 1)).collect();
    records.iter_mut().for_each(|r| r.on_duplicate = OnDuplicate::Reject);
    let outcomes = lease.publish(&records).await;
    for (at, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_err(), at == 700, "{at}: {outcome:?}");
    }
    let listing = node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap();
    assert_eq!(listing.instances.len(), 1200);
    let keys: Vec<_> = all.iter().map(|i| i.key()).collect();
    let presence = lease.inspect(&keys).await.unwrap();
    assert_eq!(presence.iter().filter(|p| matches!(p, Presence::Ours { .. })).count(), 1199);
    assert_eq!(presence[700], Presence::Foreign);

    let gone: Vec<_> = all.into_iter().map(Arc::new).collect();
    assert!(lease.withdraw(&gone).await.iter().all(Result::is_ok));
    let listing = node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap();
    assert_eq!(listing.instances.len(), 1, "the rival's record stays");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn a_server_with_tighter_limits_gets_smaller_transactions() {
    let etcd =
        Etcd::builder().arg("--max-txn-ops=20").arg("--max-request-bytes=200000").start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    let lease = node.grant(30).await.unwrap();
    let records: Vec<_> = (0..150)
        .map(|i| {
            let large = instance("orders", &format!("i{i}"))
                .to_builder()
                .metadata("filler", "x".repeat(4000))
                .metadata("filler2", "x".repeat(4000))
                .metadata("filler3", "x".repeat(4000))
                .build()
                .unwrap();
            node.record(&large, 1)
        })
        .collect();
    for outcome in lease.publish(&records).await {
        outcome.unwrap();
    }
    // A client that never published so many at once learns the limit from reading.
    let other = connect(&url(&etcd)).await;
    let lease = other.grant(30).await.unwrap();
    let keys: Vec<_> = (0..150).map(|i| instance("orders", &format!("i{i}")).key()).collect();
    let presence = lease.inspect(&keys).await.unwrap();
    assert!(presence.iter().all(|presence| *presence == Presence::Foreign), "{presence:?}");
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn garbage_is_rejected_by_key_while_good_records_show() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    let lease = node.grant(30).await.unwrap();
    lease.publish(&[node.record(&instance("orders", "good"), 1)]).await.remove(0).unwrap();
    etcd.ctl().put("/prod/orders/bad", "no json").await.unwrap();
    etcd.ctl().put("/prod/orders/deeper/key", "of a longer namespace").await.unwrap();
    etcd.ctl().put("/prod/orders/%zz", "no id").await.unwrap();
    etcd.ctl().put("/prod/orders2/other", "another service").await.unwrap();

    let listing = node.discovery().lookup(&target("orders"), &Read::default()).await.unwrap();
    assert_eq!(listing.instances.len(), 1);
    assert_eq!(listing.rejected, [key("orders", "bad")]);
    let mut watch = node.watch("orders");
    let reset = event(&mut watch).await.unwrap();
    assert_eq!(reset_ids(&reset), ["good"]);
    assert_eq!(reset.rejected, [key("orders", "bad")]);
    etcd.ctl().put("/prod/orders/worse", "{}").await.unwrap();
    let live = event(&mut watch).await.unwrap();
    assert!(live.changes.is_empty());
    assert_eq!(live.rejected, [key("orders", "worse")]);
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask servers"]
async fn services_are_listed_and_watched_by_name() {
    let etcd = Etcd::start().await.unwrap();
    let node = connect(&url(&etcd)).await;
    let lease = node.grant(30).await.unwrap();
    let mut records: Vec<_> = (0..600).map(|i| node.record(&instance("busy", &format!("i{i}")), 1)).collect();
    for service in ["a", "busy-2", "busy.3", "z"] {
        records.push(node.record(&instance(service, "1"), 1));
    }
    assert!(lease.publish(&records).await.iter().all(Result::is_ok));
    etcd.ctl().put("/prod/eu/orders/a", "{}").await.unwrap();
    let catalogue = node.backend.catalogue.clone().unwrap();
    let names =
        |list: Vec<registry_core::ServiceName>| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(catalogue.services().await.unwrap()), ["a", "busy", "busy-2", "busy.3", "z"]);

    let mut watch = catalogue.watch_services();
    use futures_util::StreamExt;
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.len(), 5);
    lease.withdraw(&[Arc::new(instance("a", "1"))]).await.remove(0).unwrap();
    lease.publish(&[node.record(&instance("b", "1"), 1)]).await.remove(0).unwrap();
    let second = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(names(second), ["b", "busy", "busy-2", "busy.3", "z"]);
}
