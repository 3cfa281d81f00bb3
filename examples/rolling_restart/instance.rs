//! What a service does: listen, serve HTTP and gRPC, register, leave.

use std::time::Duration;

use axum::{Router, extract::State, routing::get};
use service_registry::{Client, Drain, DrainReport, Instance, tonic::GrpcServer, tower::Server};
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

use crate::{
    Result,
    greeter::{GreeterServer, Named},
};

/// The service over HTTP.
pub(crate) const HTTP: &str = "orders";
/// The service over gRPC.
pub(crate) const GRPC: &str = "greeter";
/// The time an instance has to leave.
pub(crate) const BUDGET: Duration = Duration::from_secs(10);
/// How long a request over HTTP takes, so that there is always something in flight.
const WORK: Duration = Duration::from_millis(10);

/// What came of leaving.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    pub(crate) elapsed: Duration,
    pub(crate) is_clean: bool,
}

/// An instance that serves and is registered.
pub(crate) struct Running(JoinHandle<Result<DrainReport>>);

/// Starts to serve on free ports; registered when this returns. Leaves on SIGTERM, or when the client is drained.
pub(crate) async fn start(name: &str, client: &Client) -> Result<Running> {
    let http_port = TcpListener::bind("127.0.0.1:0").await?;
    let grpc_port = TcpListener::bind("127.0.0.1:0").await?;
    let over_http = Instance::from_listener(HTTP, &http_port)?.to_builder().id(name).build()?;
    let over_grpc = Instance::builder(GRPC).id(name).socket_addr("grpc", grpc_port.local_addr()?).build()?;

    let app = Router::new().route("/", get(work).post(work)).with_state(name.to_owned());
    let http = Server::new(http_port, app).register_instance(over_http).drain(Drain::new().budget(BUDGET));
    let grpc = GrpcServer::new(client)
        .add_service(GreeterServer::new(Named(name.to_owned())))
        .register_instance(over_grpc)
        .drain(Drain::new().budget(BUDGET));

    let of_servers = client.clone();
    let servers = tokio::spawn(async move {
        // One client, one drain: both see the same end.
        let (http, _) = tokio::try_join!(http.run(&of_servers), grpc.run(grpc_port))?;
        Ok(http)
    });
    let mut running = Running(servers);
    running.registered(client).await?;
    Ok(running)
}

/// Answers with its own name.
async fn work(State(name): State<String>) -> String {
    sleep(WORK).await;
    name
}

impl Running {
    /// Waits until both services are registered, or until it is clear that they won't be.
    async fn registered(&mut self, client: &Client) -> Result<()> {
        let both = async {
            loop {
                let health = client.health();
                if health.registrations.len() == 2 && health.is_registered() {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = both => Ok(()),
            ended = &mut self.0 => {
                ended??;
                Err("an instance left before it was registered".into())
            }
        }
    }

    /// Waits for the end of the drain that somebody began.
    pub(crate) async fn left(self) -> Result<Left> {
        let report = self.0.await??;
        if !report.is_clean() {
            println!("{report:?}");
        }
        Ok(Left { elapsed: report.elapsed, is_clean: report.is_clean() })
    }
}
