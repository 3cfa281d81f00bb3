//! `static://host:port,host:port/service?scheme=http`: one service per URL.

use async_trait::async_trait;

use super::StaticRegistry;
use crate::{
    Error, RegistryUrl,
    backend::{Backend, ConnectContext, Connector},
};

/// Connects `static://` URLs: the hosts are the instances, the path is the name of the one service.
///
/// The option `scheme` is the scheme of the endpoints, `http` by default. A host may go without its port where the
/// scheme implies one (`http` 80, `https` 443). For several services, or instances with weights and zones, use
/// [`StaticRegistry::builder`].
#[derive(Clone, Copy, Debug, Default)]
pub struct StaticConnector;

#[async_trait]
impl Connector for StaticConnector {
    fn schemes(&self) -> &'static [&'static str] {
        &["static"]
    }

    fn options(&self) -> &'static [&'static str] {
        &["scheme"]
    }

    async fn connect(&self, url: &RegistryUrl, _context: &ConnectContext) -> Result<Backend, Error> {
        let [service] = url.path() else {
            return Err(Error::invalid(
                "a static:// URL names one service in its path: static://10.0.0.7:8080/orders",
            ));
        };
        if url.user().is_some() {
            return Err(Error::invalid("a static:// URL takes no user"));
        }
        if url.hosts().is_empty() {
            return Err(Error::invalid(
                "a static:// URL names at least one host: static://10.0.0.7:8080/orders",
            ));
        }
        let scheme = url.option("scheme").unwrap_or("http");
        let endpoints = url.hosts().iter().map(|host| format!("{scheme}://{host}"));
        Ok(StaticRegistry::builder().service(service, endpoints).build()?.backend())
    }
}
