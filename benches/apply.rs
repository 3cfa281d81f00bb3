//! What taking in changes costs: `cargo bench --bench apply`.
//!
//! Bounds: A1 (one change, against cloning a flat list), A2 (growth with the number of instances), A3 (a batch is one
//! version), A4 (a complete list of which one entry changed, against finding that out).

use std::{
    hash::{BuildHasher, RandomState},
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use registry_bench_support::{Bound, Case, CountingAllocator, Rounds, conclude};
use registry_core::{Instance, backend::Relist, balance::Balance, bench::Published};
use serde_json::value::RawValue;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Changes of one batch.
const BATCH: usize = 64;
/// Entries of a complete list.
const LISTED: usize = 10_000;

fn instance(id: usize, version: usize) -> Arc<Instance> {
    let builder = Instance::builder("orders").id(format!("instance-{id}")).endpoint("http://10.0.0.1:80");
    Arc::new(builder.version(format!("{version}")).build().expect("a valid instance"))
}

/// A list, and changes to it: some of its instances in two versions, to apply in turn.
struct Changes {
    list: Vec<Arc<Instance>>,
    changed: Vec<(usize, [Arc<Instance>; 2])>,
    at: AtomicUsize,
}

impl Changes {
    fn new(count: usize) -> Self {
        let changed = (0..1_024).map(|_| fastrand::usize(..count));
        let changed = changed.map(|id| (id, [instance(id, 1), instance(id, 2)])).collect();
        Self { list: (0..count).map(|id| instance(id, 0)).collect(), changed, at: AtomicUsize::new(0) }
    }

    fn next(&self) -> (usize, &Arc<Instance>) {
        let at = self.at.fetch_add(1, Ordering::Relaxed);
        let (id, versions) = &self.changed[at % self.changed.len()];
        (*id, &versions[at / self.changed.len() % 2])
    }
}

fn filled(changes: &Changes) -> Published {
    let view = Published::new(&Balance::round_robin());
    view.apply(changes.list.clone(), Vec::new());
    view
}

fn apply(name: &'static str, count: usize) -> Case {
    let changes = Changes::new(count);
    Case::new(name, (filled(&changes), changes), |(view, changes)| {
        view.apply(vec![Arc::clone(changes.next().1)], Vec::new());
        1
    })
}

fn apply_batch(name: &'static str, count: usize) -> Case {
    let changes = Changes::new(count);
    Case::new(name, (filled(&changes), changes), |(view, changes)| {
        view.apply((0..BATCH).map(|_| Arc::clone(changes.next().1)).collect(), Vec::new());
        1
    })
}

fn flat(name: &'static str, count: usize) -> Case {
    let changes = Changes::new(count);
    Case::new(name, (ArcSwap::from_pointee(changes.list.clone()), changes), |(cell, changes)| {
        let mut list = Vec::clone(&cell.load());
        let (id, new) = changes.next();
        list[id] = Arc::clone(new);
        cell.store(Arc::new(list));
        1
    })
}

fn main() -> ExitCode {
    let cases = [
        flat("flat, 1000", 1_000),
        flat("flat, 10000", 10_000),
        flat("flat, 100000", 100_000),
        apply("one change, 1000", 1_000),
        apply("one change, 10000", 10_000),
        apply("one change, 100000", 100_000),
        apply_batch("64 changes, 10000", 10_000),
    ];
    let rounds = Rounds::on_one_thread(&cases);
    rounds.print("one change, or a batch, published", &["flat, 10000"]);
    let share = |n: &str| rounds.ratio(&format!("one change, {n}"), &format!("flat, {n}"));
    let growth = rounds.ratio("one change, 100000", "one change, 1000");
    let batch = rounds.ratio("64 changes, 10000", "one change, 10000");
    let mut bounds = vec![
        Bound::at_most("A1", "one change, N = 1000", share("1000"), 1.0, "x flat clone").report(),
        Bound::at_most("A1", "one change, N = 10000", share("10000"), 0.0333, "x flat clone"),
        Bound::at_most("A1", "one change, N = 100000", share("100000"), 0.0333, "x flat clone").report(),
        Bound::at_most("A2", "t(100000) / t(1000)", growth, 4.0, "x"),
        Bound::at_most("A3", "64 changes in one batch", batch, 64.0, "x A1"),
        Bound::exactly("A3", "64 changes in one batch", versions(), 1, "snapshots"),
    ];
    relist(&mut bounds);
    conclude(&bounds)
}

/// How many versions one batch becomes.
fn versions() -> u64 {
    let changes = Changes::new(1_000);
    let view = filled(&changes);
    let before = view.snapshot().version();
    view.apply(changes.changed[..BATCH].iter().map(|(_, [new, _])| Arc::clone(new)).collect(), Vec::new());
    view.snapshot().version() - before
}

/// The answer of a registry that gives complete lists: entries of 1,200 bytes, shaped as Consul's.
fn body(changed: Option<usize>) -> String {
    let entry = |id: usize| {
        let version = if changed == Some(id) { 2 } else { 1 };
        let (ip, node) =
            (format!("10.{}.{}.7", id >> 8, id & 255), format!("{:032x}", id as u128 * 0x9E37_79B9));
        let check = |check: &str, index: usize| {
            format!(
                r#"{{"Node":"node-{id}","CheckID":"{check}","Name":"Service 'orders' check","Status":"passing","Notes":"","Output":"HTTP GET http://{ip}:80/health: 200 OK","ServiceID":"instance-{id}","ServiceName":"orders","ServiceTags":["v{version}"],"Type":"http","Interval":"10s","Timeout":"2s","ExposedPort":0,"Definition":{{}},"CreateIndex":{index},"ModifyIndex":{index}}}"#
            )
        };
        format!(
            r#"{{"Node":{{"ID":"{node}","Node":"node-{id}","Address":"{ip}","Datacenter":"dc1","TaggedAddresses":{{"lan":"{ip}","wan":"{ip}"}},"Meta":{{"consul-network-segment":""}},"CreateIndex":11,"ModifyIndex":12}},"Service":{{"ID":"instance-{id}","Service":"orders","Tags":["v{version}"],"Address":"{ip}","Meta":{{"version":"{version}","zone":"a"}},"Port":80,"Weights":{{"Passing":1,"Warning":1}},"EnableTagOverride":false,"CreateIndex":21,"ModifyIndex":22}},"Checks":[{},{}]}}"#,
            check("serfHealth", 31),
            check("service:orders", 41),
        )
    };
    let entries: Vec<String> = (0..LISTED).map(entry).collect();
    format!("[{}]", entries.join(","))
}

fn split(body: &str) -> Vec<&RawValue> {
    serde_json::from_str(body).expect("a list")
}

fn decode(entry: &[u8]) -> Instance {
    let entry: serde_json::Value = serde_json::from_slice(entry).expect("an entry");
    let service = &entry["Service"];
    let builder = Instance::builder("orders").id(service["ID"].as_str().expect("an id"));
    let builder = builder.version(service["Meta"]["version"].as_str().expect("a version"));
    builder.endpoint("http://10.0.0.1:80").build().expect("a valid instance")
}

/// Takes a body in and publishes what changed; how many entries were decoded.
fn take(list: &mut Relist, view: &Published, body: &str) -> u64 {
    if list.is_same(body.as_bytes()) {
        return 0;
    }
    let mut decoded = 0;
    let next = list.next(split(body).into_iter().map(|entry| entry.get().as_bytes()), |entry| {
        decoded += 1;
        Ok(decode(entry))
    });
    view.apply(next.changed, next.gone);
    decoded
}

fn relist(bounds: &mut Vec<Bound>) {
    let bodies = Arc::new([body(Some(5_000)), body(None)]);
    let view = Published::new(&Balance::round_robin());
    let mut list = Relist::new();
    take(&mut list, &view, &bodies[1]);
    let before = view.snapshot();
    let decoded = take(&mut list, &view, &bodies[0]);
    let after = view.snapshot();
    let changed = registry_core::Diff::between(&before, &after).changed.len();
    bounds.push(Bound::exactly("A4", "entries decoded, 1 of 10000 changed", decoded, 1, "entries"));
    bounds.push(Bound::exactly(
        "A4",
        "instances published, 1 of 10000 changed",
        changed as u64,
        1,
        "instances",
    ));

    let state = (foldhash::fast::RandomState::default(), Arc::clone(&bodies));
    let cases = [
        Case::new("split + hash", state, |(hasher, bodies)| {
            split(&bodies[0])
                .into_iter()
                .map(|entry| hasher.hash_one(entry.get().as_bytes()))
                .fold(0, u64::wrapping_add)
        }),
        Case::new("split + hash, std", (RandomState::new(), Arc::clone(&bodies)), |(hasher, bodies)| {
            split(&bodies[0])
                .into_iter()
                .map(|entry| hasher.hash_one(entry.get().as_bytes()))
                .fold(0, u64::wrapping_add)
        }),
        Case::new("split", Arc::clone(&bodies), |bodies| split(&bodies[0]).len() as u64),
        Case::new("one changed", Mutex::new((list, view, 0_usize, Arc::clone(&bodies))), |state| {
            let mut state = state.lock().expect("nothing panicked");
            let (list, view, turn, bodies) = &mut *state;
            *turn += 1;
            take(list, view, &bodies[*turn % 2])
        }),
        Case::new("nothing changed", Mutex::new((Relist::new(), bodies)), |state| {
            let mut state = state.lock().expect("nothing panicked");
            let (list, bodies) = &mut *state;
            u64::from(list.is_same(bodies[0].as_bytes()))
        }),
    ];
    let rounds = Rounds::on_one_thread(&cases);
    rounds.print("a list of 10000 again", &["split", "split + hash"]);
    let cost = rounds.ratio("one changed", "split + hash");
    bounds.push(Bound::at_most("A4", "1 of 10000 changed", cost, 1.3, "x (split + hash)"));
    let same = rounds.ratio("nothing changed", "split");
    bounds.push(Bound::at_most("J2", "identical body again", same, 0.25, "x split"));
}
