//! What a cached instance weighs: `cargo bench --bench memory`.
//!
//! Bounds: M1 (bytes per instance, and against plain strings and a map), M2 (nothing grows however many instances come
//! and go, or are ejected and leave). Counted by the allocator, so the figures are the same in every run.
//!
//! Inside of M1 is all that is allocated for [`COUNT`] decoded records and kept: each `Arc<Instance>` with its counters,
//! what it points to, its 8 bytes in the list, and its share of what instances hold in common. Ids, addresses and one
//! entry of the metadata differ from record to record; there are 15 combinations of zone and version, and the more there
//! are beside the instances, the nearer each comes to a record with texts of its own, which is printed too. Outside of
//! M1 is what holds the instances: the lines of a view say what its writer's index and its lists take on top, and what
//! both take after each instance was replaced.

use std::{collections::HashMap, process::ExitCode, sync::Arc};

use registry_bench_support::{Bound, WeighingAllocator, Weight, conclude, weigh};
use registry_core::{Instance, balance::Balance, bench::Published, model::decode_record};

#[global_allocator]
static ALLOCATOR: WeighingAllocator = WeighingAllocator;

/// Instances that are weighed.
const COUNT: usize = 100_000;
/// Instances that come and go.
const CYCLES: usize = 1_000_000;

/// Instances that join, are ejected and leave.
const EJECTED: usize = 1_000;

