mod further;
mod probes;

use std::{
    collections::{BTreeSet, HashSet},
    error::Error as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::{
    Ejection, ErrorKind, Status,
    balance::{Failure, Outcome},
    upstream::{
        AttemptCause, Exhaustion, FailedAttempt, TimeLimit, Unusable,
        tests::{Observer, instance, key, observed, upstream_ejecting, upstream_of},
    },
    view::ViewChange,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Answer = Result<u32, Attempt<&'static str>>;

/// A request whose n-th attempt (from 0) takes so long and then ends so.
struct Script {
    attempts: AtomicUsize,
    ended: Arc<AtomicUsize>,
    steps: Vec<(Duration, Answer)>,
}

impl Script {
    fn new(steps: impl IntoIterator<Item = (Duration, Answer)>) -> Self {
        Self { attempts: AtomicUsize::new(0), ended: Arc::default(), steps: steps.into_iter().collect() }
    }

    async fn run(&self, upstream: &Upstream, options: &CallOptions) -> Result<u32, CallError<&'static str>> {
        upstream
            .call_with(options, |_| {
                let (takes, answer) = self.steps[self.attempts.fetch_add(1, Ordering::SeqCst)].clone();
                let ended = Ended(Arc::clone(&self.ended));
                async move {
                    sleep(takes).await;
                    drop(ended);
                    answer
                }
            })
            .await
    }

    fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    /// How many attempts have ended or were dropped.
    fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

struct Ended(Arc<AtomicUsize>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn hung() -> (Duration, Answer) {
    (Duration::from_secs(86_400), Ok(0))
}

fn refused() -> (Duration, Answer) {
    (2 * MS, Err(Attempt::retry("refused")))
}

fn outcomes(observer: &Observer) -> Vec<Option<Failure>> {
    let ended = observer.ended.lock().unwrap();
    ended.iter().map(|(_, _, outcome)| outcome.and_then(|o| o.get_failure())).collect()
}

fn verdicts(observer: &Observer) -> usize {
    observer.ended.lock().unwrap().iter().filter(|(_, _, outcome)| outcome.is_some()).count()
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_to_another_instance_each_time() {
    let (upstream, _feed) = upstream_of(0..3);
    let mut seen = Vec::new();
    let answer: Result<_, CallError<&str>> = upstream
        .call(|instance| {
            seen.push(instance.key());
            let works = seen.len() == 3;
            async move { if works { Ok(instance.key()) } else { Err(Attempt::retry("refused")) } }
        })
        .await;
    assert_eq!(answer.unwrap(), seen[2]);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_stops_when_told() {
    let (upstream, _feed) = upstream_of(0..3);
    let mut calls = 0;
    let result: Result<(), _> = upstream
        .call(|_| {
            calls += 1;
            async { Err(Attempt::stop(std::io::Error::other("the order has no lines"))) }
        })
        .await;
    let error = result.unwrap_err();
    assert!(matches!(error, CallError::Stopped { .. }));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the order has no lines");
    assert_eq!(calls, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_everywhere_tells_every_attempt() {
    let (upstream, _feed) = upstream_of(0..5);
    let options = CallOptions::new().attempts(4);
    let result: Result<(), _> =
        upstream.call_with(&options, |i| async move { Err(Attempt::retry(i.key())) }).await;
    let error = result.unwrap_err();
    let CallError::Exhausted { attempts, because: Exhaustion::Attempts } = &error else { panic!("{error}") };
    assert_eq!(attempts.len(), 4);
    assert!(attempts.iter().all(|attempt| attempt.error() == Some(&attempt.instance.key())));
    assert_eq!(attempts.iter().map(FailedAttempt::error).collect::<HashSet<_>>().len(), 4);
    let expected = "4 attempts failed and no more are allowed; tried orders/i";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_instance_fails_at_once_unless_it_may_wait() {
    let (upstream, feed) = upstream_of([]);
    let answer = |_| async { Ok::<_, Attempt<()>>(()) };
    let error = upstream.call(answer).await.unwrap_err();
    assert!(matches!(&error, CallError::NoInstance(e) if e.kind() == ErrorKind::NoInstance));
    let waiting = upstream.clone();
    let call = tokio::spawn(async move {
        waiting.call_with(&CallOptions::new().wait(Duration::from_secs(60)), answer).await
    });
    sleep(Duration::from_millis(2_900)).await;
    feed.upsert([1]);
    assert!(call.await.unwrap().is_ok());
    feed.remove([1]);
    let begin = Instant::now();
    let options = CallOptions::new().wait(Duration::from_secs(60));
    assert!(upstream.call_with(&options, answer).await.is_err());
    assert_eq!(begin.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn retries_end_when_the_budget_is_spent() {
    let (upstream, _feed) = upstream_of(0..9);
    let mut attempts = 0;
    for _ in 0..100 {
        let _ = upstream
            .call(|_| {
                attempts += 1;
                async { Err::<(), _>(Attempt::retry(())) }
            })
            .await;
    }
    assert_eq!(attempts, 100 + 30 + 100 / 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_ends_its_pick_without_a_verdict() {
    let (upstream, observer) = observed();
    let endless = upstream.call(|_| async {
        std::future::pending::<()>().await;
        Ok::<_, Attempt<()>>(())
    });
    assert!(timeout(Duration::from_secs(1), endless).await.is_err());
    assert!(matches!(observer.ended.lock().unwrap()[..], [(_, _, None)]));
}

#[tokio::test(start_paused = true)]
async fn a_hung_instance_costs_the_per_try_timeout_and_is_blamed() {
    let (upstream, observer) = observed();
    let script = Script::new([hung(), (MS, Ok(7))]);
    let options = CallOptions::new().idempotent(true).per_try_timeout(500 * MS);
    let begin = Instant::now();
    assert_eq!(script.run(&upstream, &options).await.ok(), Some(7));
    assert_eq!(begin.elapsed(), 501 * MS);
    let ended = observer.ended.lock().unwrap();
    assert_ne!(ended[0].0, ended[1].0, "another instance");
    assert_eq!(ended[0].2, Some(Outcome::failure(Failure::Timeout).took(500 * MS)));
    assert_eq!(ended[1].2, Some(Outcome::success().took(MS)));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_idempotent_is_not_repeated_after_a_timeout() {
    let (upstream, _feed) = upstream_of(0..3);
    let script = Script::new([hung()]);
    let options = CallOptions::new().per_try_timeout(500 * MS).hedge_after(MS);
    let error = script.run(&upstream, &options).await.unwrap_err();
    assert_eq!(script.attempts(), 1);
    assert!(error.is_timeout() && error.cause().is_none());
    let CallError::TimedOut { limit, attempts } = &error else { panic!("{error}") };
    assert_eq!(*limit, TimeLimit::Attempt(500 * MS));
    assert!(matches!(attempts[..], [FailedAttempt { cause: AttemptCause::TimedOut, .. }]));
    let expected = "no answer within 500ms to a request that may not be repeated; tried orders/";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(error.to_string().ends_with(" without an answer in 500ms"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_the_closure_calls_safe_is_repeated_even_if_not_idempotent() {
    let (upstream, _feed) = upstream_of(0..3);
    let script = Script::new([refused(), (MS, Ok(7))]);
    assert_eq!(script.run(&upstream, &CallOptions::new().per_try_timeout(SECOND)).await.ok(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn the_whole_call_ends_with_its_time_and_only_an_attempt_that_had_half_of_it_is_blamed() {
    for (first, blamed) in [(200 * MS, Some(Failure::Timeout)), (800 * MS, None)] {
        let (upstream, observer) = observed();
        let script = Script::new([(first, Err(Attempt::retry("refused"))), hung()]);
        let options = CallOptions::new().timeout(SECOND);
        let begin = Instant::now();
        let error = script.run(&upstream, &options).await.unwrap_err();
        assert_eq!((begin.elapsed(), script.ended()), (SECOND, 2));
        assert!(error.is_timeout());
        assert_eq!(error.cause(), Some(&"refused"));
        assert_eq!(outcomes(&observer), [Some(Failure::Connect), blamed]);
        let text = error.to_string();
        assert!(text.starts_with("the call was not over within 1s; tried orders/"), "{text}");
        assert!(text.contains(&format!(" in {first:?} (refused), orders/")), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_time_went_into_waiting_for_an_instance_starts_no_attempt() {
    let (upstream, feed) = upstream_of([]);
    let options = CallOptions::new().timeout(SECOND).wait(2 * SECOND);
    for known in [vec![], vec![instance(1, Status::Down)]] {
        feed.apply(&ViewChange { upserts: known, ..ViewChange::default() });
        let begin = Instant::now();
        let error = Script::new([]).run(&upstream, &options).await.unwrap_err();
        assert!(matches!(&error, CallError::TimedOut { attempts, .. } if attempts.is_empty()), "{error}");
        assert_eq!(error.to_string(), "the call was not over within 1s");
        assert_eq!(begin.elapsed(), SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn times_that_no_clock_can_express_are_for_ever() {
    let (upstream, _feed) = upstream_of(0..2);
    let for_ever = CallOptions::new()
        .idempotent(true)
        .timeout(Duration::MAX)
        .per_try_timeout(Duration::MAX)
        .hedge_after(Duration::MAX);
    assert_eq!(Script::new([(SECOND, Ok(7))]).run(&upstream, &for_ever).await.ok(), Some(7));
}

fn hedging() -> CallOptions {
    CallOptions::new().idempotent(true).hedge_after(100 * MS)
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_answers_first_wins_and_the_slow_one_is_dropped_without_blame() {
    let (upstream, observer) = observed();
    let script = Script::new([hung(), (10 * MS, Ok(7))]);
    let begin = Instant::now();
    assert_eq!(script.run(&upstream, &hedging()).await.ok(), Some(7));
    assert_eq!(begin.elapsed(), 110 * MS);
    assert_eq!((script.attempts(), script.ended()), (2, 2));
    let ended = observer.ended.lock().unwrap();
    let [(loser, _, None), (winner, _, Some(won))] = ended[..] else { panic!("{ended:?}") };
    assert_ne!(loser, winner, "another instance");
    assert_eq!(won, Outcome::success().took(10 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_is_slower_still_is_dropped() {
    let (upstream, observer) = observed();
    let script = Script::new([(150 * MS, Ok(7)), hung()]);
    assert_eq!(script.run(&upstream, &hedging()).await.ok(), Some(7));
    assert_eq!((script.attempts(), script.ended()), (2, 2));
    assert_eq!((observer.begun.load(Ordering::SeqCst), verdicts(&observer)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_quick_answer_needs_no_hedge_and_a_request_that_is_not_idempotent_gets_none() {
    let (upstream, _feed) = upstream_of(0..3);
    let quick = Script::new([(99 * MS, Ok(7))]);
    assert_eq!(quick.run(&upstream, &hedging()).await.ok(), Some(7));
    let once = Script::new([(SECOND, Ok(7))]);
    assert_eq!(once.run(&upstream, &hedging().idempotent(false)).await.ok(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn one_hedge_is_in_flight_unless_more_are_asked_for() {
    for (hedges, attempts) in [(0, 1), (1, 2), (2, 3), (9, 3)] {
        let (upstream, _feed) = upstream_of(0..9);
        let script = Script::new([(SECOND, Ok(7)), hung(), hung(), hung()]);
        assert_eq!(script.run(&upstream, &hedging().hedges(hedges)).await.ok(), Some(7));
        assert_eq!((script.attempts(), script.ended()), (attempts, attempts));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lone_instance_is_not_hedged_against_itself() {
    let (upstream, _feed) = upstream_of([1]);
    let script = Script::new([(SECOND, Ok(7))]);
    assert_eq!(script.run(&upstream, &hedging()).await.ok(), Some(7));
    let again = Script::new([refused(), (MS, Ok(7))]);
    assert_eq!(again.run(&upstream, &hedging()).await.ok(), Some(7), "but retried, as nothing else is left");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_beside_a_hedge_is_made_again_at_once() {
    let (upstream, _feed) = upstream_of(0..3);
    let script = Script::new([(150 * MS, Err(Attempt::retry("reset"))), hung(), (10 * MS, Ok(7))]);
    let begin = Instant::now();
    assert_eq!(script.run(&upstream, &hedging()).await.ok(), Some(7));
    assert_eq!((begin.elapsed(), script.ended()), (160 * MS, 3));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_attempts_in_flight_before_it_fails() {
    let (upstream, _feed) = upstream_of(0..3);
    let late = Script::new([(150 * MS, Err(Attempt::retry("reset"))), (SECOND, Ok(7))]);
    assert_eq!(late.run(&upstream, &hedging().attempts(2)).await.ok(), Some(7));
    let never = Script::new([(150 * MS, Err(Attempt::retry("reset"))), hung()]);
    let options = hedging().attempts(2).per_try_timeout(SECOND);
    let error = never.run(&upstream, &options).await.unwrap_err();
    assert!(matches!(error, CallError::Exhausted { because: Exhaustion::Attempts, .. }));
    assert!(error.is_timeout());
    assert_eq!(error.into_cause(), Some("reset"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_call_whatever_else_is_in_flight() {
    let (upstream, _feed) = upstream_of(0..3);
    let script = Script::new([hung(), (10 * MS, Err(Attempt::stop("forbidden")))]);
    let error = script.run(&upstream, &hedging()).await.unwrap_err();
    assert!(matches!(error, CallError::Stopped { cause: "forbidden", .. }));
    assert_eq!((script.attempts(), script.ended()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_allows_neither_retries_nor_hedges() {
    let (upstream, _feed) = upstream_of(0..3);
    let options = hedging().per_try_timeout(SECOND);
    while upstream.shared.budget.spend(Instant::now()) {}
    let slow = Script::new([(500 * MS, Ok(7))]);
    assert_eq!(slow.run(&upstream, &options).await.ok(), Some(7));
    for step in [hung(), refused()] {
        let error = Script::new([step]).run(&upstream, &options).await.unwrap_err();
        assert!(matches!(error, CallError::Exhausted { because: Exhaustion::Budget, .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("1 attempt failed and the retry budget is spent; tried orders/"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn hedges_are_paid_from_the_budget_of_the_retries() {
    let (upstream, _feed) = upstream_of(0..3);
    let mut hedged = 0;
    for _ in 0..100 {
        let script = Script::new([(150 * MS, Ok(7)), hung()]);
        script.run(&upstream, &hedging()).await.unwrap();
        hedged += script.attempts() - 1;
    }
    // 15 s, so the window moved on once.
    assert!((30 + 10..=60 + 20).contains(&hedged), "{hedged}");
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_drops_every_attempt_and_blames_nobody() {
    let (upstream, observer) = observed();
    let script = Script::new([hung(), hung()]);
    assert!(timeout(SECOND, script.run(&upstream, &hedging())).await.is_err());
    assert_eq!((script.attempts(), script.ended()), (2, 2));
    assert_eq!(outcomes(&observer), [None, None]);
    assert_eq!(verdicts(&observer), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_tells_in_one_line_what_was_tried_where() {
    let (upstream, feed) = upstream_of([1]);
    feed.apply(&ViewChange { upserts: vec![instance(2, Status::Draining)], ..ViewChange::default() });
    let io = |text: &'static str| Attempt::retry(std::io::Error::other(text));
    let mut attempt = 0;
    let options = CallOptions::new().attempts(2);
    let result: Result<(), _> = upstream
        .call_with(&options, |_| {
            attempt += 1;
            let cause = if attempt == 1 { io("refused") } else { io("reset") };
            async move {
                sleep(Duration::from_nanos(1_234_567)).await;
                Err(cause)
            }
        })
        .await;
    let error = result.unwrap_err();
    let line = "2 attempts failed and no more are allowed; tried orders/i1 in 2ms (refused), \
                orders/i2, which is draining, in 2ms";
    assert_eq!(error.to_string(), line);
    assert_eq!(format!("{error:#}"), format!("{line}: reset"));
    assert_eq!(error.source().unwrap().to_string(), "reset");
    assert_eq!(error.attempts()[0].to_string(), "orders/i1 in 2ms: refused");
    assert_eq!(error.cause().unwrap().to_string(), "reset");
}

#[tokio::test(start_paused = true)]
async fn instances_that_do_not_serve_are_tried_unless_the_caller_wants_none_of_them() {
    let (upstream, feed) = upstream_of([]);
    let upserts = vec![
        instance(1, Status::Down),
        instance(2, Status::Starting),
        instance(3, Status::Draining),
        instance(4, Status::Down),
    ];
    feed.apply(&ViewChange { upserts, ..ViewChange::default() });
    let script = Script::new([(MS, Ok(7))]);
    assert_eq!(script.run(&upstream, &CallOptions::new()).await.ok(), Some(7));

    let strict = CallOptions::new().usable_only(true);
    let error = Script::new([]).run(&upstream, &strict).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "none of 4 instances of orders is usable: 1 draining, 1 starting, 2 down; the view is stale, 7s old"
    );
    let CallError::NoneUsable(none) = error else { unreachable!() };
    assert_eq!((none.known(), none.count(Unusable::Down), none.count(Unusable::Ejected)), (4, 2, 0));
    assert_eq!(none.instances().next().map(|(i, why)| (i.key(), why)), Some((key(3), Unusable::Draining)));

    feed.upsert([1]);
    let error = Script::new([refused()]).run(&upstream, &strict.attempts(2)).await.unwrap_err();
    assert!(matches!(error, CallError::Exhausted { because: Exhaustion::Instances, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn instances_that_are_ejected_are_told_apart_from_those_that_are_down() {
    // With nothing to spare: by default most instances stay in use, whatever they do.
    let ejection = Ejection::new().consecutive(1).most(1.0).panic(0.0);
    let (upstream, feed) = upstream_ejecting(&ejection, 0..3);
    feed.apply(&ViewChange { upserts: vec![instance(4, Status::Down)], ..ViewChange::default() });
    let everywhere = Script::new([refused(), refused(), refused()]);
    assert!(everywhere.run(&upstream, &CallOptions::new()).await.is_err());
    let strict = CallOptions::new().usable_only(true);
    let error = Script::new([]).run(&upstream, &strict).await.unwrap_err();
    let expected = "none of 4 instances of orders is usable: 3 ejected, 1 down;";
    assert!(error.to_string().starts_with(expected), "{error}");
    let fails_open = Script::new([(MS, Ok(7))]);
    assert_eq!(fails_open.run(&upstream, &CallOptions::new()).await.ok(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_wait_prefers_one_that_serves_and_takes_what_there_is_at_last() {
    let (upstream, feed) = upstream_of([]);
    feed.apply(&ViewChange { upserts: vec![instance(1, Status::Down)], ..ViewChange::default() });
    let options = CallOptions::new().wait(SECOND);
    let begin = Instant::now();
    assert_eq!(Script::new([(MS, Ok(7))]).run(&upstream, &options).await.ok(), Some(7));
    assert_eq!(begin.elapsed(), SECOND + MS);
    let call = {
        let upstream = upstream.clone();
        tokio::spawn(async move {
            upstream.call_with(&options, |i| async move { Ok::<_, Attempt<()>>(i.key()) }).await
        })
    };
    sleep(500 * MS).await;
    feed.upsert([2]);
    assert_eq!(call.await.unwrap().unwrap(), key(2));
}
