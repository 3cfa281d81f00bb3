//! R2: keeping 1,000 registrations alive.

use std::{fs, time::Duration};

use futures_util::future::try_join_all;
use registry_bench_support::Bound;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::stage::{Stage, instance};

const COUNT: usize = 1_000;
const WINDOW: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

pub(crate) async fn measure() -> Vec<Bound> {
    let stage = Stage::start("R2, 1,000 registrations kept alive").await;
    // The bound is for one renewal per process in ten seconds; the default of 15 s renews twice as often.
    let (slow, _) = keep(&stage, "?ttl=30s").await;
    let (usual, per_renewal) = keep(&stage, "").await;
    let cpu = "client CPU per renewal of 1,000, audit included";
    vec![
        Bound::at_most("R2", "renewals of 1,000, time to live 30 s", slow, 0.2, "RPC/s"),
        Bound::at_most("R2", "renewals of 1,000, time to live 15 s (default)", usual, 0.2, "RPC/s").report(),
        Bound::at_most("R2", cpu, per_renewal, 5.0, "ms").report(),
    ]
}

/// Renewals per second, and ms of processor time per renewal.
async fn keep(stage: &Stage, options: &str) -> (f64, f64) {
    let client = stage.client_with(options).await;
    let registrations =
        try_join_all((0..COUNT).map(|number| client.register(instance(number)))).await.unwrap();
    // From just after one renewal on, so that the count isn't off by one.
    let first = Calls::of(stage).await;
    while Calls::of(stage).await.renewals == first.renewals {
        sleep(POLL).await;
    }
    let (before, cpu) = (Calls::of(stage).await, cpu_time());
    sleep(WINDOW).await;
    let (after, cpu) = (Calls::of(stage).await, cpu_time() - cpu);
    assert!(registrations.iter().all(|registration| registration.phase() == registry_core::Phase::Live));
    client.close().await;

    let (renewals, others) = (after.renewals - before.renewals, after.others - before.others);
    println!("{options:?}: {renewals} renewals, {others} other calls, client CPU {cpu:.2?} in {WINDOW:?}");
    (renewals as f64 / WINDOW.as_secs_f64(), cpu.as_secs_f64() * 1e3 / renewals.max(1) as f64)
}

/// What the server counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls {
    /// Messages on keep-alive streams.
    pub(crate) renewals: u64,
    /// Calls and messages of any other kind, without those that asked for this.
    pub(crate) others: u64,
}

impl Calls {
    pub(crate) async fn of(stage: &Stage) -> Self {
        let page = metrics(stage).await;
        let mut calls = Self { renewals: 0, others: 0 };
        for line in page.lines().filter(|line| line.starts_with("grpc_server_msg_received_total{")) {
            let count = line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok()).unwrap() as u64;
            if line.contains("\"LeaseKeepAlive\"") {
                calls.renewals += count;
            } else {
                calls.others += count;
            }
        }
        assert!(calls.renewals + calls.others > 0, "the server counts its messages: {page}");
        calls
    }
}

/// HTTP/1.0, so that the answer ends with the connection and comes in one piece.
async fn metrics(stage: &Stage) -> String {
    let mut connection = TcpStream::connect(stage.address()).await.unwrap();
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut page = String::new();
    connection.read_to_string(&mut page).await.unwrap();
    page
}

/// The processor time of all threads of this process, where the system tells; threads that have ended are missing.
pub(crate) fn cpu_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}
