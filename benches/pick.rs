//! What a pick costs, as a multiple of rulers that run in the same process and round: `cargo bench --bench
//! pick`.
//!
//! *Floor*: a random index into a static slice. *Guard*: the same behind a bare `ArcSwap::load`, the shape a pick has.
//! A ratio is the median over the rounds of case ÷ ruler of the same round; nanoseconds are for orientation only.
//! Fails if a pick allocates (P2), which is exact. The other bounds are compared and named when missed: P1 (1.25 ×
//! guard), P4 (weighted, 1.4 × P1), and on a quiet machine with two cores P3 (scaling on two threads, 1.8).
#![expect(clippy::disallowed_types, reason = "a benchmark measures the time that passes")]

use std::{
    hint::black_box,
    process::ExitCode,
    sync::{Arc, Barrier},
    time::Instant,
};

use arc_swap::ArcSwap;
use registry_bench_support::{CountingAllocator, allocated};
use registry_core::{Instance, Target, Upstream, balance::Balance};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const ROUNDS: usize = 11;
/// Length of one run, in nanoseconds.
const RUN: f64 = 12e6;

/// A case's run: iteration count in; (ns per op, allocations per op) out.
type Run = Box<dyn Fn(u64) -> (f64, f64) + Send + Sync>;

struct Case {
    name: &'static str,
    run: Run,
    iterations: u64,
    /// Per round: one thread, two threads at once.
    single: Vec<f64>,
    double: Vec<f64>,
    allocations: f64,
}

fn case<S: Send + Sync + 'static>(
    name: &'static str,
    shared: S,
    op: impl Fn(&S) -> u64 + Send + Sync + 'static,
) -> Case {
    let run: Run = Box::new(move |iterations| {
        let mut sum = 0_u64;
        for _ in 0..iterations / 50 + 1 {
            sum = sum.wrapping_add(op(&shared));
        }
        let (before, start) = (allocated(), Instant::now());
        for _ in 0..iterations {
            sum = sum.wrapping_add(op(&shared));
        }
        let (elapsed, allocations) = (start.elapsed().as_nanos(), allocated() - before);
        black_box(sum);
        (elapsed as f64 / iterations as f64, allocations as f64 / iterations as f64)
    });
    let (once, _) = run(200_000);
    let iterations = (RUN / once) as u64;
    Case { name, run, iterations, single: Vec::new(), double: Vec::new(), allocations: 0.0 }
}

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

fn cases(count: usize) -> Vec<Case> {
    let equal = || instances(count, |_| 100);
    let unequal = || instances(count, |id| 1 + (id % 7 * 50) as u32);
    let list: Vec<Arc<Instance>> = equal().into_iter().map(Arc::new).collect();
    let fixed: &'static [Arc<Instance>] = Box::leak(list.clone().into_boxed_slice());
    let borrow = |upstream: &Upstream| upstream.with_pick(read).unwrap_or_default();
    let own = |upstream: &Upstream| upstream.pick().map_or(0, |picked| read(&picked));
    vec![
        case("floor", fixed, |list| read(&list[any(list.len())])),
        case("guard", ArcSwap::from_pointee(list), |cell| {
            let list = cell.load();
            read(&list[any(list.len())])
        }),
        case("round robin", upstream(&Balance::round_robin(), equal()), borrow),
        case("random", upstream(&Balance::random(), equal()), borrow),
        case("weighted", upstream(&Balance::weighted_random(), unequal()), borrow),
        case("round robin, owned", upstream(&Balance::round_robin(), equal()), own),
    ]
}

fn main() -> ExitCode {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let quiet = load_average().is_some_and(|load| load <= 1.2) && cores >= 2;
    let (mut missed, mut allocating) = (Vec::new(), Vec::new());
    for count in [10, 1_000, 10_000] {
        let mut cases = cases(count);
        for _ in 0..ROUNDS {
            for case in &mut cases {
                let (single, allocations) = on_thread(0, || (case.run)(case.iterations));
                case.single.push(single);
                case.allocations = case.allocations.max(allocations);
                case.double.push(on_two_threads(case));
            }
        }
        report(count, &cases);
        missed.extend(check(count, &cases, quiet));
        let allocates = cases.iter().filter(|case| case.allocations > 0.0);
        allocating.extend(allocates.map(|case| format!("P2: {} allocates at N = {count}", case.name)));
    }
    if !quiet {
        println!("P3 (scaling) not gated: it needs two cores and a load average of at most 1.2");
    }
    for bound in missed.iter().chain(&allocating) {
        println!("MISSED {bound}");
    }
    if allocating.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report(count: usize, cases: &[Case]) {
    println!(
        "\nN = {count}\n{:<20} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "case", "×floor", "×guard", "ns", "min", "spread", "scaling", "allocs"
    );
    for case in cases {
        let min = case.single.iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "{:<20} {:>7.2} {:>7.2} {:>7.1} {min:>7.1} {:>6.1}% {:>7.2} {:>7.3}",
            case.name,
            ratio(&case.single, &cases[0].single),
            ratio(&case.single, &cases[1].single),
            quantile(&case.single, 0.5),
            100.0 * (quantile(&case.single, 0.75) - quantile(&case.single, 0.25))
                / quantile(&case.single, 0.5),
            2.0 * ratio(&case.single, &case.double),
            case.allocations,
        );
    }
}

fn check(count: usize, cases: &[Case], quiet: bool) -> Vec<String> {
    let [_, guard, round_robin, random, weighted, _] = cases else {
        return vec!["cases are missing".to_owned()];
    };
    let mut missed = Vec::new();
    let mut bound = |holds: bool, what: String| {
        if !holds {
            missed.push(format!("{what} at N = {count}"));
        }
    };
    for case in [round_robin, random] {
        let pick = ratio(&case.single, &guard.single);
        bound(pick <= 1.25, format!("P1: {} costs {pick:.2} × guard", case.name));
        let scaling = 2.0 * ratio(&case.single, &case.double);
        bound(!quiet || scaling >= 1.8, format!("P3: {} scales at {scaling:.2}", case.name));
    }
    let weighted = ratio(&weighted.single, &random.single);
    bound(weighted <= 1.4, format!("P4: weighted costs {weighted:.2} × P1"));
    missed
}

/// Median over the rounds of a ÷ b.
fn ratio(a: &[f64], b: &[f64]) -> f64 {
    quantile(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>(), 0.5)
}

fn quantile(values: &[f64], at: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * at).round() as usize]
}

/// Runs on a thread of its own, pinned where the system allows it.
fn on_thread<R: Send>(core: usize, f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(core);
            f()
        });
        thread.join().expect("a case doesn't panic")
    })
}

/// ns per op and thread, on two threads that start together.
fn on_two_threads(case: &Case) -> f64 {
    let barrier = Barrier::new(2);
    let run = |core: usize| {
        pin(core);
        barrier.wait();
        (case.run)(case.iterations).0
    };
    std::thread::scope(|scope| {
        let threads = [0, 1].map(|core| scope.spawn(move || run(core)));
        threads.map(|thread| thread.join().expect("a case doesn't panic")).iter().sum::<f64>() / 2.0
    })
}

#[cfg(target_os = "linux")]
fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    // Without the right to pin, the figures are only noisier.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

#[cfg(not(target_os = "linux"))]
fn pin(_: usize) {}

fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
