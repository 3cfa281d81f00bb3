//! Publishing, withdrawing, and whose a record is.
#![expect(missing_docs, reason = "the names of the cases are sentences")]

use std::time::Duration;

use registry_core::{
    ErrorKind, OnDuplicate,
    backend::{Presence, Publish},
};

use super::{
    Fixture,
    subject::{
        OURS, Subject, THEIRS, all_ok, key, kinds, publish, record, record_of, revoke, service, weighing,
        withdraw, within,
    },
};

pub async fn publish_replaces_our_own_record(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let (old, new) = (subject.grant(OURS).await, subject.grant(OURS).await);
    all_ok(&publish(&old, &[record(OURS, &weighing("a", 1))]).await);
    all_ok(&publish(&old, &[record(OURS, &weighing("a", 2))]).await);
    subject.finds(&service("orders"), &[weighing("a", 2)]).await;

    // Our own record is no duplicate, whichever lease it hangs on.
    let again = record_of(OURS, &weighing("a", 3), OnDuplicate::Reject);
    all_ok(&publish(&new, &[again]).await);
    revoke(&old).await;
    subject.finds(&service("orders"), &[weighing("a", 3)]).await;
}

pub async fn a_foreign_record_is_taken_over_when_asked(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let (theirs, ours) = (subject.grant(THEIRS).await, subject.grant(OURS).await);
    all_ok(&publish(&theirs, &[record(THEIRS, &weighing("a", 1))]).await);
    all_ok(&publish(&ours, &[record(OURS, &weighing("a", 2))]).await);
    subject.finds(&service("orders"), &[weighing("a", 2)]).await;
    // It hangs on our lease now, so it outlives theirs.
    revoke(&theirs).await;
    subject.finds(&service("orders"), &[weighing("a", 2)]).await;
}

pub async fn a_foreign_record_is_refused_when_asked(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let (theirs, ours) = (subject.grant(THEIRS).await, subject.grant(OURS).await);
    all_ok(&publish(&theirs, &[record(THEIRS, &weighing("b", 1))]).await);
    let records: Vec<Publish> =
        ["a", "b", "c"].iter().map(|id| record_of(OURS, &weighing(id, 2), OnDuplicate::Reject)).collect();
    let outcomes = publish(&ours, &records).await;
    assert_eq!(kinds(&outcomes), [None, Some(ErrorKind::Conflict), None], "{outcomes:?}");
    let expected = [weighing("a", 2), weighing("b", 1), weighing("c", 2)];
    subject.finds(&service("orders"), &expected).await;
}

pub async fn withdraw_is_idempotent(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let lease = subject.grant(OURS).await;
    let (a, b, never) = (weighing("a", 1), weighing("b", 2), weighing("never", 3));
    all_ok(&publish(&lease, &[record(OURS, &a), record(OURS, &b)]).await);
    for _ in 0..2 {
        all_ok(&withdraw(&lease, &[a.clone(), never.clone()]).await);
        subject.finds(&service("orders"), std::slice::from_ref(&b)).await;
    }
    // What was withdrawn can come back.
    all_ok(&publish(&lease, &[record(OURS, &a)]).await);
    subject.finds(&service("orders"), &[a, b]).await;
}

pub async fn withdraw_leaves_a_successor_alone(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let (ours, theirs) = (subject.grant(OURS).await, subject.grant(THEIRS).await);
    all_ok(&publish(&ours, &[record(OURS, &weighing("a", 1)), record(OURS, &weighing("b", 1))]).await);
    all_ok(&publish(&theirs, &[record(THEIRS, &weighing("a", 2))]).await);
    all_ok(&withdraw(&ours, &[weighing("a", 1), weighing("b", 1)]).await);
    subject.finds(&service("orders"), &[weighing("a", 2)]).await;
}

pub async fn revoke_removes_everything_and_is_idempotent(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let (one, other) = (subject.grant(OURS).await, subject.grant(OURS).await);
    all_ok(&publish(&one, &[record(OURS, &weighing("a", 1)), record(OURS, &weighing("b", 1))]).await);
    all_ok(&publish(&other, &[record(OURS, &weighing("c", 1))]).await);
    for _ in 0..2 {
        revoke(&one).await;
        subject.finds(&service("orders"), &[weighing("c", 1)]).await;
    }
}

pub async fn inspect_tells_ours_foreign_and_missing(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let (ours, theirs) = (subject.grant(OURS).await, subject.grant(THEIRS).await);
    let mine = record(OURS, &weighing("mine", 7));
    let version = mine.version;
    all_ok(&publish(&ours, &[mine, record(OURS, &weighing("taken", 1))]).await);
    let foreign = [record(THEIRS, &weighing("taken", 2)), record(THEIRS, &weighing("foreign", 1))];
    all_ok(&publish(&theirs, &foreign).await);
    // Not in the order they were written in.
    let keys = [key("foreign"), key("missing"), key("mine"), key("taken")];
    let found = within("an inspection", ours.inspect(&keys)).await.expect("the registry answers");
    let expected = [Presence::Foreign, Presence::Missing, Presence::Ours { version }, Presence::Foreign];
    assert_eq!(found, expected);
    let none = within("an inspection", ours.inspect(&[])).await.expect("the registry answers");
    assert_eq!(none, []);
}

pub async fn dropping_a_lease_withdraws_nothing(fixture: &impl Fixture) {
    const AFTERMATH: Duration = Duration::from_secs(1);

    let subject = Subject::open(fixture).await;
    let (dropped, kept) = (subject.grant(OURS).await, subject.grant(OURS).await);
    let mut watch = subject.watch(&service("orders"), None);
    all_ok(&publish(&dropped, &[record(OURS, &weighing("a", 1))]).await);
    watch.shows(&[("a", 1)]).await;
    drop(dropped);
    // A removal in the background gets its time.
    tokio::time::sleep(AFTERMATH).await;
    // What comes after it in the registry's order shows that it didn't come.
    all_ok(&publish(&kept, &[record(OURS, &weighing("b", 1))]).await);
    watch.shows(&[("a", 1), ("b", 1)]).await;
    assert!(!watch.told.iter().any(|change| change == "-a"), "{watch:?}");
    subject.finds(&service("orders"), &[weighing("a", 1), weighing("b", 1)]).await;
}
