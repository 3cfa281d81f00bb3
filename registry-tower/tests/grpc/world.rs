//! Servers, each in a runtime of its own so that it can be killed; a registry; and what is seen of both.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use registry_core::{Client, Discover, Instance, MemoryRegistry, Registration, Target, Upstream};
use registry_testkit::{Ledger, eventually};
use registry_tower::tonic::GrpcServer;
use tokio::{net::TcpListener, runtime::Runtime, sync::Semaphore, task::JoinHandle};
use tonic::{Code, Request, Status};

use crate::greeter::{Greeter, GreeterServer, HelloReply, HelloRequest};

/// Long enough for anything that happens at all.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// How long the answer to `large` is, in bytes: more than the system buffers.
pub(crate) const LARGE: usize = 24 << 20;

/// A greeter that does what the name it is to greet says.
pub(crate) struct Obedient {
    id: String,
    pub(crate) calls: AtomicUsize,
    /// `wait` waits for a permit.
    pub(crate) gate: Semaphore,
    is_sick: AtomicBool,
}

impl Obedient {
    pub(crate) fn new(id: impl Into<String>) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            calls: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            is_sick: AtomicBool::new(false),
        })
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Whatever it is asked, it fails.
    pub(crate) fn be_sick(&self, is_sick: bool) {
        self.is_sick.store(is_sick, Ordering::SeqCst);
    }

    fn reply(&self, name: &str) -> HelloReply {
        HelloReply { message: format!("Hello {name}!"), instance: self.id.clone() }
    }

    /// Waits until someone waits for a permit.
    pub(crate) async fn called(&self, times: usize) {
        eventually("a call", SOON, async || (self.calls() >= times).then_some(())).await.unwrap();
    }
}

impl Greeter for Arc<Obedient> {
    async fn say_hello(&self, name: String) -> Result<HelloReply, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.is_sick.load(Ordering::SeqCst) {
            return Err(Status::internal("sick"));
        }
        match name.split_once(' ').unwrap_or((&name, "")) {
            // All of them wait, or the one that is named.
            ("wait", id) if id.is_empty() || self.id == id => self.gate.acquire().await.unwrap().forget(),
            ("fail", code) => return Err(Status::new(code_called(code), "as told")),
            ("large", _) => {
                return Ok(HelloReply { message: ".".repeat(LARGE), instance: self.id.clone() });
            }
            // One of them fails, for tests that want the others to answer.
            ("unless", id) if self.id == id => return Err(Status::unavailable("as told")),
            _ => {}
        }
        Ok(self.reply(&name))
    }

    /// One reply at once, one for each permit, and the end that the name says.
    fn say_hellos(&self, name: String) -> impl Stream<Item = Result<HelloReply, Status>> + Send + 'static {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let greeter = Arc::clone(self);
        let first = stream::iter([Ok(self.reply(&name))]);
        let end = stream::once(async move {
            greeter.gate.acquire().await.unwrap().forget();
            match name.strip_prefix("fail ") {
                Some(code) => Err(Status::new(code_called(code), "as told")),
                None => Ok(greeter.reply(&name)),
            }
        });
        first.chain(end)
    }
}

fn code_called(name: &str) -> Code {
    [Code::NotFound, Code::Internal, Code::Unavailable, Code::ResourceExhausted, Code::DeadlineExceeded]
        .into_iter()
        .find(|code| format!("{code:?}") == name)
        .unwrap()
}

pub(crate) fn hello(name: &str) -> Request<HelloRequest> {
    Request::new(HelloRequest { name: name.to_owned() })
}

/// One server: a process, but for the process.
pub(crate) struct Node {
    pub(crate) greeter: Arc<Obedient>,
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    pub(crate) serving: JoinHandle<Result<(), tonic::transport::Error>>,
    _registration: Registration,
    runtime: Option<Runtime>,
}

impl Node {
    pub(crate) async fn start(registry: &MemoryRegistry, id: &str) -> Self {
        Self::start_with(registry, id, "grpc", |server| server).await
    }

    pub(crate) async fn start_with(
        registry: &MemoryRegistry,
        id: &str,
        scheme: &'static str,
        configure: impl FnOnce(GrpcServer) -> GrpcServer + Send + 'static,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (registry, id) = (registry.clone(), id.to_owned());
        let greeter = Obedient::new(&*id);
        let service = GreeterServer::new(Arc::clone(&greeter));
        let started = runtime.spawn(async move {
            let client = Client::from_backend(registry.backend()).await.unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = configure(GrpcServer::new(&client).add_service(service));
            let serving = tokio::spawn(server.serve(listener));
            let builder = Instance::builder("greeter").id(id).socket_addr(scheme, address);
            let registration = client.register(builder.build().unwrap()).await.unwrap();
            (client, address, serving, registration)
        });
        let (client, address, serving, registration) = started.await.unwrap();
        Self { greeter, client, address, serving, _registration: registration, runtime: Some(runtime) }
    }

    /// Holds up everything it does, until the result is dropped.
    pub(crate) async fn stall(&self) -> std::sync::mpsc::Sender<()> {
        let (release, released) = std::sync::mpsc::channel();
        let (begin, begun) = tokio::sync::oneshot::channel();
        // Its only worker sits here.
        self.runtime.as_ref().unwrap().spawn(async move {
            begin.send(()).unwrap();
            let _ended = released.recv();
        });
        begun.await.unwrap();
        release
    }

    /// Ends everything at once: connections are reset, nothing is told to anybody.
    pub(crate) fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Some servers and a client that finds them.
pub(crate) struct World {
    pub(crate) registry: MemoryRegistry,
    pub(crate) nodes: Vec<Node>,
    pub(crate) client: Client,
}

impl World {
    pub(crate) async fn of(nodes: usize) -> Self {
        let registry = MemoryRegistry::new();
        let mut world = Self {
            nodes: Vec::new(),
            client: Client::from_backend(registry.backend()).await.unwrap(),
            registry,
        };
        for id in 0..nodes {
            world.nodes.push(Node::start(&world.registry, &format!("n{id}")).await);
        }
        world
    }

    pub(crate) async fn upstream(&self) -> Upstream {
        let upstream = self.client.discover("greeter").await.unwrap();
        upstream.ready_within(self.nodes.len(), SOON).await.unwrap();
        upstream
    }

    /// One whose picks are written down.
    pub(crate) async fn observed(&self) -> (Upstream, Arc<Ledger>) {
        let (balance, ledger) = Ledger::balance();
        let discover = Discover::new(Target::try_from("greeter").unwrap()).balance(balance);
        let upstream = self.client.discover_with(discover).await.unwrap();
        upstream.ready_within(self.nodes.len(), SOON).await.unwrap();
        (upstream, ledger)
    }

    /// How many calls each node got.
    pub(crate) fn calls(&self) -> BTreeMap<SocketAddr, usize> {
        self.nodes.iter().map(|node| (node.address, node.greeter.calls())).collect()
    }
}
