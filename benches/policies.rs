//! What the policies cost that weigh, count, learn or hash, each with the release of the pick: `cargo bench --bench
//! policies`.
//!
//! *Floor* and *guard* are rulers as in `benches/pick.rs`, by a cheaper random number; *clocks* is reading the clock
//! twice, which whoever learns from latencies has to. Bounds: P2 (allocations), P5 (least request), P6 (peak EWMA), P7 (keys).
//!
//! P5 was set as 2 and 2.7 times a P1 that was measured as the pick on a bare guard, 5.6 × floor on that machine: 11 and
//! 15 × floor. On others a guard is half as much. × guard is reported beside it, and × *P2C*: the same policy by the
//! book, a list behind a guard, one counter per instance for all threads, and for the owned pick a reference to the
//! instance. Judged with two requests in flight to every instance on each thread, so that both candidates are looked at.
//!
//! P6 is a pick, its release and the report of a latency.
//!
//! P7 judges what the look-up *adds*: key to position, and then the read of that instance in a flat list, as the floor
//! does by a random number. The whole pick by key, which also counts a reference to the instance, is reported beside
//! it. What an instance that comes or goes costs the writer is printed only.

use std::{
    hint::black_box,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use registry_bench_support::{Bound, Case, CountingAllocator, Rounds, Watch, any, conclude};
use registry_core::{
    Instance, Target, Upstream,
    balance::{Balance, Outcome, PickContext, RingHash},
    bench::{LookUp, Published},
};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Two choices by the book.
struct Naive {
    list: ArcSwap<Vec<(Arc<Instance>, Arc<AtomicU32>)>>,
}

/// An owned pick by the book: whoever drops it says that the request has ended.
struct NaivePicked {
    instance: Arc<Instance>,
    in_flight: Arc<AtomicU32>,
}

impl Drop for NaivePicked {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Naive {
    fn new(instances: Vec<Instance>) -> Self {
        let busy = || Arc::new(AtomicU32::new(2));
        let list = instances.into_iter().map(|instance| (Arc::new(instance), busy())).collect();
        Self { list: ArcSwap::from_pointee(list) }
    }

    fn choose(list: &[(Arc<Instance>, Arc<AtomicU32>)]) -> &(Arc<Instance>, Arc<AtomicU32>) {
        let (a, b) = (&list[any(list.len())], &list[any(list.len())]);
        if b.1.load(Ordering::Relaxed) < a.1.load(Ordering::Relaxed) { b } else { a }
    }

    fn borrow(&self) -> u64 {
        let list = self.list.load();
        let (instance, in_flight) = Self::choose(&list);
        in_flight.fetch_add(1, Ordering::Relaxed);
        let weight = read(instance);
        in_flight.fetch_sub(1, Ordering::Relaxed);
        weight
    }

    fn own(&self) -> u64 {
        let list = self.list.load();
        let (instance, in_flight) = Self::choose(&list);
        in_flight.fetch_add(1, Ordering::Relaxed);
        let picked = NaivePicked { instance: Arc::clone(instance), in_flight: Arc::clone(in_flight) };
        drop(list);
        read(&picked.instance)
    }
}

/// The one plain field that every case reads, so that the chosen instance is really touched.
fn read(instance: &Instance) -> u64 {
    u64::from(instance.weight().get())
}

fn instance(id: usize, weight: u32) -> Instance {
    let builder = Instance::builder("orders").id(format!("instance-{id}")).endpoint("http://10.0.0.1:80");
    builder.weight(weight).build().expect("a valid instance")
}

fn equal(count: usize) -> Vec<Instance> {
    (0..count).map(|id| instance(id, 100)).collect()
}

fn unequal(count: usize) -> Vec<Instance> {
    (0..count).map(|id| instance(id, 1 + (id % 7 * 50) as u32)).collect()
}

fn upstream(balance: &Balance, instances: Vec<Instance>) -> Upstream {
    Upstream::fixed(Target::try_from("orders").expect("a valid name"), instances, balance)
}

/// Picks on an upstream of which every instance has about two requests in flight on this thread.
fn busy(name: &'static str, balance: &Balance, instances: Vec<Instance>, op: fn(&Upstream) -> u64) -> Case {
    let count = 2 * instances.len();
    let hold = move |upstream: &Upstream| (0..count).map(|_| upstream.pick()).collect::<Vec<_>>();
    Case::with_local(name, upstream(balance, instances), hold, move |upstream, _| op(upstream))
}

fn borrow(upstream: &Upstream) -> u64 {
    upstream.with_pick(read).unwrap_or_default()
}

fn own(upstream: &Upstream) -> u64 {
    upstream.pick().map_or(0, |picked| read(&picked))
}

fn report(upstream: &Upstream) -> u64 {
    let Ok(picked) = upstream.pick() else { return 0 };
    let weight = read(&picked);
    picked.report(Outcome::success().took(Duration::from_micros(900 + weight)));
    weight
}

/// One key after the other.
fn keyed(name: &'static str, balance: &Balance, count: usize) -> Case {
    Case::with_local(
        name,
        upstream(balance, equal(count)),
        |_| 0,
        |upstream, key| {
            *key += 1;
            upstream.pick_with(&PickContext::new().hash_key(*key)).map_or(0, |picked| read(&picked))
        },
    )
}

fn looked_up(name: &'static str, balance: &Balance, count: usize) -> Case {
    let list: Vec<Arc<Instance>> = equal(count).into_iter().map(Arc::new).collect();
    let shared = (LookUp::new(balance, list.clone()), list);
    Case::with_local(
        name,
        shared,
        |_| 0,
        |(look_up, list), key| {
            *key += 1;
            read(&list[look_up.position(*key)])
        },
    )
}

fn cases(count: usize) -> Vec<Case> {
    let list: Vec<Arc<Instance>> = equal(count).into_iter().map(Arc::new).collect();
    let fixed: &'static [Arc<Instance>] = Box::leak(list.clone().into_boxed_slice());
    let (least, peak) = (Balance::least_request(), Balance::peak_ewma());
    let (maglev, ring) = (Balance::maglev(), Balance::ring_hash());
    let bounded = Balance::from(RingHash::new().bounded_load(1.25));
    vec![
        Case::new("floor", fixed, |list| read(&list[any(list.len())])),
        Case::new("guard", ArcSwap::from_pointee(list), |cell| {
            let list = cell.load();
            read(&list[any(list.len())])
        }),
        Case::new("clocks", (), |()| {
            let start = black_box(Instant::now());
            u64::from(Instant::now().saturating_duration_since(start).subsec_nanos())
        }),
        Case::new("P2C", Naive::new(equal(count)), Naive::borrow),
        Case::new("P2C, owned", Naive::new(equal(count)), Naive::own),
        Case::new("random", upstream(&Balance::random(), equal(count)), borrow),
        Case::new("weighted", upstream(&Balance::weighted_random(), unequal(count)), borrow),
        Case::new("least request, idle", upstream(&least, equal(count)), borrow),
        busy("least request", &least, equal(count), borrow),
        busy("least request, weights", &least, unequal(count), borrow),
        busy("least request, owned", &least, equal(count), own),
        busy("peak EWMA, borrowing", &peak, equal(count), borrow),
        busy("peak EWMA, reported", &peak, equal(count), report),
        looked_up("maglev look-up", &maglev, count),
        looked_up("ring look-up", &ring, count),
        keyed("maglev, owned", &maglev, count),
        keyed("ring, owned", &ring, count),
        keyed("bounded ring, owned", &bounded, count),
    ]
}

/// An instance that comes, and goes again: two versions.
fn changes(count: usize) -> Vec<Case> {
    let case = |name, balance: &Balance| {
        let published = Published::new(balance);
        published.apply(equal(count).into_iter().map(Arc::new).collect(), Vec::new());
        let guest = Arc::new(instance(count, 100));
        Case::new(name, (published, guest), |(published, guest)| {
            published.apply(vec![Arc::clone(guest)], Vec::new());
            published.apply(Vec::new(), vec![guest.key()]);
            published.snapshot().version()
        })
    };
    vec![
        case("least request", &Balance::least_request()),
        case("peak EWMA", &Balance::peak_ewma()),
        case("maglev", &Balance::maglev()),
        case("ring", &Balance::ring_hash()),
    ]
}

fn main() -> ExitCode {
    let mut bounds = Vec::new();
    for count in [10, 1_000, 10_000] {
        let watch = Watch::start();
        let cases = cases(count);
        let rounds = Rounds::on_two_threads(&cases);
        rounds.print(&format!("N = {count}"), &["floor", "guard", "clocks", "P2C"]);
        judge(count, &cases, &rounds, watch.disturbed().as_ref(), &mut bounds);
        drop(cases);
        let rounds = Rounds::on_one_thread(&changes(count));
        rounds.print(&format!("One that comes and goes, N = {count}"), &[]);
    }
    conclude(&bounds)
}

fn judge(count: usize, cases: &[Case], rounds: &Rounds, disturbed: Option<&String>, bounds: &mut Vec<Bound>) {
    let what = |case: &str| format!("{case}, N = {count}");
    for case in cases.iter().map(Case::name).skip(6) {
        bounds.push(Bound::at_most("P2", what(case), rounds.allocations(case), 0.0, "allocations"));
    }
    // Judged in `benches/pick.rs`, where fewer lists crowd the caches.
    let weighted =
        Bound::at_most("P4", what("weighted, crowded"), rounds.ratio("weighted", "guard"), 1.4, "x guard");
    bounds.push(weighted.report());
    for (case, naive, floors, guards) in
        [("least request", "P2C", 11.0, 2.0), ("least request, owned", "P2C, owned", 15.0, 2.7)]
    {
        let by = |ruler| rounds.ratio(case, ruler);
        bounds.push(Bound::at_most("P5", what(case), by("floor"), floors, "x floor"));
        bounds.push(Bound::at_most("P5", what(case), by("guard"), guards, "x guard").report());
        bounds.push(Bound::at_most("P5", what(case), by(naive), 2.7, "x P2C by the book").report());
    }
    let scaling = rounds.scaling("least request");
    bounds.push(Bound::at_least("P5", what("least request, scaling"), scaling, 1.6, "").skip_if(disturbed));
    let peak = rounds.ratio("peak EWMA, reported", "clocks");
    bounds.push(Bound::at_most("P6", what("peak EWMA, reported"), peak, 4.0, "x two clock reads"));
    let look_up = rounds.ratio("maglev look-up", "floor");
    let limit = if count <= 1_000 { 2.0 } else { 10.0 };
    bounds.push(Bound::at_most("P7", what("maglev look-up"), look_up, limit, "x floor"));
    let owned = rounds.ratio("maglev, owned", "floor");
    bounds.push(Bound::at_most("P7", what("maglev, owned"), owned, 8.0 + limit, "x floor").report());
}
