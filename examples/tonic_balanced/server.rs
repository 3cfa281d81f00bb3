//! One server, in a runtime of its own, so that it can be killed.

use std::net::SocketAddr;

use service_registry::{Client, Instance, MemoryRegistry, tonic::GrpcServer};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};

use crate::{
    Result,
    greeter::{GreeterServer, Named},
};

pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    serving: JoinHandle<Result<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) async fn start(registry: &MemoryRegistry, name: &'static str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let backend = registry.backend();
        let started = runtime.spawn(async move {
            let client = Client::from_backend(backend).await?;
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            // The port is open: who finds the instance can connect.
            let instance = Instance::builder("greeter").id(name).socket_addr("grpc", address).build()?;
            let registration = client.register(instance).await?;

            let server = GrpcServer::new(&client).add_service(GreeterServer::new(Named(name.to_owned())));
            let serving = tokio::spawn(async move {
                server.serve(listener).await?;
                drop(registration);
                Ok(())
            });
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((client, address, serving))
        });
        let (client, address, serving) = started.await??;
        Ok(Self { client, address, serving, runtime: Some(runtime) })
    }

    /// The end of a server whose client has drained.
    pub(crate) async fn ended(mut self) -> Result<()> {
        (&mut self.serving).await?
    }

    /// Ends it as `kill -9` does: connections are reset, the registry hears nothing.
    pub(crate) fn kill(self) {}
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
