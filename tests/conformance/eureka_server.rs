//! One Eureka for the cases that run at the same time.

use std::sync::{Arc, Weak};

use registry_core::{Backend, ConnectContext, Connector, RegistryUrl};
use registry_http::eureka::EurekaConnector;
use registry_testkit::{
    Eureka,
    conformance::{Fixture, Stage},
};
use tokio::sync::Mutex;

/// Ends with the last case that holds it, so that nothing outlives the tests.
static RUNNING: Mutex<Weak<Eureka>> = Mutex::const_new(Weak::new());

pub(crate) struct EurekaServer(Arc<Eureka>);

impl EurekaServer {
    pub(crate) async fn start() -> Self {
        let mut running = RUNNING.lock().await;
        if let Some(eureka) = running.upgrade() {
            return Self(eureka);
        }
        let eureka = Arc::new(Eureka::start().await.expect("eureka starts"));
        *running = Arc::downgrade(&eureka);
        Self(eureka)
    }
}

impl Fixture for EurekaServer {
    async fn open(&self, stage: Stage) -> Backend {
        // The cases wait for changes; the server's own timers are as short. It may be slow while it warms up.
        let url: RegistryUrl =
            format!("{}?poll=300ms&request_timeout=5s", self.0.url()).parse().expect("a URL");
        let context = ConnectContext::new(stage.namespace, stage.ttl);
        EurekaConnector::new().connect(&url, &context).await.expect("the configuration is right")
    }
}
