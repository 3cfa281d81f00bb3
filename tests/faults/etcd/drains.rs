//! Row 33: real processes that are asked to leave by real signals, under load and while etcd is dead.

use std::time::Duration;

use registry_testkit::{Etcd, Process, eventually, faults::figure};
use service_registry::Upstream;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::Instant,
};

use super::{
    serving::{BUDGET, Load, Repeats, STREAM, address, child, discover, play_the_child},
    world::{BACK_WITHIN, SLACK},
};

/// Sends SIGTERM; how long the process then took to end.
async fn leave(child: &Process) -> Duration {
    let asked = Instant::now();
    child.terminate(BUDGET + SLACK).await.expect("it ends by its budget");
    asked.elapsed()
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
    let load = Load::start(&upstream, Repeats::Never);
    let mut longest = Duration::ZERO;
    for id in ["d", "e", "f"] {
        children.push(child(&etcd, id).await);
        let old = children.remove(0);
        longest = longest.max(leave(&old).await);
        assert!(old.output().contains("clean true"), "{}", old.output());
    }
    let (calls, failures, _) = load.stop().await;
    assert!(failures == 0 && calls > 500, "X1: {failures} of {calls}");
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
    let load = Load::start(&upstream, Repeats::Refused);
    etcd.kill().await.unwrap();
    let before = load.calls();
    let asked = Instant::now();
    let took = leave(&leaving).await;
    let streamed = stream.await.unwrap() - asked;
    // It is still in everybody's view, as nobody could be told: the refused connections are made again elsewhere.
    let (calls, failures, _) = load.stop().await;
    assert!(failures == 0 && calls - before > 100, "X1: {failures} of {calls}");
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
    let load = Load::start(&upstream, Repeats::Refused);
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
    let (calls, failures, _) = load.stop().await;
    assert!(failures <= 20, "{failures} of {calls}");
    drop(staying);
    figure(33, "etcd", "stop at the second signal", took);
}
