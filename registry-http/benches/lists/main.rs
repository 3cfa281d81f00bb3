//! What lists of 10,000 cost to take in: `cargo bench -p registry-http --all-features --bench lists`, with `consul`,
//! `eureka` or `nacos` behind `--` to run only those. Needs no server: the bodies are as the servers write them.
//!
//! Bounds: J1 (a first list), J2 (the same body again), A4 (a list of which one entry changed). Rulers of the same
//! rounds are *split*, the entries of the same body as `Vec<&RawValue>`, and *split + hash*.

mod bodies;

use std::{hash::BuildHasher, process::ExitCode, sync::Arc, sync::Mutex};

use registry_bench_support::{Bound, Case, CountingAllocator, Rounds, conclude};
use registry_core::{Instance, ServiceName, balance::Balance, bench::Published};
use registry_http::bench::{Taken, consul, eureka, nacos};
use serde_json::value::RawValue;

use self::bodies::{Body, ENTRIES, SERVICE, Written};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const OTHERS: &str = "entries of other fleets";
const OWN: &str = "entries of ours";
/// The entry that changes.
const CHANGED: usize = 5_000;

/// The way of a body through one backend.
trait Watch: Send + 'static {
    fn new() -> Self;
    fn take(&mut self, body: &[u8]) -> Taken;
}

fn service() -> ServiceName {
    ServiceName::new(SERVICE).expect("a name")
}

impl Watch for consul::Lists {
    fn new() -> Self {
        Self::new(service())
    }

    fn take(&mut self, body: &[u8]) -> Taken {
        self.take(body)
    }
}

impl Watch for nacos::Lists {
    fn new() -> Self {
        Self::new(service())
    }

    fn take(&mut self, body: &[u8]) -> Taken {
        self.take(body)
    }
}

impl Watch for eureka::Lists {
    fn new() -> Self {
        Self::new(&service())
    }

    fn take(&mut self, body: &[u8]) -> Taken {
        self.list(body)
    }
}

/// What was measured of one kind of list.
struct Figures {
    first: f64,
    again: f64,
    changed: f64,
    /// How many instances of the second list are other allocations than before.
    decoded: u64,
    published: u64,
}

fn measure<W: Watch>(title: &str, bodies: [Body; 2]) -> Figures {
    println!("\n{title}: {} bytes per entry", bodies[0].array.len() / ENTRIES);
    let bodies = Arc::new(bodies);
    let text = |turn: usize| bodies[turn % 2].text.as_bytes();

    let view = Published::new(&Balance::round_robin());
    let mut watch = W::new();
    let first = watch.take(text(0));
    assert_eq!((first.is_whole, first.upserts.len()), (true, ENTRIES), "the first list is whole");
    let known: std::collections::HashSet<*const Instance> = first.upserts.iter().map(Arc::as_ptr).collect();
    view.apply(first.upserts.clone(), first.removals);
    let before = view.snapshot();
    let second = watch.take(text(1));
    let decoded = second.upserts.iter().filter(|one| !known.contains(&Arc::as_ptr(one))).count();
    view.apply(second.upserts, second.removals);
    let published = registry_core::Diff::between(&before, &view.snapshot()).changed.len();

    let hasher = foldhash::fast::RandomState::default();
    let cases = [
        Case::new("split", Arc::clone(&bodies), |bodies| split(&bodies[0].array).len() as u64),
        Case::new("split + hash", (hasher, Arc::clone(&bodies)), |(hasher, bodies)| {
            let entries = split(&bodies[0].array).into_iter();
            entries.map(|entry| hasher.hash_one(entry.get().as_bytes())).fold(0, u64::wrapping_add)
        }),
        Case::new("first list", Arc::clone(&bodies), |bodies| {
            W::new().take(bodies[0].text.as_bytes()).upserts.len() as u64
        }),
        Case::new("one changed", Mutex::new((watch, view, 0_usize, Arc::clone(&bodies))), |state| {
            let mut state = state.lock().expect("nothing panicked");
            let (watch, view, turn, bodies) = &mut *state;
            let taken = watch.take(bodies[*turn % 2].text.as_bytes());
            *turn += 1;
            let told = taken.upserts.len();
            view.apply(taken.upserts, taken.removals);
            told as u64
        }),
        Case::new("the same again", Mutex::new((W::new(), Arc::clone(&bodies))), |state| {
            let mut state = state.lock().expect("nothing panicked");
            let (watch, bodies) = &mut *state;
            watch.take(bodies[0].text.as_bytes()).upserts.len() as u64
        }),
    ];
    let rounds = Rounds::on_one_thread(&cases);
    rounds.print(title, &["split", "split + hash"]);
    Figures {
        first: rounds.ratio("first list", "split"),
        again: rounds.ratio("the same again", "split"),
        changed: rounds.ratio("one changed", "split + hash"),
        decoded: decoded as u64,
        published: published as u64,
    }
}

