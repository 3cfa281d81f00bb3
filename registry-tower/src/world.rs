//! What the tests of this crate call: a service in memory.

use std::sync::Arc;

use registry_core::{
    Client, ClientConfig, Discover, Instance, MemoryRegistry, Registration, ShrinkGuard, Target, Upstream,
};
use registry_testkit::Ledger;

/// One service, `orders`, and a view of it.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) upstream: Upstream,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) registrations: Vec<Registration>,
}

impl World {
    /// With an instance for each of these endpoints.
    pub(crate) async fn of(endpoints: impl IntoIterator<Item = String>) -> Self {
        // What leaves leaves at once, even if many do.
        let mut config = ClientConfig::default();
        config.shrink_guard = ShrinkGuard::Off;
        let registry = MemoryRegistry::new();
        let client = Client::builder().config(config).backend(registry.backend()).build().await.unwrap();
        let (balance, ledger) = Ledger::balance();
        let discover = Discover::new(Target::try_from("orders").unwrap()).balance(balance);
        let mut registrations = Vec::new();
        for endpoint in endpoints {
            let instance = Instance::new("orders", endpoint).unwrap();
            registrations.push(client.register(instance).await.unwrap());
        }
        let upstream = client.discover_with(discover).await.unwrap();
        upstream.ready(registrations.len()).await.unwrap();
        Self { client, upstream, ledger, registrations }
    }

    /// With this many instances, on ports from 1.
    pub(crate) async fn with(instances: u16) -> Self {
        Self::of((1..=instances).map(|port| format!("http://10.0.0.7:{port}"))).await
    }
}