/// The parts of one record: an id of 26 characters, three zones, five versions, four entries of which one is nearly
/// unique.
struct Record {
    id: String,
    host: String,
    zone: String,
    version: String,
    metadata: [(&'static str, String); 4],
}

fn record(at: usize) -> Record {
    Record {
        id: format!("01HZX7Q{:019}", at as u128 * 7_919 % 10_000_000_007),
        host: format!("10.{}.{}.{}", at >> 16 & 255, at >> 8 & 255, at & 255),
        zone: format!("eu-central-1{}", ["a", "b", "c"][at % 3]),
        version: format!("2.14.{}", at % 5),
        metadata: [
            ("deployment.environment", "production".to_owned()),
            ("framework", "axum-0.8".to_owned()),
            ("pod", format!("orders-7d9f8b6c5-{at:05}")),
            ("team", "checkout".to_owned()),
        ],
    }
}

fn encoded(at: usize, owner: &str) -> Vec<u8> {
    encode(record(at), owner)
}

fn encode(record: Record, owner: &str) -> Vec<u8> {
    let Record { id, host, zone, version, metadata } = record;
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| format!("{key:?}:{value:?}")).collect();
    format!(
        r#"{{"service":"orders","id":"{id}","endpoints":["http://{host}:8080"],"version":"{version}","weight":100,"zone":"{zone}","metadata":{{{}}},"status":"serving"{owner}}}"#,
        metadata.join(",")
    )
    .into_bytes()
}

/// What one would write without thinking of memory.
#[expect(dead_code, reason = "kept to be weighed")]
struct Naive {
    id: String,
    service: String,
    host: String,
    port: u16,
    scheme: String,
    weight: u32,
    zone: String,
    version: String,
    metadata: HashMap<String, String>,
}

fn naive(at: usize) -> Naive {
    let Record { id, host, zone, version, metadata } = record(at);
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let (service, scheme) = ("orders".to_owned(), "http".to_owned());
    Naive { id, service, host, port: 8080, scheme, weight: 100, zone, version, metadata }
}

/// Bytes per item of a list of shared ones, the list included.
fn per_item<T>(make: impl Fn(usize) -> T) -> (f64, f64) {
    let (Weight { requested, taken }, list) = weigh(|| {
        let mut list = Vec::with_capacity(COUNT);
        list.extend((0..COUNT).map(|at| Arc::new(make(at))));
        list
    });
    let count = list.len() as f64;
    (requested as f64 / count, taken as f64 / count)
}

fn decoded(at: usize, owner: &str) -> Instance {
    decode_record(&encoded(at, owner)).expect("a valid record")
}

/// A record of which nothing is shared, as its version is its own.
fn lonely(at: usize) -> Instance {
    let lonely = Record { version: format!("2.14.{at}"), ..record(at) };
    decode_record(&encode(lonely, "")).expect("a valid record")
}

/// Bytes per instance of a view with its index: filled in one batch, and after all were replaced.
fn in_view() -> [(f64, f64); 2] {
    let view = Published::new(&Balance::weighted_random());
    let batch = |owner: &str| (0..COUNT).map(|at| Arc::new(decoded(at, owner))).collect();
    let publish = |owner| weigh(|| view.apply(batch(owner), Vec::new())).0;
    let per_item = |weight: i64| weight as f64 / COUNT as f64;
    let filled = publish(r#","incarnation":"0123456789abcdef0123456789abcdef","sequence":1"#);
    let grown = publish(r#","incarnation":"0123456789abcdef0123456789abcdef","sequence":2"#);
    [
        (per_item(filled.requested), per_item(filled.taken)),
        (per_item(filled.requested + grown.requested), per_item(filled.taken + grown.taken)),
    ]
}

fn main() -> ExitCode {
    let owner = r#","incarnation":"0123456789abcdef0123456789abcdef","epoch":3,"sequence":17"#;
    let naive = per_item(naive);
    let plain = per_item(|at| decoded(at, ""));
    let owned = per_item(|at| decoded(at, owner));
    println!("{:<34} {:>9} {:>9}", "bytes per instance", "requested", "taken");
    let [filled, replaced] = in_view();
    for (name, (requested, taken)) in [
        ("plain strings and a map", naive),
        ("instance", plain),
        ("instance with its version", owned),
        ("instance that shares nothing", per_item(lonely)),
        ("instance in a view", filled),
        ("instance in a view, replaced once", replaced),
    ] {
        println!("{name:<34} {requested:>9.1} {taken:>9.1}");
    }
    let (growth, ejected) = (growth(), ejected());
    println!("bytes kept after {EJECTED} instances were ejected and left: {ejected}");
    println!("bytes kept after {CYCLES} instances came and went: {growth}");
    conclude(&[
        Bound::at_most("M1", "per instance", plain.1, 256.0, "B"),
        Bound::at_most("M1", "per instance", plain.1 / naive.1, 0.25, "x naive"),
        Bound::at_most("M1", "per instance with its record version", owned.1, 256.0, "B"),
        Bound::at_most("M1", "kept of each that was replaced", replaced.1 - filled.1, 1.0, "B"),
        Bound::at_most("M2", format!("kept after {CYCLES} instances came and went"), growth, 4_096.0, "B"),
        Bound::at_most("M2", format!("kept after {EJECTED} were ejected and left"), ejected, 4_096.0, "B"),
    ])
}

/// What a view that instances enter and leave keeps beyond what it kept after the first thousandth of them.
fn growth() -> f64 {
    let view = Published::new(&Balance::weighted_random());
    let cycle = |from: usize, to: usize| {
        for at in from..to {
            let instance = Arc::new(decoded(at, ""));
            let key = instance.key();
            view.apply(vec![instance], Vec::new());
            view.apply(Vec::new(), vec![key]);
        }
    };
    view.apply((CYCLES..CYCLES + 100).map(|at| Arc::new(decoded(at, ""))).collect(), Vec::new());
    cycle(0, CYCLES / 1_000);
    weigh(|| cycle(CYCLES / 1_000, CYCLES)).0.taken as f64
}

/// What a view whose instances join, fail, are ejected and leave keeps beyond what it kept after the first tenth.
fn ejected() -> f64 {
    let view = Published::new(&Balance::round_robin());
    let cycle = |from: usize, to: usize| {
        for round in from..to {
            let batch: Vec<_> = (0..10).map(|at| Arc::new(decoded(round * 10 + at, ""))).collect();
            let keys = batch.iter().map(|instance| instance.key()).collect();
            view.apply(batch, Vec::new());
            view.eject();
            assert_eq!(view.snapshot().ejected().count(), 1, "round {round}");
            view.apply(Vec::new(), keys);
        }
    };
    cycle(0, EJECTED / 10);
    weigh(|| cycle(EJECTED / 10, EJECTED)).0.taken as f64
}
