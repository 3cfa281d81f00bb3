//! From a URL to the parts of a backend.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use registry_core::{
    Backend, Capabilities, ConnectContext, Connector, Error, RegistryUrl, SystemClock, backend::Delivery,
};

use super::{
    api::Api,
    catalogue::EurekaCatalogue,
    config::{EurekaConfig, OPTIONS},
    discovery::EurekaDiscovery,
    lease::AT_ONCE,
    names::Names,
    registry::EurekaRegistry,
    session::Hub,
};
use crate::http::Credentials;

/// Serves `eureka://` and `eureka+tls://` URLs; see [`EurekaConfig`] for their options.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct EurekaConnector;

impl EurekaConnector {
    /// A connector.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Builds the backend of a configuration that is already parsed.
    ///
    /// Doesn't wait for the registry. Has to run inside a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) if a TLS file can't be used.
    pub async fn backend(&self, config: EurekaConfig, context: &ConnectContext) -> Result<Backend, Error> {
        let open = || {
            let credentials = Credentials::new(config.credential.clone(), context.credentials.clone());
            Arc::new(Api::new(&config, credentials))
        };
        let api = open();
        api.servers().check().await?;
        // A connection is driven by the runtime that opened it.
        let keeping = if context.dedicated { open() } else { Arc::clone(&api) };
        let mut hosts = config.common.servers.clone();
        hosts.sort_unstable();
        let scope = format!("{}://{}{}/{}", super::NAME, hosts.join(","), config.context, context.namespace);
        let names = Arc::new(Names::new(&context.namespace));
        let hub = Hub::new(api, config.poll);
        let registry = EurekaRegistry::new(keeping, Arc::clone(&names), SystemClock::shared());
        let discovery = EurekaDiscovery::new(Arc::clone(&hub), Arc::clone(&names), config.address);
        let catalogue = EurekaCatalogue::new(hub, names);
        Ok(Backend::new(super::NAME, capabilities(&config))
            .with_registry(Arc::new(registry))
            .with_discovery(Arc::new(discovery))
            .with_catalogue(Arc::new(catalogue))
            .with_addresses(config.common.servers)
            .with_scope(scope))
    }
}

/// - A beat proves that *a* record of this id lives, not that it is ours: so there is an audit too.
/// - The server adds the duration of a lease to its end a second time, once it was renewed: 2. It looks for expired
///   leases once a minute, and removes none while too many are silent; neither can be said in advance.
fn capabilities(config: &EurekaConfig) -> Capabilities {
    let mut capabilities = Capabilities::heartbeat();
    capabilities.audit = true;
    capabilities.grace = 2.0;
    capabilities.delivery = Delivery::Poll { every: config.poll };
    capabilities.proof_within = 3 * config.poll + config.common.request_timeout;
    capabilities.propagation = Duration::from_secs(5);
    // A request or two each: as many as are on their way at once, so that a slow server has time for each of them.
    capabilities.publish_batch = AT_ONCE;
    capabilities
}

#[async_trait]
impl Connector for EurekaConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["eureka", "eureka+tls"]
    }

    fn options(&self) -> &'static [&'static str] {
        OPTIONS
    }

    async fn connect(&self, url: &RegistryUrl, context: &ConnectContext) -> Result<Backend, Error> {
        self.backend(EurekaConfig::from_url(url)?, context).await
    }
}
