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
    pace::LONGEST_PAUSE,
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
    capabilities.proof_within = proof_within(config);
    capabilities
}

/// What one round of a watch may take while all is well.
fn proof_within(config: &ConsulConfig) -> Duration {
    // A long list's turn comes late; then Consul holds the answer back, and adds a sixteenth.
    let held = LONGEST_PAUSE + config.wait + config.wait / 16;
    // The answer itself, and a look at each data centre in front or at the leader.
    let reads = 1 + u32::try_from(config.datacenters.len().max(1)).unwrap_or(u32::MAX - 1);
    held.max(config.poll).saturating_add(config.common.request_timeout.saturating_mul(reads))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn proof_within(options: &str) -> Duration {
        capabilities(&format!("consul://h?{options}").parse().unwrap()).proof_within
    }

    #[test]
    fn a_sign_of_life_comes_at_the_latest_after_all_that_a_round_may_take() {
        let seconds = Duration::from_secs_f64;
        // What a long list waits for its turn, the hold, Consul's sixteenth, the answer and one read.
        assert_eq!(proof_within("wait=60s"), seconds(15.0 + 60.0 + 60.0 / 16.0 + 2.0 * 2.5));
        assert_eq!(proof_within("wait=16s&request_timeout=1s&dc=a,b,c"), seconds(15.0 + 16.0 + 1.0 + 4.0));
        // A prepared query is executed after a pause, without a hold.
        assert_eq!(proof_within("wait=1s&poll=10m"), seconds(600.0 + 2.0 * 2.5));
    }
}
