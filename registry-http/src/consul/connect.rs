//! From a URL to the parts of a backend.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use registry_core::{
    Backend, Capabilities, ConnectContext, Connector, Error, RegistryUrl, backend::Delivery,
};

use super::{
    catalogue::ConsulCatalogue,
    codec::MAX_RECORD,
    config::{ConsulConfig, OPTIONS},
    discovery::ConsulDiscovery,
    names::Names,
    registry::ConsulRegistry,
    session::Session,
};

/// Serves `consul://` and `consul+tls://` URLs; see [`ConsulConfig`] for their options.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ConsulConnector;

impl ConsulConnector {
    /// A connector.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Builds the backend of a configuration that is already parsed. Doesn't wait for the registry.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) if a TLS file can't be used.
    pub async fn backend(&self, config: ConsulConfig, context: &ConnectContext) -> Result<Backend, Error> {
        let addresses = config.common.servers.clone();
        let scope = scope(&config, context);
        let capabilities = capabilities(&config);
        let session = Session::new(config.clone(), context.credentials.clone());
        session.servers().check().await?;
        // A connection is driven by the runtime that opened it.
        let keeping = match context.dedicated {
            true => Session::new(config, context.credentials.clone()),
            false => Arc::clone(&session),
        };
        let names = Names::new(&context.namespace);
        Ok(Backend::new(super::NAME, capabilities)
            .with_registry(Arc::new(ConsulRegistry::new(keeping, names.clone())))
            .with_discovery(Arc::new(ConsulDiscovery::new(Arc::clone(&session), names.clone())))
            .with_catalogue(Arc::new(ConsulCatalogue::new(session, names)))
            .with_addresses(addresses)
            .with_scope(scope))
    }
}

fn scope(config: &ConsulConfig, context: &ConnectContext) -> String {
    let mut hosts = config.common.servers.clone();
    hosts.sort_unstable();
    let part = |name: &Option<String>| name.clone().unwrap_or_default();
    let (partition, ns) = (part(&config.partition), part(&config.ns));
    format!("{}://{}/{partition}/{ns}/{}", super::NAME, hosts.join(","), context.namespace)
}

fn capabilities(config: &ConsulConfig) -> Capabilities {
    let mut capabilities = Capabilities::heartbeat();
    // A heartbeat proves that the agent lives. Whether the catalogue got the record, only reading it back tells.
    capabilities.audit = true;
    capabilities.delivery = Delivery::LongPoll;
    capabilities.max_record = MAX_RECORD;
    // One round, with what Consul adds and what an answer may take.
    let round = config.wait.max(config.poll);
    capabilities.proof_within = round + round / 16 + Duration::from_secs(5);
    capabilities
}

#[async_trait]
impl Connector for ConsulConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["consul", "consul+tls"]
    }

    fn options(&self) -> &'static [&'static str] {
        OPTIONS
    }

    async fn connect(&self, url: &RegistryUrl, context: &ConnectContext) -> Result<Backend, Error> {
        self.backend(ConsulConfig::from_url(url)?, context).await
    }
}
