//! What instances that come, fail and go leave behind: nothing. A program of its own, as descriptors and memory are a
//! process's.
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use registry_core::{Client, ClientConfig, Instance, MemoryRegistry, Registration, ShrinkGuard, Upstream};
use registry_testkit::faults::{History, Observation, Resources, Tolerance, h2_bounded};
use registry_tower::{Balanced, HttpConnect};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tower::ServiceExt;

/// Instances that stay.
const FLEET: usize = 3;
/// Each of those may get a second idle connection, with a task and a descriptor at both ends.
const SPARE: usize = 4 * FLEET;
const PATIENCE: Duration = Duration::from_secs(60);

type Orders = Balanced<HttpConnect<Empty<Bytes>>>;

/// A server that counts its requests. When it is dropped, its connections are too.
struct Host {
    served: Arc<AtomicUsize>,
    running: JoinHandle<()>,
    registration: Registration,
}

impl Host {
    async fn start(client: &Client, id: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::<AtomicUsize>::default();
        let running = tokio::spawn(serve(listener, Arc::clone(&served)));
        let instance = Instance::builder("orders").id(id).endpoint(endpoint.as_str()).build().unwrap();
        let registration = client.register(instance).await.unwrap();
        Self { served, running, registration }
    }

    async fn kill(&mut self) {
        self.running.abort();
        let _ = (&mut self.running).await;
    }
}

async fn serve(listener: TcpListener, served: Arc<AtomicUsize>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(answer(stream, Arc::clone(&served)));
    }
}

async fn answer(mut stream: TcpStream, served: Arc<AtomicUsize>) {
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        head.extend_from_slice(&chunk[..read]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            served.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }
}

/// One request; it may fail, as servers die.
async fn request(orders: &Orders) {
    let request = Request::builder().uri("http://orders/").body(Empty::new()).unwrap();
    if let Ok(answer) = orders.clone().oneshot(request).await {
        let _ = answer.into_body().collect().await;
    }
}

/// Tries again as soon as everybody else had a turn: pauses between so many short waits would be most of the time.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let trying = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, trying).await.is_ok(), "{what}: not within {PATIENCE:?}");
}

/// An instance joins, serves, dies, is ejected, and leaves.
async fn cycle(client: &Client, upstream: &Upstream, orders: &Orders, id: &str) {
    let mut host = Host::start(client, id).await;
    until("it serves", async || {
        request(orders).await;
        host.served.load(Ordering::SeqCst) > 0
    })
    .await;
    host.kill().await;
    let key = host.registration.instance().key();
    until("it is ejected", async || {
        request(orders).await;
        upstream.snapshot().is_ejected(&key)
    })
    .await;
    host.registration.deregister().await;
    until("it is gone", async || upstream.snapshot().len() == FLEET).await;
    request(orders).await;
}

/// What so many cycles leave behind, each with what `leak` plants.
async fn cycles(count: usize, leak: impl Fn()) -> History {
    const WARM: usize = 20;
    let mut config = ClientConfig::default();
    // Who leaves leaves at once.
    config.shrink_guard = ShrinkGuard::Off;
    let registry = MemoryRegistry::new();
    let client = Client::builder().config(config).backend(registry.backend()).build().await.unwrap();
    let mut fleet = Vec::new();
    for n in 0..FLEET {
        fleet.push(Host::start(&client, &format!("i{n}")).await);
    }
    let upstream = client.discover("orders").await.unwrap();
    upstream.ready(FLEET).await.unwrap();
    let orders = Balanced::new(upstream.clone(), HttpConnect::new());
    let history = History::new();
    for n in 0..WARM + count {
        if n == WARM {
            history.record(Observation::Resources(Resources::settled(Duration::from_secs(10)).await));
        }
        cycle(&client, &upstream, &orders, &format!("k{n}")).await;
        leak();
    }
    history.record(Observation::Resources(Resources::settled(Duration::from_secs(10)).await));
    for host in &mut fleet {
        host.kill().await;
    }
    client.close().await;
    history
}

#[tokio::test]
async fn instances_that_come_fail_and_go_leave_no_connection_behind() {
    let tolerance = Tolerance { tasks: SPARE, descriptors: SPARE, ..Tolerance::default() };
    let clean = cycles(300, || {}).await;
    println!("{:?}", h2_bounded(&clean, tolerance).unwrap());
    // The measure would find a socket per cycle that stays open.
    #[expect(clippy::mem_forget, reason = "a leak is what is to be found")]
    let leaky = cycles(30, || std::mem::forget(std::net::TcpListener::bind("127.0.0.1:0").unwrap())).await;
    let found = h2_bounded(&leaky, tolerance).unwrap_err().to_string();
    assert!(found.contains("descriptors after"), "{found}");
}
