//! Row 33: real processes that are asked to leave by real signals, under load and while etcd is dead. Each is this test
//! binary, started once more.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use registry_testkit::{Etcd, Process, ProcessBuilder, eventually, faults::figure};
use service_registry::{Attempt, CallOptions, Drain, InFlight, Instance, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, interval, sleep},
};

use super::world::{BACK_WITHIN, SERVICE, SLACK, url};

/// The URL for a child; whoever finds it plays the child.
const URL: &str = "FAULTS_DRAIN_CHILD";
const ID: &str = "FAULTS_DRAIN_CHILD_ID";
/// The shortest that leaves a second for propagation.
const BUDGET: Duration = Duration::from_secs(6);
const PROPAGATE: Duration = Duration::from_secs(1);
/// How long one request takes.
const WORK: Duration = Duration::from_millis(20);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// One request each so often.
const EVERY: Duration = Duration::from_millis(5);
const REQUEST: u8 = b'r';
const STREAM: u8 = b's';

/// The child's part: serves, registers, and leaves on SIGTERM.
async fn play_the_child() -> bool {
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

async fn child(etcd: &Etcd, id: &str) -> Process {
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

/// Sends SIGTERM; how long the process then took to end.
async fn leave(child: &Process) -> Duration {
    let asked = Instant::now();
    child.terminate(BUDGET + SLACK).await.expect("it ends by its budget");
    asked.elapsed()
}

async fn discover(etcd: &Etcd, n: usize) -> Upstream {
    let client = service_registry::builder().url(&url(&[etcd.address()])).build().await.unwrap();
    let upstream = client.discover(SERVICE).await.unwrap();
    upstream.ready_within(n, BACK_WITHIN).await.unwrap();
    upstream
}

/// Requests at a steady rate.
struct Load {
    calls: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Load {
    /// Whether a request whose connection is refused is tried elsewhere; one that broke off never is.
    fn start(upstream: &Upstream, retries: bool) -> Self {
        let (calls, failures) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (upstream, called, failed) = (upstream.clone(), Arc::clone(&calls), Arc::clone(&failures));
        let task = tokio::spawn(async move {
            let mut pace = interval(EVERY);
            loop {
                pace.tick().await;
                let (upstream, called, failed) = (upstream.clone(), Arc::clone(&called), Arc::clone(&failed));
                tokio::spawn(async move {
                    let options = CallOptions::new().per_try_timeout(ATTEMPT);
                    let attempt = async |address: SocketAddr| {
                        let mut connection =
                            TcpStream::connect(address).await.map_err(|error| match retries {
                                true => Attempt::retry(error),
                                false => Attempt::stop(error),
                            })?;
                        connection.write_u8(REQUEST).await.map_err(Attempt::stop)?;
                        connection.read_u8().await.map_err(Attempt::stop)
                    };
                    let result = upstream.call_with(&options, |i| attempt(address(&i))).await;
                    called.fetch_add(1, Ordering::SeqCst);
                    failed.lock().unwrap().extend(result.err().map(|error| format!("{error:#}")));
                });
            }
        });
        Self { calls, failures, task }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many calls there were; none may have failed.
    async fn finish(self) -> usize {
        self.task.abort();
        sleep(ATTEMPT).await;
        let failures = self.failures.lock().unwrap().clone();
        assert!(
            failures.is_empty(),
            "X1: {} of {} failed: {:?}",
            failures.len(),
            self.calls(),
            failures.first()
        );
        self.calls()
    }
}

fn address(instance: &Instance) -> SocketAddr {
    instance.endpoint().authority().to_string().parse().expect("an address of this machine")
}

/// A stream from one of the processes, read until it breaks off.
async fn stream_of(upstream: &Upstream, id: &str) -> JoinHandle<Instant> {
    let snapshot = upstream.snapshot();
    let instance = snapshot.iter().find(|instance| instance.id().as_str() == id).expect("it is known");
    let mut connection = TcpStream::connect(address(instance)).await.unwrap();
    connection.write_u8(STREAM).await.unwrap();
    connection.read_u8().await.unwrap();
    tokio::spawn(async move {
        let mut last = Instant::now();
        while connection.read_u8().await.is_ok() {
            last = Instant::now();
        }
        last
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: cargo xtask servers"]
async fn row_33_terminated_processes_under_load_fail_no_request() {
    if play_the_child().await {
        return;
    }
    let etcd = Etcd::start().await.unwrap();
    let mut children = vec![child(&etcd, "a").await, child(&etcd, "b").await, child(&etcd, "c").await];
    let upstream = discover(&etcd, 3).await;
    // Nothing is tried twice: whoever is refused was sent to a process that was leaving.
    let load = Load::start(&upstream, false);
    let mut longest = Duration::ZERO;
    for id in ["d", "e", "f"] {
        children.push(child(&etcd, id).await);
        let old = children.remove(0);
        longest = longest.max(leave(&old).await);
        assert!(old.output().contains("clean true"), "{}", old.output());
    }
    let calls = load.finish().await;
    assert!(calls > 500, "{calls}");
    figure(33, "etcd", "3 of 3 processes replaced, requests without a failure:", calls);
    figure(33, "etcd", "longest stop under load", longest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: cargo xtask servers"]
async fn row_33_a_process_leaves_under_load_by_its_budget_with_etcd_dead_and_an_endless_stream() {
    let etcd = Etcd::start().await.unwrap();
    // Two that stay: a third of the calls has to be made again for a while, within the retry budget.
    let (leaving, staying) = (child(&etcd, "a").await, [child(&etcd, "b").await, child(&etcd, "c").await]);
    let upstream = discover(&etcd, 3).await;
    let stream = stream_of(&upstream, "a").await;
    let load = Load::start(&upstream, true);
    etcd.kill().await.unwrap();
    let before = load.calls();
    let asked = Instant::now();
    let took = leave(&leaving).await;
    let streamed = stream.await.unwrap() - asked;
    // It is still in everybody's view, as nobody could be told: the refused connections are made again elsewhere.
    let calls = load.finish().await - before;
    assert!(calls > 100, "{calls}");
    assert!(leaving.output().contains("clean false, aborted 1, cut in Some(Wait)"), "{}", leaving.output());
    assert!(took <= BUDGET + SLACK, "{took:?}");
    assert!(streamed >= BUDGET - Duration::from_secs(2), "the stream was dropped early: {streamed:?}");
    drop(staying);
    figure(33, "etcd", "stop with etcd dead and an endless stream", took);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: cargo xtask servers"]
async fn row_33_a_second_term_ends_a_process_at_once() {
    let etcd = Etcd::start().await.unwrap();
    let (leaving, staying) = (child(&etcd, "a").await, child(&etcd, "b").await);
    let upstream = discover(&etcd, 2).await;
    let stream = stream_of(&upstream, "a").await;
    let load = Load::start(&upstream, true);
    // Asks only; nobody expects the process to be gone at once.
    leaving.terminate(Duration::ZERO).await.unwrap_err();
    let gone = || upstream.snapshot().iter().all(|instance| instance.id().as_str() != "a");
    eventually("the first signal takes it out of the view", BACK_WITHIN, async || gone().then_some(()))
        .await
        .unwrap();
    assert!(leaving.is_running(), "the stream keeps it");
    let took = leave(&leaving).await;
    assert!(took <= Duration::from_secs(1) + SLACK, "{took:?}");
    assert!(leaving.output().contains("clean false, aborted "), "{}", leaving.output());
    stream.await.unwrap();
    // Requests it had in flight broke off, at most as many as there are at a time; nothing else failed.
    load.task.abort();
    sleep(ATTEMPT).await;
    let failures = load.failures.lock().unwrap().len();
    assert!(failures <= 20, "{failures} of {}", load.calls());
    drop(staying);
    figure(33, "etcd", "stop at the second signal", took);
}
