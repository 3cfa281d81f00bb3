//! W3: a burst of changes.

use futures_util::{StreamExt, stream};
use registry_bench_support::{Bound, quantile};
use tokio::time::Instant;

use crate::{
    stage::{Stage, key, value},
    watchers::{Seen, Watchers},
};

const ROUNDS: usize = 5;
const INSTANCES: usize = 10_000;
const PUTS: usize = 20_000;
const IN_FLIGHT: usize = 64;

pub(crate) async fn measure() -> Vec<Bound> {
    let stage = Stage::start("W3, a burst of 20,000 events").await;
    stage.fill(INSTANCES).await;
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let mut watchers = Watchers::start(&stage, INSTANCES, round % 2 == 0).await;
        let raw = stage.raw().await;
        let values: Vec<_> = (0..PUTS)
            .map(|put| (key(put % INSTANCES), value(put % INSTANCES, (round * PUTS + put + 2) as u64)))
            .collect();
        let start = Instant::now();
        stream::iter(values)
            .for_each_concurrent(IN_FLIGHT, |(key, value)| {
                let mut raw = raw.clone();
                async move { raw.put(key, value, None).await.map(|_| ()).unwrap() }
            })
            .await;
        let written = start.elapsed();
        watchers.reach(stage.revision().await).await;
        let (bare, ours) = watchers.finish().await;
        let done = |seen: &Seen| seen.last().map_or(f64::NAN, |(_, at)| (*at - start).as_secs_f64());
        let (bare, ours) = (done(&bare), done(&ours));
        println!("round {}: written after {written:.2?}, bare {bare:.3} s, ours {ours:.3} s", round + 1);
        ratios.push(ours / bare);
    }
    vec![
        Bound::at_most("W3", "burst of 20,000 is seen", quantile(&ratios, 0.5), 1.2, "x bare watcher")
            .report(),
    ]
}
