//! What a revoked lease answers where a lease is one thing at the registry.
#![expect(missing_docs, reason = "the names of the cases are sentences")]

use registry_core::ErrorKind;
use tokio::time::Instant;

use super::{
    DEADLINE, Fixture,
    subject::{OURS, Subject, all_ok, kinds, publish, record, revoke, service, weighing, within},
};

pub async fn renewing_a_revoked_lease_is_lease_lost(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let (lease, other) = (subject.grant(OURS).await, subject.grant(OURS).await);
    for lease in [&lease, &other] {
        within("a renewal", lease.renew(Instant::now() + DEADLINE)).await.expect("the lease is renewed");
    }
    revoke(&lease).await;
    let refused = within("a renewal", lease.renew(Instant::now() + DEADLINE)).await;
    let refused = refused.expect_err("a revoked lease can't be renewed");
    assert_eq!(refused.kind(), ErrorKind::LeaseLost, "{refused:?}");
    within("a renewal", other.renew(Instant::now() + DEADLINE)).await.expect("the other lease lives");
}

pub async fn publishing_under_a_revoked_lease_is_lease_lost(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let lease = subject.grant(OURS).await;
    all_ok(&publish(&lease, &[record(OURS, &weighing("a", 1))]).await);
    revoke(&lease).await;
    let records = [record(OURS, &weighing("a", 2)), record(OURS, &weighing("b", 2))];
    let outcomes = publish(&lease, &records).await;
    assert_eq!(kinds(&outcomes), [Some(ErrorKind::LeaseLost); 2], "{outcomes:?}");
    subject.finds(&service("orders"), &[]).await;
}
