//! What a pick costs, as a multiple of rulers that run in the same process and round: `cargo bench --bench
//! pick`.
//!
//! *Floor*: a random index into a static slice. *Guard*: the same behind a bare `ArcSwap::load`. Bounds: P1 (held
//! handle, borrowing), P2 (allocations), P3 (scaling on two threads), P4 (weighted), P8 (by service
//! name), P10 (owning). Nanoseconds are for orientation only.

use std::{hint::black_box, process::ExitCode, sync::Arc};

use arc_swap::ArcSwap;
use registry_bench_support::{Bound, Case, CountingAllocator, Rounds, Watch, conclude};
use registry_core::{Client, Instance, StaticRegistry, Target, Upstream, Upstreams, balance::Balance};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// As the bounds of P1 and P4 were set: a number by the generator's own means, which is dearer than the ruler of
/// `benches/policies.rs`.
#[inline(never)] // One function for all cases.
fn any(len: usize) -> usize {
    fastrand::usize(..len)
}

/// The one plain field that every case reads, so that the chosen instance is really touched.
fn read(instance: &Instance) -> u64 {
    u64::from(instance.weight().get())
}

fn instances(count: usize, weight: impl Fn(usize) -> u32) -> Vec<Instance> {
    let build = |id: usize| {
        let builder = Instance::builder("orders").id(format!("instance-{id}")).endpoint("http://10.0.0.1:80");
        builder.weight(weight(id)).build().expect("a valid instance")
    };
    (0..count).map(build).collect()
}

fn upstream(balance: &Balance, instances: Vec<Instance>) -> Upstream {
    Upstream::fixed(Target::try_from("orders").expect("a valid name"), instances, balance)
}

/// 200 services by name, of which the one that is picked from has `count` instances.
fn by_name(count: usize) -> (Runtime, Upstreams) {
    let mut list = StaticRegistry::builder();
    for service in 0..200 {
        let count = if service == 100 { count } else { 1 };
        let endpoints = (0..count).map(|at| format!("http://10.0.{}.{}:80", at >> 8, at & 255));
        list = list.service(format!("orders-{service}"), endpoints);
    }
    let list = list.build().expect("valid services");
    let runtime = Runtime::new().expect("a runtime");
    let upstreams = runtime.block_on(async {
        let client = Client::from_backend(list.backend()).await.expect("a client");
        let upstreams = client.upstreams();
        for service in 0..200 {
            let upstream = upstreams.get(&format!("orders-{service}")).expect("a valid name");
            upstream.ready(1).await.expect("a view");
        }
        upstreams
    });
    (runtime, upstreams)
}

fn cases(count: usize) -> Vec<Case> {
    let equal = || instances(count, |_| 100);
    let unequal = || instances(count, |id| 1 + (id % 7 * 50) as u32);
    let list: Vec<Arc<Instance>> = equal().into_iter().map(Arc::new).collect();
    let fixed: &'static [Arc<Instance>] = Box::leak(list.clone().into_boxed_slice());
    let borrow = |upstream: &Upstream| upstream.with_pick(read).unwrap_or_default();
    let own = |upstream: &Upstream| upstream.pick().map_or(0, |picked| read(&picked));
    vec![
        Case::new("floor", fixed, |list| read(&list[any(list.len())])),
        Case::new("guard", ArcSwap::from_pointee(list), |cell| {
            let list = cell.load();
            read(&list[any(list.len())])
        }),
        Case::new("round robin", upstream(&Balance::round_robin(), equal()), borrow),
        Case::new("random", upstream(&Balance::random(), equal()), borrow),
        Case::new("weighted", upstream(&Balance::weighted_random(), unequal()), borrow),
        Case::new("by name", by_name(count), |(_, upstreams)| {
            upstreams.with_pick(black_box("orders-100"), read).unwrap_or_default()
        }),
        Case::new("round robin, owned", upstream(&Balance::round_robin(), equal()), own),
    ]
}

fn main() -> ExitCode {
    let mut bounds = Vec::new();
    for count in [10, 1_000, 10_000] {
        let watch = Watch::start();
        let rounds = Rounds::on_two_threads(&cases(count));
        rounds.print(&format!("N = {count}"), &["floor", "guard"]);
        judge(count, &rounds, watch.disturbed().as_ref(), &mut bounds);
    }
    conclude(&bounds)
}

fn judge(count: usize, rounds: &Rounds, disturbed: Option<&String>, bounds: &mut Vec<Bound>) {
    let what = |case: &str| format!("{case}, N = {count}");
    for case in ["round robin", "random"] {
        let (guard, floor) = (rounds.ratio(case, "guard"), rounds.ratio(case, "floor"));
        bounds.push(Bound::at_most("P1", what(case), guard, 1.25, "x guard"));
        bounds.push(Bound::at_most("P1", what(case), floor, 3.0, "x floor").report());
        let scaling = Bound::at_least("P3", what(case), rounds.scaling(case), 1.8, "");
        bounds.push(scaling.skip_if(disturbed));
    }
    for case in ["round robin", "random", "weighted", "by name", "round robin, owned"] {
        bounds.push(Bound::at_most("P2", what(case), rounds.allocations(case), 0.0, "allocations"));
    }
    // P1 as it was measured when the bound was set: the pick on a bare guard.
    bounds.push(Bound::at_most("P4", what("weighted"), rounds.ratio("weighted", "guard"), 1.4, "x guard"));
    bounds.push(Bound::at_most("P8", what("by name"), rounds.ratio("by name", "round robin"), 2.6, "x P1"));
    let scaling = Bound::at_least("P8", what("by name, scaling"), rounds.scaling("by name"), 1.8, "");
    bounds.push(scaling.skip_if(disturbed));
    let owned = rounds.ratio("round robin, owned", "floor");
    bounds.push(Bound::at_most("P10", what("round robin, owned"), owned, 8.0, "x floor").report());
}
