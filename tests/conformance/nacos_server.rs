//! One Nacos of each line for the cases that run at the same time.

use std::sync::Arc;

use registry_core::{Backend, ConnectContext, Connector, RegistryUrl};
use registry_http::nacos::NacosConnector;
use registry_testkit::{
    Nacos, NacosLine, Shared,
    conformance::{Fixture, Stage},
};

static LINE_2: Shared<Nacos> = Shared::new();
static LINE_3: Shared<Nacos> = Shared::new();

pub(crate) struct NacosServer {
    nacos: Arc<Nacos>,
    options: &'static str,
}

impl NacosServer {
    pub(crate) async fn start(line: NacosLine, options: &'static str) -> Self {
        let shared = if line == NacosLine::V2 { &LINE_2 } else { &LINE_3 };
        let nacos = shared.get(Nacos::start(line)).await.expect("nacos starts");
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
