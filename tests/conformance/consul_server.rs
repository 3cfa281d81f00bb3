//! One Consul for the cases that run at the same time.

use std::sync::{Arc, Weak};

use registry_core::{Backend, ConnectContext, Connector, RegistryUrl};
use registry_http::consul::ConsulConnector;
use registry_testkit::{
    Consul,
    conformance::{Fixture, Stage},
};
use tokio::sync::Mutex;

/// Ends with the last case that holds it, so that nothing outlives the tests.
static RUNNING: Mutex<Weak<Consul>> = Mutex::const_new(Weak::new());

pub(crate) struct ConsulServer(Arc<Consul>);

impl ConsulServer {
    pub(crate) async fn start() -> Self {
        let mut running = RUNNING.lock().await;
        if let Some(consul) = running.upgrade() {
            return Self(consul);
        }
        let consul = Arc::new(Consul::start().await.expect("consul starts"));
        *running = Arc::downgrade(&consul);
        Self(consul)
    }
}

impl Fixture for ConsulServer {
    async fn open(&self, stage: Stage) -> Backend {
        // An idle watch gives signs of life as often as it returns.
        let url: RegistryUrl = format!("{}?wait=5s", self.0.url()).parse().expect("a URL");
        let context = ConnectContext::new(stage.namespace, stage.ttl);
        ConsulConnector::new().connect(&url, &context).await.expect("the configuration is right")
    }
}
