//! Without a server: the registry is a value in this process, and each instance has a client of its own.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use service_registry::{Client, Drain, MemoryRegistry};

use crate::{
    Result,
    fleet::Fleet,
    instance::{self, BUDGET, Left, Running},
};

pub(crate) struct MemoryFleet {
    registry: MemoryRegistry,
    instances: HashMap<String, (Client, Running)>,
}

impl MemoryFleet {
    pub(crate) fn new() -> Self {
        Self { registry: MemoryRegistry::new(), instances: HashMap::new() }
    }
}

impl Fleet for MemoryFleet {
    fn registry(&self) -> String {
        "in this process, and so are the instances".to_owned()
    }

    async fn client(&self) -> Result<Client> {
        Ok(Client::from_backend(self.registry.backend()).await?)
    }

    async fn start(&mut self, name: &str) -> Result<()> {
        let client = self.client().await?;
        let running = instance::start(name, &client).await?;
        self.instances.insert(name.to_owned(), (client, running));
        Ok(())
    }

    async fn leave(&mut self, names: &[String]) -> Result<Vec<Left>> {
        let leaving = names.iter().map(|name| {
            let instance = self.instances.remove(name).ok_or_else(|| format!("there is no {name}"));
            async move {
                let (client, running) = instance?;
                // What a signal would do, which means all instances of a process.
                client.drain(Drain::new().budget(BUDGET)).await;
                running.left().await
            }
        });
        try_join_all(leaving).await
    }
}
