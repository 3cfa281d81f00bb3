//! From a URL to the parts of a backend.

use async_trait::async_trait;
use registry_core::{Backend, Capabilities, ConnectContext, Connector, Error, RegistryUrl};

use super::config::{ConsulConfig, OPTIONS};

/// Serves `consul://` and `consul+tls://` URLs; see [`ConsulConfig`] for their options.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ConsulConnector;

#[async_trait]
impl Connector for ConsulConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["consul", "consul+tls"]
    }

    fn options(&self) -> &'static [&'static str] {
        OPTIONS
    }

    async fn connect(&self, url: &RegistryUrl, _context: &ConnectContext) -> Result<Backend, Error> {
        let config = ConsulConfig::from_url(url)?;
        Ok(Backend::new(super::NAME, Capabilities::heartbeat()).with_addresses(config.common.servers))
    }
}
