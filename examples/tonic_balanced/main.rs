//! Five gRPC servers behind one channel. One is killed, one drains, one appears; no call fails.
//!
//! `cargo run --features tonic-server --example tonic_balanced`
//!
//! Needs no registry server and no `protoc`: the registry lives in this process, the greeter in `../greeter/mod.rs`.
//! Each server has a runtime and a client of its own, as a process would.

#[path = "../greeter/mod.rs"]
mod greeter;
mod load;
mod server;

use std::{error::Error, process::ExitCode, time::Duration};

use service_registry::{Client, Drain, MemoryRegistry, Upstream, tonic::GrpcChannel};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use self::{load::Load, server::Server};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How long the whole may take; about 5 s on an idle machine.
const STORY: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    match tokio::time::timeout(STORY, tell()).await {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
        Err(_) => {
            println!("FAILED: the story took longer than {STORY:?}");
            ExitCode::FAILURE
        }
    }
}

async fn tell() -> Result<()> {
    let registry = MemoryRegistry::new();
    let mut servers = Vec::new();
    for name in ["anna", "bert", "cleo", "dora", "emil"] {
        servers.push(Server::start(&registry, name).await?);
    }

    let client = Client::from_backend(registry.backend()).await?;
    let greeters = client.discover("greeter").await?;
    greeters.ready(servers.len()).await?;
    println!("{} servers are registered", servers.len());

    // Greetings may be said twice: then even those are retried that were on their way to a server that died.
    let channel = GrpcChannel::builder(greeters.clone()).idempotent(true).build();
    let load = Load::start(&channel);
    load.report("all take part", 1_000).await;

    servers.remove(1).kill();
    load.report("bert was killed", 1_000).await;

    drain(servers.remove(1), &load).await?;
    load.report("cleo has left", 1_000).await;

    servers.push(Server::start(&registry, "fred").await?);
    known(&greeters, "fred").await?;
    load.report("fred has come", 1_000).await;

    let (answered, failed) = load.stop().await;
    println!("\n{answered} calls answered, {} failed", failed.len());
    match failed.first() {
        None => Ok(()),
        Some(status) => Err(format!("the first failure was {status}").into()),
    }
}

/// A server leaves cleanly while its callers go on, and somebody looks at its health.
async fn drain(server: Server, load: &Load) -> Result<()> {
    let health = Channel::from_shared(format!("http://{}", server.address))?.connect().await?;
    let mut news = HealthClient::new(health).watch(HealthCheckRequest::default()).await?.into_inner();
    let mut heard = Vec::new();
    let leaving = tokio::spawn({
        let client = server.client.clone();
        // Two seconds by default: so long some readers of a registry take to hear of it.
        async move { client.drain(Drain::default().propagate(Duration::from_millis(500))).await }
    });
    while let Some(answer) = news.message().await? {
        heard.push(match answer.status() {
            ServingStatus::Serving => "SERVING",
            ServingStatus::NotServing => "NOT_SERVING",
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => "?",
        });
    }
    let report = leaving.await?;
    println!("\ncleo drained in {:.1?}; its health was {}", report.elapsed, heard.join(", then "));
    server.ended().await?;
    load.forget();
    if report.is_clean() { Ok(()) } else { Err(format!("the drain was not clean: {report:?}").into()) }
}

async fn known(greeters: &Upstream, name: &str) -> Result<()> {
    let mut changes = greeters.changes();
    while let Some(update) = changes.next().await {
        if update.snapshot.usable().any(|instance| instance.id().as_str() == name) {
            return Ok(());
        }
    }
    Err("the client was closed".into())
}
