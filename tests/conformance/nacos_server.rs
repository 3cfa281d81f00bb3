//! One Nacos of each line for the cases that run at the same time.

use std::sync::{Arc, Weak};

use registry_core::{Backend, ConnectContext, Connector, RegistryUrl};
use registry_http::nacos::NacosConnector;
use registry_testkit::{
    Nacos, NacosLine,
    conformance::{Fixture, Stage},
};
use tokio::sync::Mutex;

/// End with the last case that holds them, so that nothing outlives the tests.
static RUNNING_2: Mutex<Weak<Nacos>> = Mutex::const_new(Weak::new());
static RUNNING_3: Mutex<Weak<Nacos>> = Mutex::const_new(Weak::new());

pub(crate) struct NacosServer {
    nacos: Arc<Nacos>,
    options: &'static str,
}

impl NacosServer {
    pub(crate) async fn start(line: NacosLine, options: &'static str) -> Self {
        let running = if line == NacosLine::V2 { &RUNNING_2 } else { &RUNNING_3 };
        let mut running = running.lock().await;
        if let Some(nacos) = running.upgrade() {
            return Self { nacos, options };
        }
        let nacos = Arc::new(Nacos::start(line).await.expect("nacos starts"));
        *running = Arc::downgrade(&nacos);
        Self { nacos, options }
    }
}

impl Fixture for NacosServer {
    async fn open(&self, stage: Stage) -> Backend {
        let url: RegistryUrl = format!("{}{}", self.nacos.url(), self.options).parse().expect("a URL");
        let context = ConnectContext::new(stage.namespace, stage.ttl);
        NacosConnector::new().connect(&url, &context).await.expect("the configuration is right")
    }
}
