//! Row 33: leaving under load, told twice, without a registry, and with a stream that doesn't end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use registry_core::{
    Attempt, CallError, Client, Deregistration, Drain, DrainReport, DrainStage, InFlight, Lifecycle,
    MemoryRegistry, Registration, Upstream,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, interval, sleep, timeout},
};

use super::support::{TTL, client_of, figure, instance, millis, secs};

const SERVICE: &str = "orders";
/// How long one request takes.
const WORK: Duration = millis(50);
/// One request each so often: 500 a second.
const EVERY: Duration = millis(2);
/// How late consumers learn of changes here; the memory registry's propagation is 2 s.
const LAG: Duration = millis(1_500);
/// The default budget, and what ending our own tasks may take beyond a cut.
const BUDGET: Duration = secs(25);
const STOP: Duration = secs(1);

/// A process that serves: its port is open until it refuses, and it is gone when its drain is over.
struct Server {
    client: Client,
    registration: Registration,
    in_flight: InFlight,
}

impl Server {
    async fn start(registry: &MemoryRegistry, id: u64) -> Arc<Self> {
        let client = client_of(registry, 33_000 + id).await;
        let registration = client.register(instance(SERVICE, &format!("i{id}"))).await.unwrap();
        let in_flight = client.in_flight();
        Arc::new(Self { client, registration, in_flight })
    }

    async fn answer(&self) -> Result<(), Attempt<&'static str>> {
        if self.in_flight.is_refusing() {
            return Err(Attempt::stop("connection refused"));
        }
        let _request = self.in_flight.enter();
        sleep(WORK).await;
        if self.client.lifecycle() == Lifecycle::Closed {
            Err(Attempt::stop("reset by the exit"))
        } else {
            Ok(())
        }
    }
}

/// Servers that the callers reach by id, as they would by address.
type Fleet = Arc<Mutex<HashMap<String, Arc<Server>>>>;

async fn join(fleet: &Fleet, registry: &MemoryRegistry, id: u64) -> Arc<Server> {
    let server = Server::start(registry, id).await;
    fleet.lock().unwrap().insert(format!("i{id}"), Arc::clone(&server));
    server
}

/// When a call failed, and why.
type Failed = (Instant, String);

/// Requests at a steady rate, none of which is tried twice: each failure is one that a client sees.
struct Load {
    calls: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<Failed>>>,
    task: JoinHandle<()>,
}

impl Load {
    fn start(upstream: &Upstream, fleet: &Fleet) -> Self {
        let (calls, failures) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (upstream, fleet) = (upstream.clone(), Arc::clone(fleet));
        let (called, failed) = (Arc::clone(&calls), Arc::clone(&failures));
        let task = tokio::spawn(async move {
            let mut pace = interval(EVERY);
            loop {
                pace.tick().await;
                let (upstream, fleet) = (upstream.clone(), Arc::clone(&fleet));
                let (called, failed) = (Arc::clone(&called), Arc::clone(&failed));
                tokio::spawn(async move {
                    let result: Result<(), CallError<&str>> = upstream
                        .call(|instance| {
                            let server = Arc::clone(&fleet.lock().unwrap()[instance.id().as_str()]);
                            async move { server.answer().await }
                        })
                        .await;
                    called.fetch_add(1, Ordering::SeqCst);
                    failed
                        .lock()
                        .unwrap()
                        .extend(result.err().map(|error| (Instant::now(), format!("{error:#}"))));
                });
            }
        });
        Self { calls, failures, task }
    }

    /// All calls, and what failed of them.
    async fn finish(self) -> (usize, Vec<Failed>) {
        self.task.abort();
        sleep(10 * WORK).await;
        (self.calls.load(Ordering::SeqCst), self.failures.lock().unwrap().clone())
    }
}

/// Replaces all of `n` servers under load, with this drain and consumers that lag.
async fn rolling_restart(n: u64, drain: Drain) -> (usize, Vec<Failed>, Vec<DrainReport>) {
    let registry = MemoryRegistry::new();
    let fleet = Fleet::default();
    for id in 0..n {
        join(&fleet, &registry, id).await;
    }
    let reader = client_of(&registry, 33).await;
    let upstream = reader.discover(SERVICE).await.unwrap();
    upstream.ready(n as usize).await.unwrap();
    registry.faults().late_events(LAG);
    let load = Load::start(&upstream, &fleet);
    let mut reports = Vec::new();
    for id in 0..n {
        join(&fleet, &registry, n + id).await;
        let old = Arc::clone(&fleet.lock().unwrap()[&format!("i{id}")]);
        reports.push(old.client.drain(drain.clone()).await);
    }
    let (calls, failures) = load.finish().await;
    (calls, failures, reports)
}

#[tokio::test(start_paused = true)]
async fn row_33_a_rolling_restart_under_load_fails_no_request() {
    let (calls, failures, reports) = rolling_restart(5, Drain::default()).await;
    assert!(failures.is_empty(), "X1: {failures:?}");
    assert!(calls > 4_000, "{calls}");
    for report in &reports {
        assert!(report.is_clean() && report.elapsed <= BUDGET, "{report:?}");
    }
    let longest = reports.iter().map(|report| report.elapsed).max().unwrap();
    figure(33, "5 of 5 replaced, requests without a failure:", calls);
    figure(33, "longest stop under load", longest);
}

