//! The one request that tries an ejected instance, as an attempt of a call.

use super::*;

/// Three of which `i1` is ejected and due to be probed.
async fn due() -> Upstream {
    let (upstream, _feed) = upstream_ejecting(&Ejection::new().consecutive(1), 0..3);
    let is_it = |picked: &Picked| picked.key() == key(1);
    let picked = std::iter::repeat_with(|| upstream.pick().unwrap()).find(is_it).unwrap();
    picked.report(Outcome::failure(Failure::Server));
    assert!(upstream.snapshot().is_ejected(&key(1)));
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
