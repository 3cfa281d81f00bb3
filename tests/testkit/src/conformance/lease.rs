//! Records that live as long as their lease is renewed.
#![expect(missing_docs, reason = "the names of the cases are sentences")]

use std::time::Duration;

use registry_core::backend::{Delivery, Lifetime};
use tokio::time::Instant;

use super::{
    DEADLINE, Fixture,
    subject::{OURS, Subject, all_ok, publish, record, service, weighing, within},
};

/// The shortest time to live that the backend honours, though never below 1 s.
fn shortest(subject: &Subject) -> Duration {
    subject.backend.capabilities.min_ttl.max(Duration::from_secs(1))
}

fn granted(lifetime: Lifetime) -> Duration {
    match lifetime {
        Lifetime::Leased { ttl } => ttl,
        other => panic!("this group needs leases that expire, not {other:?}"),
    }
}

pub async fn a_lease_that_is_not_renewed_expires_and_the_watcher_is_told(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let mut watch = subject.watch(&service("orders"), None);
    watch.opened().await;
    let kept = subject.grant(OURS).await;
    all_ok(&publish(&kept, &[record(OURS, &weighing("kept", 1))]).await);
    let asked = Instant::now();
    let lease = subject.grant_for(OURS, shortest(&subject)).await;
    let ttl = granted(lease.lifetime());
    all_ok(&publish(&lease, &[record(OURS, &weighing("a", 1))]).await);
    watch.shows(&[("a", 1), ("kept", 1)]).await;

    let limit = ttl.mul_f64(subject.backend.capabilities.grace) + DEADLINE;
    watch.shows_within(&[("kept", 1)], limit).await;
    assert!(asked.elapsed() >= ttl, "it lived for {:?} of {ttl:?}", asked.elapsed());
    if subject.backend.capabilities.delivery == Delivery::Watch {
        assert_eq!(watch.told.last().map(String::as_str), Some("-a"), "{watch:?}");
    }
    subject.finds(&service("orders"), &[weighing("kept", 1)]).await;
}

pub async fn renewing_keeps_a_lease_alive(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let mut watch = subject.watch(&service("orders"), None);
    watch.opened().await;
    let lease = subject.grant_for(OURS, shortest(&subject)).await;
    let ttl = granted(lease.lifetime());
    all_ok(&publish(&lease, &[record(OURS, &weighing("a", 1))]).await);
    watch.shows(&[("a", 1)]).await;

    // Long enough for a lease that isn't renewed to have ended, grace included.
    let alive_for = ttl.mul_f64(subject.backend.capabilities.grace) + ttl;
    let end = Instant::now() + alive_for;
    while Instant::now() < end {
        tokio::time::sleep(ttl / 3).await;
        let deadline = Instant::now() + ttl / 3;
        let renewal = within("a renewal", lease.renew(deadline)).await.expect("the lease is renewed");
        assert_eq!((renewal.lost, renewal.missed), (Vec::new(), Vec::new()));
    }
    subject.finds(&service("orders"), &[weighing("a", 1)]).await;
    all_ok(&publish(&lease, &[record(OURS, &weighing("b", 1))]).await);
    watch.shows(&[("a", 1), ("b", 1)]).await;
    assert!(!watch.told.iter().any(|change| change == "-a"), "{watch:?}");
}
