//! How a server leaves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt;
use http::Request;
use registry_core::{Client, Drain, DrainReport, MemoryRegistry};
use registry_testkit::eventually;
use registry_tower::tonic::GrpcServer;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::PollSemaphore;
use tonic::{Code, body::Body, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{Service, layer::layer_fn};

use crate::{
    greeter::GreeterClient,
    world::{Node, SOON, World, hello},
};

const PROPAGATE: Duration = Duration::from_millis(300);

/// For what has to happen before new work is refused.
const LONG: Duration = Duration::from_secs(3);

fn drain(node: &Node) -> JoinHandle<DrainReport> {
    drain_after(node, PROPAGATE)
}

pub(crate) fn drain_after(node: &Node, propagate: Duration) -> JoinHandle<DrainReport> {
    let client = node.client.clone();
    tokio::spawn(async move { client.drain(Drain::default().propagate(propagate)).await })
}

async fn channel(node: &Node) -> Channel {
    Channel::from_shared(format!("http://{}", node.address)).unwrap().connect().await.unwrap()
}

async fn health(client: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.to_owned() };
    client.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn the_health_is_told_when_the_server_leaves_and_while_it_still_serves() {
    let mut world = World::of(1).await;
    let node = &mut world.nodes[0];
    let channel = channel(node).await;
    let mut client = HealthClient::new(channel.clone());
    assert_eq!(health(&mut client, "").await, ServingStatus::Serving);
    assert_eq!(health(&mut client, "greeter.Greeter").await, ServingStatus::Serving);
    let request = HealthCheckRequest { service: "greeter.Greeter".to_owned() };
    let mut news = client.watch(request).await.unwrap().into_inner();
    assert_eq!(news.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let draining = drain_after(node, LONG);
    assert_eq!(news.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(!node.client.in_flight().is_refusing());
    assert_eq!(health(&mut client, "").await, ServingStatus::NotServing);
    GreeterClient::new(channel).say_hello(hello("you")).await.unwrap();

    assert!(news.message().await.unwrap().is_none(), "who watches must not hold up the drain");
    let report = draining.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(report.elapsed < LONG + Duration::from_secs(5), "{report:?}");
    timeout(SOON, &mut node.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn nobody_says_that_a_leaving_server_is_well() {
    let registry = MemoryRegistry::new();
    let (tell, told) = std::sync::mpsc::channel();
    let configure = move |server: GrpcServer| {
        tell.send(server.health()).unwrap();
        server
    };
    let node = Node::start_with(&registry, "n0", "grpc", configure).await;
    let reporter = told.recv().unwrap();
    let mut client = HealthClient::new(channel(&node).await);
    let mut news = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(news.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    let draining = drain_after(&node, LONG);
    assert_eq!(news.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    assert_eq!(health(&mut client, "").await, ServingStatus::NotServing);
    assert!(news.message().await.unwrap().is_none());
    assert!(draining.await.unwrap().is_clean());
}

#[tokio::test]
async fn a_call_in_flight_is_finished() {
    let mut world = World::of(1).await;
    let node = &mut world.nodes[0];
    let mut client = GreeterClient::new(channel(node).await);
    let call = tokio::spawn(async move { client.say_hello(hello("wait")).await });
    node.greeter.called(1).await;
    let draining = drain(node);
    node.client.in_flight().refusing().await;
    sleep(PROPAGATE).await;
    assert!(!draining.is_finished());
    node.greeter.gate.add_permits(1);
    call.await.unwrap().unwrap();
    let report = draining.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    timeout(SOON, &mut node.serving).await.unwrap().unwrap().unwrap();
}

/// Lets calls through when the gate does.
#[derive(Clone)]
struct Gated<S> {
    service: S,
    gate: PollSemaphore,
    waiting: Arc<AtomicUsize>,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Gated<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        ready!(self.gate.poll_acquire(cx)).unwrap().forget();
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.service.call(request)
    }
}

#[tokio::test]
async fn a_call_that_waits_for_a_layer_is_finished() {
    let registry = MemoryRegistry::new();
    let (gate, waiting) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let client = Client::from_backend(registry.backend()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gated = {
        let (gate, waiting) = (PollSemaphore::new(Arc::clone(&gate)), Arc::clone(&waiting));
        move |service| Gated { service, gate: gate.clone(), waiting: Arc::clone(&waiting) }
    };
    let server = GrpcServer::new(&client).configure(|server| server.layer(layer_fn(gated)));
    let serving = tokio::spawn(server.serve(listener));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    let call = tokio::spawn(async move { health.check(HealthCheckRequest::default()).await });
    let waits = async || (waiting.load(Ordering::SeqCst) > 0).then_some(());
    eventually("a call that waits", SOON, waits).await.unwrap();

    let in_flight = client.in_flight();
    assert_eq!(in_flight.requests(), 1);
    let draining =
        tokio::spawn(async move { client.drain(Drain::default().propagate(Duration::ZERO)).await });
    in_flight.refusing().await;
    // Longer than connections get on which nothing goes on.
    sleep(Duration::from_secs(2)).await;
    gate.add_permits(1);
    call.await.unwrap().unwrap();
    assert!(draining.await.unwrap().is_clean());
    timeout(SOON, serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_hangs_does_not_outlive_the_drain() {
    let mut world = World::of(1).await;
    let node = &mut world.nodes[0];
    let mut client = GreeterClient::new(channel(node).await);
    let mut replies = client.say_hellos(hello("you")).await.unwrap().into_inner();
    replies.message().await.unwrap();
    let draining = drain(node);
    node.client.in_flight().refusing().await;
    sleep(PROPAGATE).await;
    assert!((&mut node.serving).now_or_never().is_none());
    // As the end of the budget does, without waiting for it.
    node.client.cut_drain();
    let report = draining.await.unwrap();
    assert_eq!(report.in_flight_aborted, 1, "{report:?}");
    timeout(SOON, &mut node.serving).await.unwrap().unwrap().unwrap();
    let cut = timeout(SOON, replies.message()).await.unwrap().unwrap_err();
    assert_ne!(cut.code(), Code::Ok);
}

#[tokio::test]
async fn the_listener_is_closed_once_new_work_is_refused() {
    let world = World::of(1).await;
    let node = &world.nodes[0];
    let draining = drain(node);
    node.client.in_flight().refusing().await;
    let refused = async || tokio::net::TcpStream::connect(node.address).await.err();
    eventually("a refused connection", SOON, refused).await.unwrap();
    assert!(draining.await.unwrap().is_clean());
}

#[tokio::test]
async fn a_server_that_runs_registers_and_leaves_with_its_client() {
    let registry = MemoryRegistry::new();
    let client = Client::from_backend(registry.backend()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = GrpcServer::new(&client).register("greeter").drain(Drain::default().propagate(PROPAGATE));
    let running = tokio::spawn(server.run(listener));
    let registered = async || registry.snapshot_of("greeter").first().cloned();
    let instance = eventually("a registration", SOON, registered).await.unwrap();
    assert_eq!(instance.endpoint().to_string(), format!("grpc://{address}"));

    let report = client.drain(Drain::default().propagate(PROPAGATE)).await;
    let told = timeout(SOON, running).await.unwrap().unwrap().unwrap();
    assert!(report.is_clean() && told.is_clean(), "{report:?} {told:?}");
    assert_eq!(told.deregistered, report.deregistered);
}
