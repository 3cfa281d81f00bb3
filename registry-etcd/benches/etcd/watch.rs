//! W1: from a put to who waits for it.

use std::{collections::HashMap, time::Duration};

use registry_bench_support::{Bound, quantile};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    stage::{Stage, key, value},
    watchers::{Seen, Watchers},
};

const ROUNDS: usize = 12;
const INSTANCES: usize = 10_000;
const PUTS: usize = 300;
/// 500 puts a second: each finds the server and the watchers at rest.
const EVERY: Duration = Duration::from_millis(2);

pub(crate) async fn measure() -> Vec<Bound> {
    let stage = Stage::start("W1, a put to its watchers").await;
    stage.fill(INSTANCES).await;
    println!("{:>5} {:>6}  {:>17}  {:>17}  µs: bare, ours", "round", "first", "p50", "p99");
    let (mut halves, mut tails) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let ours_first = round % 2 == 0;
        let (bare, ours) = Box::pin(latencies(&stage, round, ours_first)).await;
        let [p50, p99] = [0.5, 0.99].map(|at| (quantile(&bare, at), quantile(&ours, at)));
        let first = if ours_first { "ours" } else { "bare" };
        println!("{:>5} {first:>6}  {:>8.0} {:>8.0}  {:>8.0} {:>8.0}", round + 1, p50.0, p50.1, p99.0, p99.1);
        halves.push(p50.1 / p50.0);
        tails.push(p99.1 / p99.0);
    }
    vec![
        Bound::at_most("W1", "put to subscriber, p50", quantile(&halves, 0.5), 1.10, "x bare watcher"),
        Bound::at_most("W1", "put to subscriber, p99", quantile(&tails, 0.5), 1.25, "x bare watcher")
            .report(),
    ]
}

/// µs from the start of each put to the bare watcher and to ours.
async fn latencies(stage: &Stage, round: usize, ours_first: bool) -> (Vec<f64>, Vec<f64>) {
    let mut watchers = Watchers::start(stage, INSTANCES, ours_first).await;
    let mut raw = stage.raw().await;
    let mut started = HashMap::new();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for put in 0..PUTS {
        let number = (put * 37 + round) % INSTANCES;
        let value = value(number, (round * PUTS + put + 2) as u64);
        ticks.tick().await;
        let start = Instant::now();
        let answer = raw.put(key(number), value, None).await.unwrap();
        started.insert(answer.header().unwrap().revision(), start);
    }
    watchers.reach(started.keys().copied().max().unwrap()).await;
    let (bare, ours) = watchers.finish().await;
    let since = |seen: &Seen| -> Vec<f64> {
        seen.iter()
            .filter_map(|(revision, at)| {
                Some(at.duration_since(*started.get(revision)?).as_nanos() as f64 / 1e3)
            })
            .collect()
    };
    let (bare, ours) = (since(&bare), since(&ours));
    assert_eq!((bare.len(), ours.len()), (PUTS, PUTS), "every put was seen by both");
    (bare, ours)
}
