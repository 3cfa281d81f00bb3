//! Processes that serve, and callers that keep calling them. Each process is this test binary, started once more.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use registry_testkit::{Etcd, Process, ProcessBuilder, eventually};
use service_registry::{Attempt, CallOptions, Drain, InFlight, Instance, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, interval, sleep},
};

use super::world::{BACK_WITHIN, SERVICE, url};

/// The URL for a child; whoever finds it plays the child.
const URL: &str = "FAULTS_SERVING_CHILD";
const ID: &str = "FAULTS_SERVING_CHILD_ID";
/// The shortest that leaves a second for propagation.
pub(crate) const BUDGET: Duration = Duration::from_secs(6);
const PROPAGATE: Duration = Duration::from_secs(1);
/// How long one request takes.
const WORK: Duration = Duration::from_millis(20);
/// How long one attempt may take.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(2);
/// One request each so often.
const EVERY: Duration = Duration::from_millis(5);
const REQUEST: u8 = b'r';
pub(crate) const STREAM: u8 = b's';

/// The child's part: serves, registers, and leaves on SIGTERM.
pub(crate) async fn play_the_child() -> bool {
    let Ok(url) = std::env::var(URL) else { return false };
    let id = std::env::var(ID).expect("the child has an id");
    let client = service_registry::builder().url(&url).build().await.expect("the child opens");
    let leaving = client.drain_on_signal(Drain::new().budget(BUDGET).propagate(PROPAGATE)).expect("handlers");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let instance = Instance::from_listener(SERVICE, &listener).and_then(|i| i.to_builder().id(&*id).build());
    tokio::spawn(serve(listener, client.in_flight()));
    let _registration = client.register(instance.expect("an instance")).await.expect("the child registers");
    println!("child: registered");
    let report = leaving.await;
    println!(
        "child: left in {} ms, clean {}, aborted {}, cut in {:?}",
        report.elapsed.as_millis(),
        report.is_clean(),
        report.in_flight_aborted,
        report.cut_in
    );
    true
}

/// Takes requests until it is to refuse: then the port is closed, and what has begun goes on.
async fn serve(listener: TcpListener, in_flight: InFlight) {
    loop {
        let connection = tokio::select! {
            accepted = listener.accept() => accepted.expect("a connection").0,
            () = in_flight.refusing() => break,
        };
        tokio::spawn(answer(connection, in_flight.clone()));
    }
    // What the kernel has taken in already is still answered.
    while let Ok(Ok((connection, _))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
        tokio::spawn(answer(connection, in_flight.clone()));
    }
}

async fn answer(mut connection: TcpStream, in_flight: InFlight) {
    let _request = in_flight.enter();
    let what = connection.read_u8().await;
    // A stream that heeds nobody: it ends with its reader, or with the process.
    while matches!(what, Ok(STREAM)) && connection.write_all(b".").await.is_ok() {
        sleep(WORK).await;
    }
    sleep(WORK).await;
    // A caller that has gone away is its own affair.
    drop(connection.write_all(b"!").await);
}

pub(crate) async fn child(etcd: &Etcd, id: &str) -> Process {
    let this = std::env::current_exe().expect("this test's own program");
    let test = "etcd::drains::row_33_terminated_processes_under_load_fail_no_request";
    let child = ProcessBuilder::new(id, this)
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(URL, url(&[etcd.address()]))
        .env(ID, id)
        .spawn();
    let child = child.await.expect("a child");
    says(&child, "child: registered").await;
    child
}

async fn says(child: &Process, what: &str) {
    let said = eventually(what, 2 * BACK_WITHIN, async || child.output().contains(what).then_some(()));
    said.await.unwrap_or_else(|error| panic!("{error}; it said: {}", child.output()));
}

pub(crate) async fn discover(etcd: &Etcd, n: usize) -> Upstream {
    let client = service_registry::builder().url(&url(&[etcd.address()])).build().await.unwrap();
    let upstream = client.discover(SERVICE).await.unwrap();
    upstream.ready_within(n, BACK_WITHIN).await.unwrap();
    upstream
}

/// Which requests are made again elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// None: each failure is seen.
    Never,
    /// Those whose connection is refused; what broke off may have been processed.
    Refused,
    /// All, and those that aren't answered in this time.
    All(Duration),
}

/// Requests at a steady rate.
pub(crate) struct Load {
    counts: Arc<Mutex<Counts>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    calls: usize,
    failures: Vec<String>,
    longest: Duration,
    /// Attempts by instance.
    attempts: HashMap<String, usize>,
}

impl Load {
    pub(crate) fn start(upstream: &Upstream, repeats: Repeats) -> Self {
        let counts = Arc::<Mutex<Counts>>::default();
        let (upstream, counted) = (upstream.clone(), Arc::clone(&counts));
        let task = tokio::spawn(async move {
            let mut pace = interval(EVERY);
            loop {
                pace.tick().await;
                tokio::spawn(call(upstream.clone(), repeats, Arc::clone(&counted)));
            }
        });
        Self { counts, task }
    }

    pub(crate) fn calls(&self) -> usize {
        self.counts.lock().unwrap().calls
    }

    /// How many attempts were made on this instance.
    pub(crate) fn attempts_on(&self, id: &str) -> usize {
        self.counts.lock().unwrap().attempts.get(id).copied().unwrap_or_default()
    }

    /// Stops, and waits for the last one: how many there were, how many failed, and how long the longest took.
    pub(crate) async fn stop(self) -> (usize, usize, Duration) {
        self.task.abort();
        sleep(ATTEMPT).await;
        let counts = self.counts.lock().unwrap();
        counts.failures.iter().take(3).for_each(|failure| println!("failed: {failure}"));
        (counts.calls, counts.failures.len(), counts.longest)
    }
}

async fn call(upstream: Upstream, repeats: Repeats, counts: Arc<Mutex<Counts>>) {
    let options = match repeats {
        Repeats::All(within) => CallOptions::new().per_try_timeout(within).idempotent(true),
        Repeats::Never | Repeats::Refused => CallOptions::new().per_try_timeout(ATTEMPT),
    };
    let all = matches!(repeats, Repeats::All(_));
    let sort = |error, again: bool| if again { Attempt::retry(error) } else { Attempt::stop(error) };
    let began = Instant::now();
    let result = upstream
        .call_with(&options, async |instance: Arc<Instance>| {
            *counts.lock().unwrap().attempts.entry(instance.id().to_string()).or_default() += 1;
            let connected = TcpStream::connect(address(&instance)).await;
            let mut connection = connected.map_err(|error| sort(error, repeats != Repeats::Never))?;
            connection.write_u8(REQUEST).await.map_err(|error| sort(error, all))?;
            connection.read_u8().await.map_err(|error| sort(error, all))
        })
        .await;
    let mut counts = counts.lock().unwrap();
    counts.calls += 1;
    counts.longest = counts.longest.max(began.elapsed());
    counts.failures.extend(result.err().map(|error| format!("{error:#}")));
}

pub(crate) fn address(instance: &Instance) -> SocketAddr {
    instance.endpoint().authority().to_string().parse().expect("an address of this machine")
}
