//! From a URL to the parts of a backend.

use std::sync::Arc;

use async_trait::async_trait;
use registry_core::{
    Backend, Capabilities, ConnectContext, Connector, Error, RegistryUrl, backend::Delivery,
};

use super::{
    catalogue::NacosCatalogue,
    config::{NacosConfig, OPTIONS},
    discovery::NacosDiscovery,
    names,
    registry::{MIN_TTL, NacosRegistry},
    session::Session,
};

/// Serves `nacos://` and `nacos+tls://` URLs; see [`NacosConfig`] for their options.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NacosConnector;

impl NacosConnector {
    /// A connector.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Builds the backend of a configuration that is already parsed.
    ///
    /// Doesn't wait for the registry. The namespace `services`, which is the core's default, stands for `public` unless
    /// the URL names it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) if a TLS file can't be used, or if Nacos
    /// takes no such namespace.
    pub async fn backend(&self, config: NacosConfig, context: &ConnectContext) -> Result<Backend, Error> {
        let namespace = names::of_namespace(&context.namespace, config.names_namespace)
            .map_err(|error| error.with_context(super::NAME, "connect"))?;
        let open = || Session::new(config.clone(), namespace.clone(), context.credentials.clone());
        let session = open();
        session.servers().check().await?;
        // A connection is driven by the runtime that opened it.
        let keeping = if context.dedicated { open() } else { Arc::clone(&session) };
        let addresses = config.common.servers.clone();
        let mut hosts = addresses.clone();
        hosts.sort_unstable();
        let scope = format!("{}://{}/{namespace}/{}", super::NAME, hosts.join(","), config.group);
        Ok(Backend::new(super::NAME, capabilities(&config))
            .with_registry(Arc::new(NacosRegistry::new(keeping)))
            .with_discovery(Arc::new(NacosDiscovery::new(Arc::clone(&session))))
            .with_catalogue(Arc::new(NacosCatalogue::new(session)))
            .with_addresses(addresses)
            .with_scope(scope))
    }
}

fn capabilities(config: &NacosConfig) -> Capabilities {
    let mut capabilities = Capabilities::heartbeat();
    // Found silent up to 5 s after its time, which is at least as long.
    capabilities.grace = 2.0;
    capabilities.min_ttl = MIN_TTL;
    // A beat proves that an instance is at this address, not that it is ours: who is taken over learns it here.
    capabilities.audit = true;
    // A push is a hint; what is gone is told by a list.
    capabilities.delivery = Delivery::Poll { every: config.poll };
    capabilities.proof_within = 3 * config.poll + config.common.request_timeout;
    capabilities
}

#[async_trait]
impl Connector for NacosConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["nacos", "nacos+tls"]
    }

    fn options(&self) -> &'static [&'static str] {
        OPTIONS
    }

    async fn connect(&self, url: &RegistryUrl, context: &ConnectContext) -> Result<Backend, Error> {
        self.backend(NacosConfig::from_url(url)?, context).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sign_of_life_may_take_as_long_as_an_answer_on_top_of_the_polls() {
        let proof_within = |url: &str| capabilities(&url.parse().unwrap()).proof_within;
        assert_eq!(proof_within("nacos://h"), Duration::from_millis(17_500));
        assert_eq!(proof_within("nacos://h?poll=1s&request_timeout=20s"), Duration::from_secs(23));
    }
}
