//! From a URL to the parts of a backend.

use std::sync::Arc;

use async_trait::async_trait;
use registry_core::{Backend, Capabilities, ConnectContext, Connector, Error, ErrorKind, RegistryUrl};

use crate::{
    catalogue::EtcdCatalogue,
    channel,
    codec::{Layout, Native},
    config::{EtcdConfig, OPTIONS},
    discovery::EtcdDiscovery,
    registry::EtcdRegistry,
    session::Session,
};

/// Serves `etcd://` and `etcd+tls://` URLs; see [`EtcdConfig`] for their options.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct EtcdConnector;

impl EtcdConnector {
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
    /// [`ErrorKind::InvalidArgument`] if a TLS file can't be used.
    pub async fn backend(&self, config: EtcdConfig, context: &ConnectContext) -> Result<Backend, Error> {
        // A file that is wrong at the start is a mistake in the configuration; later it may be one being replaced.
        let probe = channel::open(&config, 0, 0, &Arc::default()).await;
        probe.map_err(|fault| {
            Error::new(ErrorKind::InvalidArgument, fault.line()).with_context(crate::NAME, "connect")
        })?;
        let addresses = config.endpoints.clone();
        let mut hosts = addresses.clone();
        hosts.sort_unstable();
        let scope = format!("{}://{}/{}", crate::NAME, hosts.join(","), context.namespace);
        let session = Session::new(config.clone(), context.credentials.clone());
        // A connection is driven by the runtime that opened it.
        let keeping = match context.dedicated {
            true => Session::new(config, context.credentials.clone()),
            false => Arc::clone(&session),
        };
        let layout: Arc<dyn Layout> = Arc::new(Native::new(&context.namespace));
        let registry = EtcdRegistry::new(keeping, Arc::clone(&layout));
        let discovery = EtcdDiscovery::new(Arc::clone(&session), Arc::clone(&layout));
        let catalogue = EtcdCatalogue::new(session, layout);
        Ok(Backend::new(crate::NAME, Capabilities::session())
            .with_registry(Arc::new(registry))
            .with_discovery(Arc::new(discovery))
            .with_catalogue(Arc::new(catalogue))
            .with_addresses(addresses)
            .with_scope(scope))
    }
}

#[async_trait]
impl Connector for EtcdConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["etcd", "etcd+tls"]
    }

    fn options(&self) -> &'static [&'static str] {
        OPTIONS
    }

    async fn connect(&self, url: &RegistryUrl, context: &ConnectContext) -> Result<Backend, Error> {
        self.backend(EtcdConfig::from_url(url)?, context).await
    }
}
