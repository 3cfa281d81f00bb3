//! W2: the first view of a large service.

use etcd_client::GetOptions;
use registry_bench_support::{Bound, quantile};
use registry_core::model::decode_record;
use tokio::time::Instant;

use crate::stage::{SERVICE, Stage, prefix};

const ROUNDS: usize = 11;
const INSTANCES: usize = 10_000;

pub(crate) async fn measure() -> Vec<Bound> {
    let stage = Stage::start("W2, the first view of 10,000 instances").await;
    stage.fill(INSTANCES).await;
    let mut raw = stage.raw().await;
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let start = Instant::now();
        let answer = raw.get(prefix(), Some(GetOptions::new().with_prefix())).await.unwrap();
        let ranged = start.elapsed();
        let decoded: Vec<_> = answer.kvs().iter().map(|kv| decode_record(kv.value()).unwrap()).collect();
        let bare = start.elapsed();
        assert_eq!(decoded.len(), INSTANCES);
        drop((answer, decoded));

        let client = stage.client().await;
        let start = Instant::now();
        let upstream = client.discover(SERVICE).await.unwrap();
        let ours = start.elapsed();
        assert_eq!(upstream.snapshot().len(), INSTANCES, "discover waits for the first view");
        println!("round {}: range {ranged:.1?}, with decoding {bare:.1?}, ours {ours:.1?}", round + 1);
        ratios.push(ours.as_secs_f64() / bare.as_secs_f64());
    }
    vec![Bound::at_most("W2", "first view of 10,000", quantile(&ratios, 0.5), 1.25, "x (range + decode)")]
}
