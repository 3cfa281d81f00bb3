//! A tonic server that drains with its client.

use std::{convert::Infallible, fmt, future::pending, sync::Arc, time::Duration};

use ::tonic::{
    body::Body,
    server::NamedService,
    service::Routes,
    transport::{self, Server},
};
use http::{Request, Response};
use registry_core::{
    Client, Drain, DrainReport, Error, ErrorKind, InFlight, Instance, InstanceBuilder, RegisterOptions,
    Registration,
};
use tokio::{net::TcpListener, sync::watch, time::sleep};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::{
    Layer,
    layer::util::{Identity, Stack},
};
use tower_service::Service;

use super::{
    counted::CountLayer,
    health::LeavingHealth,
    incoming::{Traffic, connections},
};

/// The health of the server as a whole, in the protocol's words.
const WHOLE: &str = "";
/// How long connections on which nothing goes on may take to close: a round trip for each of the two GOAWAYs.
const GOODBYE: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);

/// A tonic server that leaves together with its [`Client`]: when that drains, the server
///
/// 1. tells `NOT_SERVING` to whoever asks or watches its health, and serves on;
/// 2. once new work is refused, takes the connections that wait, closes the listener and sends each connection a GOAWAY
///    that still permits every stream, and when the peer has heard of it (it answers a ping) another one with the last
///    stream that was taken, as RFC 9113, section 6.8 has it: no call is refused that a client could think was taken;
/// 3. finishes the calls in flight, counted until their trailers: [`Client::drain`] waits for them, and for peers that
///    have yet to read their answers; a connection on which nothing goes on has 1 s to close;
/// 4. cuts what still hangs at the end of the drain's budget.
///
/// The [health service](https://github.com/grpc/grpc/blob/master/doc/health-checking.md) is part of it: the server as
/// a whole, and each added service by its name. Don't add another one.
///
/// ```no_run
/// # use registry_core::{Client, MemoryRegistry};
/// # use registry_tower::tonic::GrpcServer;
/// # use tonic_health::{server::HealthService, pb::health_server::HealthServer};
/// # async fn example(greeter: HealthServer<HealthService>) -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::from_backend(MemoryRegistry::new().backend()).await?;
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:50051").await?;
/// GrpcServer::new(&client).add_service(greeter).register("greeter").run(listener).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[must_use = "a server does nothing until it runs or serves"]
pub struct GrpcServer<L = Stack<CountLayer, Identity>> {
    server: Server<L>,
    client: Client,
    health: HealthReporter,
    names: Vec<&'static str>,
    routes: Routes,
    register: Option<Register>,
    drain: Drain,
}

/// What to register.
#[derive(Clone)]
enum Register {
    /// The listener's address as an instance of this service.
    Listener(String),
    Instance(Box<Instance>),
}

impl GrpcServer {
    /// A server without services but for its health.
    pub fn new(client: &Client) -> Self {
        let health = HealthReporter::new();
        let service = HealthService::from_health_reporter(health.clone());
        let service = HealthServer::new(LeavingHealth { service, in_flight: client.in_flight() });
        Self {
            // The first is the outermost.
            server: Server::builder().layer(CountLayer(client.in_flight())),
            client: client.clone(),
            health,
            names: vec![WHOLE],
            routes: Routes::new(service),
            register: None,
            drain: Drain::default(),
        }
    }
}

impl<L> GrpcServer<L> {
    /// Changes tonic's server: TLS, limits, timeouts, layers. Change the one that is given: another one doesn't count its
    /// calls.
    ///
    /// Calls that wait for such a layer are in flight for the drain, but not yet those that wait for
    /// [`concurrency_limit_per_connection`](Server::concurrency_limit_per_connection), which is tonic's own; others of
    /// the same connection are then.
    pub fn configure<M>(self, configure: impl FnOnce(Server<L>) -> Server<M>) -> GrpcServer<M> {
        let Self { server, client, health, names, routes, register, drain } = self;
        GrpcServer { server: configure(server), client, health, names, routes, register, drain }
    }

