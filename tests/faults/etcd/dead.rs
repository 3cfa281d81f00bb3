//! Row 20, seen by callers: one of five processes dies or hangs under load.

use std::time::Duration;

use registry_testkit::{Etcd, eventually, faults::figure};

use super::{
    serving::{Load, Repeats, child, discover},
    world::{BACK_WITHIN, SLACK, TTL},
};

/// What a caller gives one attempt: far more than a request takes, so that a busy machine isn't taken for a hang.
const PER_TRY: Duration = Duration::from_millis(600);
/// Requests that may meet the dead instance: five until it is ejected, those on their way until then (40 a second for
/// the time of one attempt), and a probe now and then.
const MOST_MISSES: usize = 5 + 24 + 15;

/// Kills or stops one of five under load; how many requests met it, and how long the slowest call took.
async fn one_of_five(row: &str, hangs: bool) {
    let etcd = Etcd::start().await.unwrap();
    let mut children = Vec::new();
    for id in ["a", "b", "c", "d", "e"] {
        children.push(child(&etcd, id).await);
    }
    let upstream = discover(&etcd, 5).await;
    let load = Load::start(&upstream, Repeats::All(PER_TRY));
    eventually("everybody is called", BACK_WITHIN, async || (load.calls() > 200).then_some(()))
        .await
        .unwrap();
    let before = load.attempts_on("a");
    if hangs {
        children[0].freeze().await.unwrap();
    } else {
        children[0].kill().await.unwrap();
    }
    let gone = || upstream.snapshot().iter().all(|instance| instance.id().as_str() != "a");
    eventually("its record expires", TTL + BACK_WITHIN, async || gone().then_some(())).await.unwrap();
    let misses = load.attempts_on("a") - before;
    let (calls, failures, longest) = load.stop().await;
    assert_eq!(failures, 0, "of {calls} calls");
    assert!((1..=MOST_MISSES).contains(&misses), "L1: {misses} of {calls}");
    assert!(longest <= 2 * PER_TRY + SLACK, "{longest:?}");
    figure(20, "etcd", &format!("{row}: calls, all answered:"), calls);
    figure(20, "etcd", &format!("{row}: requests that met it:"), misses);
    figure(20, "etcd", &format!("{row}: the slowest call took"), longest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: cargo xtask servers"]
async fn row_20_one_of_five_killed_under_load_is_not_visible_to_callers() {
    one_of_five("killed", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: cargo xtask servers"]
async fn row_20_one_of_five_stopped_under_load_costs_the_per_try_timeout() {
    one_of_five("stopped", true).await;
}
