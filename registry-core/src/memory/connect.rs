//! `memory://`: a registry private to its client.

use async_trait::async_trait;

use super::MemoryRegistry;
use crate::{
    Error, RegistryUrl,
    backend::{Backend, ConnectContext, Connector},
};

/// Connects `memory://` URLs, each to a new and empty registry; to share one, clone a [`MemoryRegistry`] value and
/// use its [`backend`](MemoryRegistry::backend).
///
/// Takes no hosts, no user and no options of its own. The path may name a namespace, which changes nothing: nobody
/// else is in there.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemoryConnector;

#[async_trait]
impl Connector for MemoryConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["memory"]
    }

    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    async fn connect(&self, url: &RegistryUrl, _context: &ConnectContext) -> Result<Backend, Error> {
        if !url.hosts().is_empty() || url.user().is_some() {
            return Err(Error::invalid(
                "a memory:// URL takes neither host nor user; write memory:// or memory:///namespace",
            ));
        }
        Ok(MemoryRegistry::new().backend())
    }
}