    /// Adds a service, which counts as healthy until the server leaves.
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes = self.routes.add_service(service);
        self
    }

    /// Has [`run`](Self::run) register the listener's port as an instance of `service`, with the scheme `grpc`; what
    /// [`Instance::from_listener`] says of addresses holds here too.
    pub fn register(mut self, service: impl Into<String>) -> Self {
        self.register = Some(Register::Listener(service.into()));
        self
    }

    /// Has [`run`](Self::run) register this instance: with a zone, metadata, an address of its own, or `grpcs`.
    pub fn register_instance(mut self, instance: Instance) -> Self {
        self.register = Some(Register::Instance(Box::new(instance)));
        self
    }

    /// How [`run`](Self::run) leaves; within 25 s by default.
    pub fn drain(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// To tell the health of single services while it serves. What it says when the server leaves is no longer changed
    /// by it.
    #[must_use]
    pub fn health(&self) -> HealthReporter {
        self.health.clone()
    }

    /// Serves, registers, and leaves on SIGTERM or SIGINT, or when the client is drained by other means; returns what
    /// came of the leaving, when the drain is over.
    ///
    /// # Errors
    /// Of [`Instance::from_listener`], [`Client::register`] and [`Client::drain_on_signal`], and
    /// [`ErrorKind::Unavailable`] if a layer fails to take a connection. No connection is taken any more then; those
    /// that are open get a GOAWAY and finish their calls by themselves.
    ///
    /// # Cancel safety
    /// Dropped, it does the same, and withdraws the registration.
    pub async fn run<R>(mut self, listener: TcpListener) -> Result<DrainReport, Error>
    where
        L: Layer<Routes>,
        L::Service: Service<Request<Body>, Response = Response<R>, Future: Send> + Clone + Send + 'static,
        <L::Service as Service<Request<Body>>>::Error: Into<crate::BoxError> + Send,
        R: http_body::Body<Data = bytes::Bytes, Error: Into<crate::BoxError>> + Send + 'static,
    {
        let (client, drain) = (self.client.clone(), self.drain.clone());
        let leaving = client.drain_on_signal(drain.clone())?;
        let instance = self.register.take().map(|register| register.instance(&listener)).transpose()?;
        let registering = async {
            Ok::<Option<Registration>, Error>(match instance {
                Some(instance) => Some(client.register_with(instance, RegisterOptions::new()).await?),
                None => None,
            })
        };
        let served = self.serve(listener);
        tokio::pin!(leaving, served);
        let _registration = tokio::select! {
            registered = registering => registered?,
            report = &mut leaving => return Ok(report),
            outcome = &mut served => return ended(outcome, client.drain(drain)).await,
        };
        tokio::select! {
            report = &mut leaving => Ok(report),
            outcome = &mut served => ended(outcome, async {
                // Nobody may have sent a signal: then somebody else drains the client, and this waits for the same end.
                tokio::select! {
                    report = leaving => report,
                    report = client.drain(drain) => report,
                }
            })
            .await,
        }
    }

    /// Serves until the client's drain refuses new work and the connections are closed after that; the end of the drain
    /// cuts those that aren't.
    ///
    /// Register the instance before or while this runs, not after: it returns at the end.
    ///
    /// # Errors
    /// If a layer fails to take a connection.
    ///
    /// # Cancel safety
    /// Dropped, the listener closes; connections get a GOAWAY and finish their calls by themselves.
    pub async fn serve<R>(self, listener: TcpListener) -> Result<(), transport::Error>
    where
        L: Layer<Routes>,
        L::Service: Service<Request<Body>, Response = Response<R>, Future: Send> + Clone + Send + 'static,
        <L::Service as Service<Request<Body>>>::Error: Into<crate::BoxError> + Send,
        R: http_body::Body<Data = bytes::Bytes, Error: Into<crate::BoxError>> + Send + 'static,
    {
        let Self { server, client, health, names, routes, .. } = self;
        let in_flight = client.in_flight();
        for name in &names {
            health.set_service_status(name, ServingStatus::Serving).await;
        }
        // Held while there are connections.
        let (open, closed) = watch::channel(());
        let traffic = Arc::new(Traffic::default());
        in_flight.spawn("grpc goodbye", goodbye(in_flight.clone(), Arc::clone(&traffic), closed));

        let incoming = connections(listener, in_flight.clone(), traffic);
        // The end of the connections is the signal.
        let serving = server.serve_with_incoming_shutdown(routes.prepare(), incoming, pending());
        let outcome = tokio::select! {
            outcome = serving => outcome,
            () = in_flight.aborted() => Ok(()),
        };
        drop(open);
        outcome
    }
}

impl Register {
    fn instance(self, listener: &TcpListener) -> Result<Instance, Error> {
        let service = match self {
            Self::Instance(instance) => return Ok(*instance),
            Self::Listener(service) => service,
        };
        let http = Instance::from_listener(service, listener)?;
        let grpc = http.endpoints().iter().map(|endpoint| format!("grpc://{}", endpoint.authority()));
        grpc.fold(http.to_builder().clear_endpoints(), InstanceBuilder::endpoint).build()
    }
}

async fn ended(
    outcome: Result<(), transport::Error>,
    drained: impl Future<Output = DrainReport>,
) -> Result<DrainReport, Error> {
    outcome.map_err(|e| Error::new(ErrorKind::Unavailable, "the gRPC server can't go on").with_source(e))?;
    Ok(drained.await)
}

/// Keeps the drain from ending while connections say goodbye: when nothing is in flight, a call may still be on its
/// way on a connection whose peer hasn't heard of the GOAWAY, and an answer in a buffer.
///
/// hyper's graceful shutdown ends a connection when its last answer is written, but waits for ever for a peer that
/// doesn't answer the ping between the two GOAWAYs. So those on which nothing goes on are not waited for; one that has
/// something to write is, until its peer has read it or the drain's budget is spent.
async fn goodbye(in_flight: InFlight, traffic: Arc<Traffic>, mut closed: watch::Receiver<()>) {
    let patience = async {
        in_flight.refusing().await;
        let (mut idle, mut moves) = (Duration::ZERO, traffic.moves());
        while idle < GOODBYE {
            sleep(TICK).await;
            let is_idle = in_flight.requests() == 0 && !traffic.is_blocked() && traffic.moves() == moves;
            idle = if is_idle { idle + TICK } else { Duration::ZERO };
            moves = traffic.moves();
        }
    };
    tokio::select! {
        // An error is what it waits for: nothing is ever sent.
        _ = closed.changed() => {}
        () = patience => tracing::debug!("some connections are still open; not waiting for them"),
    }
}

impl<L> fmt::Debug for GrpcServer<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcServer").field("services", &self.names).finish_non_exhaustive()
    }
}
