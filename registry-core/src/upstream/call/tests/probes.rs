//! The one request that tries an ejected instance, as an attempt of a call.

use super::*;
use crate::InstanceKey;

/// Three of which `i1` is ejected.
fn ejected() -> Upstream {
    let (upstream, _feed) = upstream_ejecting(&Ejection::new().consecutive(1), 0..3);
    let is_it = |picked: &Picked| picked.key() == key(1);
    let picked = std::iter::repeat_with(|| upstream.pick().unwrap()).find(is_it).unwrap();
    picked.report(Outcome::failure(Failure::Server));
    assert!(is_out(&upstream));
    upstream
}

/// And is due to be probed.
async fn due() -> Upstream {
    let upstream = ejected();
    sleep(40 * SECOND).await;
    upstream
}

fn is_out(upstream: &Upstream) -> bool {
    upstream.snapshot().is_ejected(&key(1))
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_callers_own_goes_elsewhere_and_blames_nobody() {
    let (upstream, observer) = observed();
    let local = (MS, Err(Attempt::retry("no https endpoint").blaming_nobody()));
    let script = Script::new([local.clone(), (MS, Ok(7))]);
    assert_eq!(script.run(&upstream, &CallOptions::new()).await.ok(), Some(7));
    assert_eq!(outcomes(&observer), [None, None]);
    assert_eq!(verdicts(&observer), 1, "of the answer");
    let (upstream, _feed) = upstream_ejecting(&Ejection::new().consecutive(1).most(1.0), 0..3);
    let error = Script::new([local.clone(), local.clone(), local]).run(&upstream, &CallOptions::new()).await;
    assert_eq!(error.unwrap_err().attempts().len(), 3);
    assert_eq!(upstream.snapshot().ejected().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_failed_on_the_callers_side_is_given_back_and_not_spent() {
    let upstream = due().await;
    for round in 0..20 {
        let mut asked = Vec::new();
        let answer: Result<_, CallError<&str>> = upstream
            .call(|instance| {
                asked.push(instance.key());
                let is_first = asked.len() == 1;
                async move {
                    if is_first { Err(Attempt::retry("no https endpoint").blaming_nobody()) } else { Ok(()) }
                }
            })
            .await;
        answer.unwrap();
        assert_eq!(asked[0], key(1), "round {round} probes");
        assert!(is_out(&upstream), "round {round} proved nothing");
        sleep(SECOND).await;
    }
    let probe = Script::new([(MS, Ok(7))]);
    assert_eq!(probe.run(&upstream, &CallOptions::new()).await.ok(), Some(7));
    assert!(!is_out(&upstream));
    // Nor does it matter whether the call goes on.
    let upstream = due().await;
    for round in 0..20 {
        let stop = Script::new([(MS, Err(Attempt::stop("no https endpoint").blaming_nobody()))]);
        assert!(stop.run(&upstream, &CallOptions::new()).await.is_err());
        assert!(is_out(&upstream), "round {round} proved nothing");
        sleep(SECOND).await;
    }
}

/// A call with a hedge: `i1` never answers, the others at once. Who was asked, in order.
async fn hedged(upstream: &Upstream) -> Vec<InstanceKey> {
    let mut asked = Vec::new();
    let answer: Result<_, CallError<&str>> = upstream
        .call_with(&hedging(), |instance| {
            asked.push(instance.key());
            async move { if instance.key() == key(1) { std::future::pending().await } else { Ok(()) } }
        })
        .await;
    answer.unwrap();
    asked
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_has_failed_when_the_hedge_answers() {
    let upstream = due().await;
    assert_eq!(hedged(&upstream).await[0], key(1), "the probe");
    for round in 0..600 {
        assert!(is_out(&upstream), "round {round}");
        let probes = hedged(&upstream).await.contains(&key(1));
        assert!(!probes || round >= 59, "the second ejection lasts a minute, not {round} s");
        sleep(SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_instance_that_loses_to_a_hedge_is_not_blamed() {
    let (upstream, _feed) = upstream_ejecting(&Ejection::new().consecutive(1), 0..3);
    for _ in 0..30 {
        hedged(&upstream).await;
        sleep(SECOND).await;
    }
    assert_eq!(upstream.snapshot().ejected().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn neither_a_retry_nor_a_hedge_is_a_probe() {
    for answers_late in [true, false] {
        let upstream = ejected();
        sleep(25 * SECOND).await;
        let mut asked = Vec::new();
        // The time of the ejection is over while the first attempt is on its way.
        let options = CallOptions::new().idempotent(true).hedge_after(20 * SECOND).attempts(2);
        let answer: Result<_, CallError<&str>> = upstream
            .call_with(&options, |instance| {
                asked.push(instance.key());
                let is_first = asked.len() == 1;
                async move {
                    match (is_first, answers_late) {
                        (false, _) => Ok(()),
                        (true, true) => std::future::pending().await,
                        (true, false) => {
                            sleep(15 * SECOND).await;
                            Err(Attempt::retry("reset"))
                        }
                    }
                }
            })
            .await;
        answer.unwrap();
        assert_eq!(asked.len(), 2);
        assert!(!asked.contains(&key(1)), "{asked:?}");
        assert_eq!(upstream.pick().unwrap().key(), key(1), "the next request is");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_wants_usable_ones_only_probes_before_it_gives_up() {
    let (upstream, _feed) = upstream_ejecting(&Ejection::new().consecutive(1).most(1.0).panic(0.0), 0..3);
    let everywhere = Script::new([refused(), refused(), refused()]);
    assert!(everywhere.run(&upstream, &CallOptions::new()).await.is_err());
    assert_eq!(upstream.snapshot().ejected().count(), 3);
    let strict = CallOptions::new().usable_only(true);
    let none = Script::new([]).run(&upstream, &strict).await.unwrap_err();
    assert!(matches!(none, CallError::NoneUsable(_)), "{none}");
    sleep(40 * SECOND).await;
    for back in 1..=3 {
        assert_eq!(Script::new([(MS, Ok(7))]).run(&upstream, &strict).await.ok(), Some(7));
        assert_eq!(upstream.snapshot().ejected().count(), 3 - back);
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_panic_the_ejected_are_usable() {
    let (upstream, _feed) = upstream_ejecting(&Ejection::new().consecutive(1).most(1.0), 0..3);
    let everywhere = Script::new([refused(), refused(), refused()]);
    assert!(everywhere.run(&upstream, &CallOptions::new()).await.is_err());
    assert_eq!(upstream.snapshot().ejected().count(), 3);
    let strict = CallOptions::new().usable_only(true);
    assert_eq!(Script::new([(MS, Ok(7))]).run(&upstream, &strict).await.ok(), Some(7));
}
