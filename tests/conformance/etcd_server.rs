//! One etcd for the cases that run at the same time.

use std::sync::{Arc, Weak};

use registry_core::{Backend, ConnectContext, Connector, RegistryUrl};
use registry_etcd::EtcdConnector;
use registry_testkit::{
    Etcd,
    conformance::{Fixture, Stage},
};
use tokio::sync::Mutex;

/// Ends with the last case that holds it, so that nothing outlives the tests.
static RUNNING: Mutex<Weak<Etcd>> = Mutex::const_new(Weak::new());

pub(crate) struct EtcdServer(Arc<Etcd>);

impl EtcdServer {
    pub(crate) async fn start() -> Self {
        let mut running = RUNNING.lock().await;
        if let Some(etcd) = running.upgrade() {
            return Self(etcd);
        }
        let etcd = Arc::new(Etcd::start().await.expect("etcd starts"));
        *running = Arc::downgrade(&etcd);
        Self(etcd)
    }
}

impl Fixture for EtcdServer {
    async fn open(&self, stage: Stage) -> Backend {
        let url: RegistryUrl = format!("etcd://{}", self.0.address()).parse().expect("a URL");
        let context = ConnectContext::new(stage.namespace, stage.ttl);
        EtcdConnector::new().connect(&url, &context).await.expect("the configuration is right")
    }
}
