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

#[tokio::test(start_paused = true)]
async fn a_stop_that_yields_leaves_the_call_to_those_in_flight_and_makes_no_further_attempt() {
    let full = || Err(Attempt::stop("full").because(Failure::Throttled).unless_another_answers());
    for (other, answer) in [
        (Ok(7), Ok(7)),
        (Err(Attempt::retry("reset")), Err("full")),
        (Err(Attempt::stop("full too").unless_another_answers()), Err("full")),
        (Err(Attempt::stop("forbidden")), Err("forbidden")),
    ] {
        let (upstream, observer) = observed();
        let script = Script::new([(500 * MS, other), (10 * MS, full())]);
        let begin = Instant::now();
        let result = script.run(&upstream, &hedging().hedges(2)).await;
        assert_eq!((begin.elapsed(), script.attempts(), script.ended()), (500 * MS, 2, 2));
        assert!(outcomes(&observer).contains(&Some(Failure::Throttled)));
        match result {
            Ok(seven) => assert_eq!(Ok(seven), answer),
            Err(error) => {
                let CallError::Stopped { cause, earlier, .. } = error else { panic!("{error}") };
                assert_eq!(Err(cause), answer);
                assert_eq!(earlier.len(), 1);
            }
        }
    }
    let (upstream, _feed) = upstream_of(0..3);
    let alone = Script::new([(10 * MS, full())]);
    let error = alone.run(&upstream, &hedging()).await.unwrap_err();
    assert!(matches!(error, CallError::Stopped { cause: "full", .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_begins_only_if_every_condition_holds_and_costs_nothing_otherwise() {
    for (one, other) in [(true, true), (true, false), (false, true)] {
        let (upstream, observer) = observed();
        let script = Script::new([(SECOND, Ok(7)), (10 * MS, Ok(8))]);
        let options = hedging().hedge_if(move || one).hedge_if(move || other);
        let expected = if one && other { (Ok(8), 2) } else { (Ok(7), 1) };
        let answer = script.run(&upstream, &options).await.map_err(|error| error.to_string());
        assert_eq!((answer, observer.begun.load(Ordering::SeqCst)), expected);
    }
}
