//! The story's place without a server: a registry in this process, and one runtime per instance.

use std::{collections::HashMap, thread, time::Duration};

use service_registry::{Client, MemoryRegistry};
use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};

use crate::{
    Result,
    fleet::{Fleet, SERVICE},
    instance, say,
};

/// The shortest time to live there is, so that nobody has to wait for a crash to be noticed.
const TTL: Duration = Duration::from_secs(3);

/// An in-process registry and its instances.
pub(crate) struct MemoryFleet {
    registry: MemoryRegistry,
    instances: HashMap<String, mpsc::Sender<Order>>,
}

/// What an instance is told.
enum Order {
    Drain(oneshot::Sender<Result<()>>),
    Crash(oneshot::Sender<()>),
}

impl MemoryFleet {
    /// An empty registry.
    pub(crate) fn new() -> Self {
        Self { registry: MemoryRegistry::new(), instances: HashMap::new() }
    }

    fn orders(&mut self, name: &str) -> Result<mpsc::Sender<Order>> {
        self.instances.remove(name).ok_or_else(|| format!("there is no {name}").into())
    }
}

impl Fleet for MemoryFleet {
    fn registry(&self) -> String {
        "a registry in this process".to_owned()
    }

    fn soon(&self) -> Duration {
        2 * TTL
    }

    async fn client(&self) -> Result<Client> {
        Ok(connect(&self.registry).await?)
    }

    async fn start(&mut self, name: &str) -> Result<()> {
        let (orders, received) = mpsc::channel(1);
        let (up, is_up) = oneshot::channel();
        let (who, registry) = (name.to_owned(), self.registry.clone());
        // A thread with a runtime of its own is as much of a process as one gets within a process: when it ends,
        // its server, its connections and its renewals end with it at once.
        thread::Builder::new().name(name.to_owned()).spawn(move || live(&who, &registry, up, received))?;
        is_up.await??;
        self.instances.insert(name.to_owned(), orders);
        Ok(())
    }

    async fn crash(&mut self, name: &str) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        self.orders(name)?.send(Order::Crash(done)).await?;
        is_done.await?;
        say!("{name} crashed: its runtime is gone, and the registry doesn't know yet");
        Ok(())
    }

    async fn drain(&mut self, name: &str) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        self.orders(name)?.send(Order::Drain(done)).await?;
        is_done.await?
    }

    async fn registry_goes_away(&mut self) -> Result<()> {
        self.registry.faults().unavailable(true);
        say!("the registry is away: every request to it fails");
        Ok(())
    }

    async fn registry_forgets(&mut self) -> Result<()> {
        self.registry.faults().lose_data();
        say!("meanwhile it lost its disk: no leases, no records");
        Ok(())
    }

    async fn registry_comes_back(&mut self) -> Result<()> {
        self.registry.faults().unavailable(false);
        say!("the registry is back, with nothing in it");
        Ok(())
    }

    async fn registered(&self) -> Result<usize> {
        Ok(self.registry.snapshot_of(SERVICE).len())
    }
}

async fn connect(registry: &MemoryRegistry) -> Result<Client, service_registry::Error> {
    service_registry::builder().backend(registry.backend()).ttl(TTL).build().await
}

/// The life of one instance.
fn live(
    name: &str,
    registry: &MemoryRegistry,
    up: oneshot::Sender<Result<()>>,
    mut orders: mpsc::Receiver<Order>,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(up.send(Err(error.into()))),
    };
    let crashed = runtime.block_on(async {
        let started = async {
            let client = connect(registry).await?;
            let running = instance::start(name, &client).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((client, running))
        };
        let (client, running) = match started.await {
            Ok(started) => started,
            Err(error) => {
                drop(up.send(Err(error)));
                return None;
            }
        };
        say!("{name} serves at {} and is registered", running.endpoint());
        drop(up.send(Ok(())));
        match orders.recv().await {
            Some(Order::Drain(done)) => {
                let report = client.drain(instance::how_to_leave()).await;
                drop(done.send(running.drained(&report).await));
            }
            Some(Order::Crash(done)) => return Some(done),
            None => {}
        }
        None
    });
    drop(runtime);
    if let Some(done) = crashed {
        let _nobody_waits = done.send(());
    }
}
