//! Further attempts that are not made, and why.

use super::*;
use crate::{balance::Balance, upstream::tests::lazy_refusing};

#[tokio::test(start_paused = true)]
async fn one_that_drains_gets_nothing_while_another_may_still_answer() {
    let (upstream, feed) = upstream_of([1]);
    feed.apply(&ViewChange { upserts: vec![instance(3, Status::Draining)], ..ViewChange::default() });
    let slow = Script::new([(SECOND, Ok(7))]);
    assert_eq!(slow.run(&upstream, &hedging()).await.ok(), Some(7), "no hedge");
    feed.upsert([2]);
    let reset = || (150 * MS, Err(Attempt::retry("reset")));
    let hedged = Script::new([reset(), (200 * MS, Ok(7))]);
    assert_eq!(hedged.run(&upstream, &hedging()).await.ok(), Some(7), "no retry beside the hedge");
    let failed = Script::new([reset(), reset(), (MS, Ok(7))]);
    assert_eq!(failed.run(&upstream, &hedging()).await.ok(), Some(7), "but one when nothing else is left");
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_a_view_too_old_refuses_says_so() {
    let (upstream, feed) = lazy_refusing(&Balance::default(), true);
    upstream.start();
    feed.upsert([1, 2]);
    let result: Result<(), _> = upstream
        .call(|_| {
            feed.refuses.store(true, Ordering::SeqCst);
            async { Err(Attempt::retry("reset")) }
        })
        .await;
    let text = result.unwrap_err().to_string();
    assert!(
        text.starts_with("1 attempt failed and the view is too old to pick from; tried orders/"),
        "{text}"
    );
}
