//! From a URL to a backend.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Capabilities, Catalogue, Discovery, Registry};
use crate::{CredentialProvider, Error, RegistryUrl, model::Namespace};

/// Turns URLs of certain schemes into a [`Backend`]: what a third party plugs in.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// The schemes it serves, in lower case, such as `["etcd", "etcd+tls"]`.
    fn schemes(&self) -> &'static [&'static str];

    /// The URL options it understands, beside the core's own; any other is refused with the list of both.
    fn options(&self) -> &'static [&'static str];

    /// Checks the configuration and builds the parts. Must not wait for the registry: it may be down at start.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the option that is wrong.
    async fn connect(&self, url: &RegistryUrl, context: &ConnectContext) -> Result<Backend, Error>;
}

/// What a connector gets beside the URL.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectContext {
    /// The namespace all services live in.
    pub namespace: Namespace,
    /// The time to live that registrations will ask for.
    pub ttl: Duration,
    /// Supplies credentials that rotate; it wins over the URL's user info.
    pub credentials: Option<Arc<dyn CredentialProvider>>,
    /// The keeper runs on a thread of its own: the registry part must open its own connections, from the runtime
    /// that calls it, and share none with the other parts, whose runtime may be blocked.
    pub dedicated: bool,
}

impl ConnectContext {
    /// A context with a namespace and a time to live.
    #[must_use]
    pub fn new(namespace: Namespace, ttl: Duration) -> Self {
        Self { namespace, ttl, credentials: None, dedicated: false }
    }
}

/// The parts of one registry; a part it can't offer isn't there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Backend {
    /// Short name for logs, errors and labels, such as `etcd`.
    pub name: &'static str,
    /// Publishing.
    pub registry: Option<Arc<dyn Registry>>,
    /// Finding.
    pub discovery: Option<Arc<dyn Discovery>>,
    /// Listing services.
    pub catalogue: Option<Arc<dyn Catalogue>>,
    /// What the policies need to know.
    pub capabilities: Capabilities,
    /// `host:port` pairs of the registry, to find the own address that routes to it; empty if it is in-process.
    pub addresses: Vec<String>,
    /// What tells its content from that of other backends, such as its hosts and namespace: disk views of different
    /// scopes are never served for each other.
    pub scope: String,
}

impl Backend {
    /// A backend without any part yet.
    #[must_use]
    pub fn new(name: &'static str, capabilities: Capabilities) -> Self {
        Self {
            name,
            registry: None,
            discovery: None,
            catalogue: None,
            capabilities,
            addresses: Vec::new(),
            scope: name.to_owned(),
        }
    }

    /// Adds publishing.
    #[must_use]
    pub fn with_registry(mut self, registry: Arc<dyn Registry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Adds finding.
    #[must_use]
    pub fn with_discovery(mut self, discovery: Arc<dyn Discovery>) -> Self {
        self.discovery = Some(discovery);
        self
    }

    /// Adds listing services.
    #[must_use]
    pub fn with_catalogue(mut self, catalogue: Arc<dyn Catalogue>) -> Self {
        self.catalogue = Some(catalogue);
        self
    }

    /// Tells its content from that of other backends; by default only its name does.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    /// Names where the registry listens.
    #[must_use]
    pub fn with_addresses(mut self, addresses: Vec<String>) -> Self {
        self.addresses = addresses;
        self
    }
}
