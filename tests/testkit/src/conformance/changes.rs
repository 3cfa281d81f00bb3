//! A watch while records come and go.
#![expect(missing_docs, reason = "the names of the cases are sentences")]

use registry_core::backend::{Change, Cursor, Delivery};

use super::{
    Fixture,
    subject::{OURS, Subject, all_ok, instance, publish, record, service, weighing, withdraw},
};

pub async fn upserts_and_removals_arrive_in_order(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let lease = subject.grant(OURS).await;
    let mut watch = subject.watch(&service("orders"), None);
    watch.opened().await;
    for record in [
        record(OURS, &weighing("a", 1)),
        record(OURS, &weighing("b", 1)),
        record(OURS, &instance("billing", "c")),
        record(OURS, &weighing("a", 2)),
    ] {
        all_ok(&publish(&lease, &[record]).await);
    }
    watch.shows(&[("a", 2), ("b", 1)]).await;
    all_ok(&withdraw(&lease, &[weighing("b", 1)]).await);
    watch.shows(&[("a", 2)]).await;
    all_ok(&publish(&lease, &[record(OURS, &weighing("b", 3))]).await);
    watch.shows(&[("a", 2), ("b", 3)]).await;
    if subject.backend.capabilities.delivery == Delivery::Watch {
        assert_eq!(watch.told, ["=", "+a:1", "+b:1", "+a:2", "-b", "+b:3"]);
    }
}

pub async fn a_watch_resumes_from_its_cursor(fixture: &impl Fixture) {
    let subject = Subject::open(fixture).await;
    let lease = subject.grant(OURS).await;
    all_ok(&publish(&lease, &[record(OURS, &weighing("a", 1)), record(OURS, &weighing("b", 1))]).await);
    let mut first = subject.watch(&service("orders"), None);
    first.shows(&[("a", 1), ("b", 1)]).await;
    let (cursor, earlier) = (first.cursor.take(), first.view.clone());
    drop(first);

    all_ok(&publish(&lease, &[record(OURS, &weighing("c", 1))]).await);
    all_ok(&withdraw(&lease, &[weighing("a", 1)]).await);
    // The earlier session may have stood in front of what it showed, never behind.
    let mut second = subject.watch(&service("orders"), cursor.clone()).after(earlier);
    let opening = second.opened().await;
    match opening.changes.first() {
        Some(Change::Resumed) => assert!(cursor.is_some(), "there was nothing to resume from"),
        Some(Change::Reset(_)) => {}
        other => panic!("a session opens with a reset or resumed, not with {other:?}"),
    }
    let resumed = second.told.first().is_some_and(|change| change == "~");
    second.shows(&[("b", 1), ("c", 1)]).await;
    if resumed {
        assert_eq!(second.told, ["~", "+c:1", "-a"], "what was missed, once and in order");
    }
    all_ok(&publish(&lease, &[record(OURS, &weighing("d", 1))]).await);
    second.shows(&[("b", 1), ("c", 1), ("d", 1)]).await;
}

pub async fn a_made_up_cursor_is_answered_with_a_reset_or_an_error(fixture: &impl Fixture) {
    let subject = Subject::with_standing(fixture, vec![weighing("a", 1)]).await;
    for cursor in ["", "made up", "0", "1:2:3", "18446744073709551615"] {
        let mut watch = subject.watch(&service("orders"), Some(Cursor::new(cursor)));
        match watch.item().await.expect("a session says something") {
            Ok(event) => {
                // A poll may answer from a cache that is older than the record.
                let polled = matches!(subject.backend.capabilities.delivery, Delivery::Poll { .. });
                let opening = event.changes.first();
                assert!(
                    matches!(opening, Some(Change::Reset(all)) if all.len() == 1 || polled && all.is_empty()),
                    "{cursor:?}: {event:?}"
                );
            }
            Err(_) => assert!(watch.item().await.is_none(), "an error is the last item"),
        }
    }
}