/// The proof that the row can fail, and why propagation is a stage.
#[tokio::test(start_paused = true)]
async fn row_33_without_propagation_consumers_that_lag_are_refused() {
    let (calls, failures, _) = rolling_restart(2, Drain::new().propagate(Duration::ZERO)).await;
    assert!(!failures.is_empty() && failures.len() < calls, "{} of {calls}", failures.len());
    assert!(failures.iter().all(|(_, why)| why.ends_with("connection refused")), "{failures:?}");
}

#[tokio::test(start_paused = true)]
async fn row_33_a_registry_that_is_away_holds_up_no_exit() {
    for hangs in [false, true] {
        let registry = MemoryRegistry::new();
        let fleet = Fleet::default();
        let server = join(&fleet, &registry, 0).await;
        let reader = client_of(&registry, 33).await;
        let upstream = reader.discover(SERVICE).await.unwrap();
        upstream.ready(1).await.unwrap();
        let load = Load::start(&upstream, &fleet);
        sleep(secs(1)).await;
        if hangs {
            registry.faults().hang(true);
        } else {
            registry.faults().unavailable(true);
        }
        let in_flight = server.in_flight.clone();
        let refuses = async move {
            in_flight.refusing().await;
            Instant::now()
        };
        let (report, refused_at) = tokio::join!(server.client.drain(Drain::default()), refuses);
        assert_eq!(report.deregistered, [(server.registration.key(), Deregistration::TtlWillExpire)]);
        assert_eq!((report.in_flight_aborted, report.cut_in), (0, None), "{report:?}");
        assert!(!report.is_clean() && report.elapsed <= secs(7), "{report:?}");
        // Nobody else is left, so a refusal is the truth; but not before.
        let (calls, failures) = load.finish().await;
        assert!(failures.iter().all(|(at, _)| *at >= refused_at), "X1, hangs: {hangs}, {failures:?}");
        assert!(calls - failures.len() > 2_000, "{calls}");
        registry.faults().heal();
        sleep(TTL + secs(1)).await;
        assert!(registry.snapshot_of(SERVICE).is_empty(), "the record expires by itself");
        figure(33, "stop without a registry", report.elapsed);
    }
}

/// A request whose body never ends, and a background task that doesn't either; `heeds` the notice before the end.
fn endless(server: &Server, heeds: bool) -> JoinHandle<()> {
    let (stream, task) = (server.in_flight.clone(), server.in_flight.clone());
    server.in_flight.spawn("endless", async move {
        if heeds {
            task.ending().await;
        } else {
            std::future::pending::<()>().await;
        }
    });
    tokio::spawn(async move {
        let _request = stream.enter();
        if heeds {
            stream.ending().await;
        } else {
            std::future::pending::<()>().await;
        }
    })
}

#[tokio::test(start_paused = true)]
async fn row_33_an_endless_stream_is_told_and_then_dropped_at_the_end_of_the_budget() {
    for heeds in [true, false] {
        let registry = MemoryRegistry::new();
        let server = Server::start(&registry, 0).await;
        let stream = endless(&server, heeds);
        tokio::task::yield_now().await;
        let report = server.client.drain(Drain::default()).await;
        assert!(report.elapsed <= BUDGET, "{report:?}");
        assert_eq!(report.is_clean(), heeds, "{report:?}");
        let left = usize::from(!heeds);
        assert_eq!((report.in_flight_aborted, report.tasks_aborted), (left, left));
        assert_eq!(report.cut_in, (!heeds).then_some(DrainStage::Wait));
        assert_eq!(stream.is_finished(), heeds);
        figure(
            33,
            if heeds { "stop with a stream that heeds" } else { "stop with an endless stream" },
            report.elapsed,
        );
    }
}

#[tokio::test(start_paused = true)]
async fn row_33_a_second_term_ends_it_at_once_in_every_stage_whatever_else_is_wrong() {
    let mut cut_in = Vec::new();
    for cut_after in [0, 200, 1_000, 3_600, 5_400, 6_000, 12_000, 23_900].map(millis) {
        let registry = MemoryRegistry::new();
        let fleet = Fleet::default();
        let server = join(&fleet, &registry, 0).await;
        let reader = client_of(&registry, 33).await;
        let upstream = reader.discover(SERVICE).await.unwrap();
        upstream.ready(1).await.unwrap();
        let load = Load::start(&upstream, &fleet);
        let stream = endless(&server, false);
        sleep(secs(1)).await;
        registry.faults().hang(true);
        let started = Instant::now();
        let hangs = || async { std::future::pending().await };
        let draining = server.client.drain(Drain::new().on_announce(hangs).on_refuse(hangs));
        tokio::pin!(draining);
        assert!(timeout(cut_after, &mut draining).await.is_err(), "over before {cut_after:?}");
        server.client.cut_drain();
        let report = draining.await;
        let took = started.elapsed();
        assert!(took <= cut_after + STOP, "{took:?}, cut after {cut_after:?}");
        assert!(took <= BUDGET && !report.is_clean(), "{report:?}");
        cut_in.push(report.cut_in.unwrap());
        assert_eq!(report.deregistered.len(), 1, "what is unconfirmed is reported, not forgotten");
        stream.abort();
        load.finish().await;
    }
    assert!(cut_in.is_sorted(), "{cut_in:?}");
    cut_in.dedup();
    use DrainStage::{Announce, Deregister, Propagate, Refuse, Wait};
    assert_eq!(cut_in, [Announce, Deregister, Propagate, Refuse, Wait]);
}