fn split(array: &str) -> Vec<&RawValue> {
    serde_json::from_str(array).expect("a list")
}

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let mut bounds = Vec::new();
    if wants("consul") {
        for (written, whose) in [(Written::ByOthers, OTHERS), (Written::ByUs, OWN)] {
            let bodies = [None, Some(CHANGED)].map(|changed| bodies::consul(written, changed));
            let title = format!("Consul, {whose}");
            let of = measure::<consul::Lists>(&title, bodies);
            judge(&mut bounds, "Consul", whose, &of);
        }
    }
    if wants("nacos") {
        let bodies = [None, Some(CHANGED)].map(bodies::nacos);
        let of = measure::<nacos::Lists>("Nacos", bodies);
        judge(&mut bounds, "Nacos", OWN, &of);
    }
    if wants("eureka") {
        let bodies = [None, Some(CHANGED)].map(bodies::eureka);
        let of = measure::<eureka::Lists>("Eureka, whole lists", bodies);
        whole_lists(&mut bounds, "Eureka", &of);
        deltas(&mut bounds);
    }
    conclude(&bounds)
}

/// Of backends whose registry answers with the whole list at each change.
fn judge(bounds: &mut Vec<Bound>, registry: &str, whose: &str, of: &Figures) {
    let what = |what: &str| format!("{registry}, {whose}: {what}");
    let first = Bound::at_most("J1", what("10000 to instances"), of.first, 2.7, "x split");
    let changed = Bound::at_most("A4", what("1 of 10000 changed"), of.changed, 1.3, "x (split + hash)");
    // The bound is for Consul's entries of 1,200 bytes. Of Nacos' half as long ones splitting is half of what making an
    // instance is.
    bounds.extend([
        if registry == "Consul" { first } else { first.report() },
        Bound::at_most("J2", what("the same again"), of.again, 0.25, "x split"),
        changed,
        Bound::exactly("A4", what("decoded, 1 of 10000 changed"), of.decoded, 1, "entries"),
        Bound::exactly("A4", what("published, 1 of 10000 changed"), of.published, 1, "instances"),
    ]);
}

/// Of Eureka's, which is fetched at the start, every 10 min and when a delta doesn't fit: never for a change alone.
fn whole_lists(bounds: &mut Vec<Bound>, registry: &str, of: &Figures) {
    let what = |what: &str| format!("{registry}, whole list: {what}");
    bounds.extend([
        Bound::at_most("J1", what("10000 to instances"), of.first, 2.7, "x split").report(),
        Bound::at_most("A4", what("1 of 10000 changed"), of.changed, 1.3, "x (split + hash)"),
        Bound::exactly("A4", what("published, 1 of 10000 changed"), of.published, 1, "instances"),
    ]);
}

/// What Eureka tells instead: a delta of the one entry, which is proved by the counts of all.
fn deltas(bounds: &mut Vec<Bound>) {
    let list = bodies::eureka(None);
    let turns = [Some(CHANGED), None].map(|changed| bodies::eureka_delta(CHANGED, changed));
    let state = Arc::new((list, turns));
    let view = Published::new(&Balance::round_robin());
    let mut watch = eureka::Lists::new(&service());
    view.apply(watch.list(state.0.text.as_bytes()).upserts, Vec::new());
    let told = watch.delta(state.1[0].as_bytes());
    let decoded = told.upserts.len() as u64;
    view.apply(told.upserts, told.removals);
    let hasher = foldhash::fast::RandomState::default();
    let cases = [
        Case::new("split", Arc::clone(&state), |state| split(&state.0.array).len() as u64),
        Case::new("split + hash", (hasher, Arc::clone(&state)), |(hasher, state)| {
            let entries = split(&state.0.array).into_iter();
            entries.map(|entry| hasher.hash_one(entry.get().as_bytes())).fold(0, u64::wrapping_add)
        }),
        Case::new("one changed", Mutex::new((watch, view, 0_usize, Arc::clone(&state))), |case| {
            let mut case = case.lock().expect("nothing panicked");
            let (watch, view, turn, state) = &mut *case;
            *turn += 1;
            let told = watch.delta(state.1[*turn % 2].as_bytes());
            let upserts = told.upserts.len();
            view.apply(told.upserts, told.removals);
            upserts as u64
        }),
        Case::new("the same again", Mutex::new((eureka::Lists::new(&service()), state)), |case| {
            let mut case = case.lock().expect("nothing panicked");
            let (watch, state) = &mut *case;
            u64::from(watch.is_same(state.0.text.as_bytes()))
        }),
    ];
    let rounds = Rounds::on_one_thread(&cases);
    rounds.print("Eureka, deltas", &["split", "split + hash"]);
    let (changed, again) =
        (rounds.ratio("one changed", "split + hash"), rounds.ratio("the same again", "split"));
    bounds.extend([
        Bound::at_most("J2", "Eureka, delta of 10000: the same again", again, 0.25, "x split"),
        Bound::at_most("A4", "Eureka, delta: 1 of 10000 changed", changed, 1.3, "x (split + hash)"),
        Bound::exactly("A4", "Eureka, delta: decoded, 1 of 10000 changed", decoded, 1, "entries"),
    ]);
}
