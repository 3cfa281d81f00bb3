//! One row as a test.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::LocalBoxFuture;
use registry_testkit::faults::{ClientFleets, Figure, FleetFactory, History, Observation, Violation, settle};
use tokio::time::{Instant, sleep, timeout};

use super::child;

/// When a row is given up: only if something hangs that has no bound of its own.
const END: Duration = Duration::from_secs(120);
/// How late a timer of this process may be. A time to live of 3 s leaves half of that for an outage that costs
/// nothing, so a process that is starved for longer lives through more than its story has.
const STARVED: Duration = Duration::from_millis(500);
/// How long a server may leave the truth unanswered where no fault keeps it from answering. The same machine starves
/// servers, and those in Java first.
const SILENT: Duration = Duration::from_secs(1);
/// How often a row that was starved is told again.
const ATTEMPTS: u32 = 3;

/// Runs a row with this project's client. A violation counts, unless the machine has starved the very process
/// meanwhile: then the story was another one, and is told again.
pub(crate) async fn test(
    module: &str,
    name: &str,
    story: impl for<'a> Fn(&'a dyn FleetFactory, &'a History) -> LocalBoxFuture<'a, Result<Figure, Violation>>,
) {
    if child::play().await {
        return;
    }
    let number = name["row_".len()..][..2].parse().expect("a row's name begins with its number");
    let module = module.split_once("::").map_or(module, |(_, rest)| rest);
    let backend = module.split("::").next().unwrap_or(module);
    let test = format!("{module}::{name}");
    let fleets = ClientFleets::new(service_registry::builder);
    for attempt in 1..=ATTEMPTS {
        let history = History::new();
        let _report = Report { history: &history, test: &test };
        let watchdog = Watchdog::start();
        let verdict = bounded(story(&fleets, &history)).await;
        let starved = watchdog.longest();
        // etcd answers in milliseconds, whatever else the machine does.
        let silent = if backend == "etcd" { Duration::ZERO } else { silence(&history) };
        if let Err(violation) = &verdict
            && (starved > STARVED || silent > SILENT)
            && attempt < ATTEMPTS
        {
            println!(
                "{test} is told again, as the machine starved it for {starved:?} and its server for {silent:?}: \
                 {violation}"
            );
            continue;
        }
        history.mark(format!("the machine starved this process for {starved:?} at most"));
        return settle(number, backend, &test, &history, &verdict);
    }
}

/// How long the registry gave no answer to who asks past every fault, outages aside.
fn silence(history: &History) -> Duration {
    let (mut outages, mut since) = (Vec::new(), None);
    let (mut longest, mut last) = (Duration::ZERO, Duration::ZERO);
    let entries = history.entries();
    for entry in &entries {
        match entry.what {
            Observation::Outage(_) => since = since.or(Some(entry.at)),
            Observation::Usable(_) => outages.extend(since.take().map(|since| (since, entry.at))),
            _ => {}
        }
    }
    outages.extend(since.map(|since| (since, Duration::MAX)));
    // A server that was hurt needs a moment afterwards.
    let is_calm =
        |from, to| outages.iter().all(|(begin, end)| to < *begin || from > end.saturating_add(SILENT));
    for entry in entries.iter().filter(|entry| matches!(entry.what, Observation::Truth(_))) {
        if is_calm(last, entry.at) {
            longest = longest.max(entry.at.saturating_sub(last));
        }
        if is_calm(entry.at, entry.until) {
            longest = longest.max(entry.pause);
        }
        last = entry.until.max(entry.at);
    }
    // A world that never stood has no truth to tell.
    let end = history.now();
    if is_calm(last, end) { longest.max(end.saturating_sub(last)) } else { longest }
}

/// A story that ends.
pub(crate) async fn bounded(
    story: impl Future<Output = Result<Figure, Violation>>,
) -> Result<Figure, Violation> {
    timeout(END, story).await.unwrap_or_else(|_| Err(Violation::run(format!("no end after {END:?}"))))
}

/// Saves the history of a story that panics.
struct Report<'a> {
    history: &'a History,
    test: &'a str,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.history.saved_as(self.test));
        }
    }
}

/// Measures how long this process is left without a turn: on a thread that does nothing else, and on the row's own
/// runtime, which a busy machine starves sooner. (A client that blocks the runtime is found all the same: it does so
/// in each attempt.)
struct Watchdog {
    longest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Watchdog {
    fn start() -> Self {
        let watchdog = Self { longest: Arc::new(AtomicU64::new(0)), stop: Arc::new(AtomicBool::new(false)) };
        tokio::spawn(watchdog.measure());
        let beside = watchdog.measure();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.expect("a runtime starts").block_on(beside);
        });
        watchdog
    }

    fn measure(&self) -> impl Future<Output = ()> + Send + 'static {
        const TICK: Duration = Duration::from_millis(20);
        let (longest, stop) = (Arc::clone(&self.longest), Arc::clone(&self.stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let due = Instant::now() + TICK;
                sleep(TICK).await;
                let late = u64::try_from(due.elapsed().as_millis()).unwrap_or(u64::MAX);
                longest.fetch_max(late, Ordering::Relaxed);
            }
        }
    }

    fn longest(&self) -> Duration {
        Duration::from_millis(self.longest.load(Ordering::Relaxed))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
