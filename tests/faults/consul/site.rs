//! Consul as a place for faults.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use registry_testkit::{Consul, HttpApi, ServerError, Shared, TestCert};
use service_registry::{Instance, consul::ConsulConnector};

use super::tls;
use crate::live::{Bounds, Server, Site, site::server, tls::Guarded, truth::Ask};

static SHARED: Shared<Consul> = Shared::new();

/// A server with data needs 2.2 s for a restart, which has to be less than half of it.
const TTL: Duration = Duration::from_secs(6);
const WAIT: Duration = Duration::from_secs(3);
/// A beat comes within a third of the time to live, and what it shows takes two calls to mend.
const MENDED: Duration = Duration::from_millis(2500);

/// An agent with data, which remembers what was registered at it.
pub(super) struct ConsulSite;

/// An agent in development mode, which forgets everything.
pub(super) struct Forgetful;

server!(Consul, |consul| consul.wipe().await);

#[async_trait(?Send)]
impl Site for ConsulSite {
    fn name(&self) -> &'static str {
        "consul"
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            ttl: TTL,
            keeps: true,
            expiry_is_seen: false,
            // A check that is silent is critical at once, which ends a blocking query.
            forgets: TTL + Duration::from_millis(500),
            noticed: MENDED,
            // An audit of 2 s comes within 1.2 times its period.
            superseded: Duration::from_millis(2400) + Duration::from_secs(1),
            stale: WAIT + WAIT / 16 + Duration::from_secs(5),
            names_removed: false,
            removal: Duration::from_secs(1),
        }
    }

    async fn shared(&self) -> Result<Arc<dyn Server>, ServerError> {
        Ok(SHARED.get(Consul::start()).await?)
    }

    async fn own(&self) -> Result<Arc<dyn Server>, ServerError> {
        Ok(Arc::new(Consul::builder().data().start().await?))
    }

    async fn guarded(&self, cert: &TestCert) -> Result<Guarded, ServerError> {
        tls::guarded(cert).await
    }

    fn url(&self, endpoints: &[SocketAddr], namespace: &str) -> String {
        let hosts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        format!("consul://{}/{namespace}?ttl=6s&wait=3s", hosts.join(","))
    }

    fn truth(&self, server: SocketAddr, namespace: &str) -> Ask {
        let url = format!("consul://{server}/{namespace}?read=consistent");
        Ask::by(ConsulConnector::new(), &url, namespace)
    }

    async fn delete(
        &self,
        server: SocketAddr,
        namespace: &str,
        instance: &Instance,
    ) -> Result<(), ServerError> {
        // The id is `namespace%2fservice:id`, and stands in a path.
        let id = format!("{namespace}%252f{}%3A{}", instance.service(), instance.id());
        HttpApi::new(server).put(&format!("/v1/agent/service/deregister/{id}"), "").await?.success().map(drop)
    }
}

#[async_trait(?Send)]
impl Site for Forgetful {
    fn name(&self) -> &'static str {
        ConsulSite.name()
    }

    fn bounds(&self) -> Bounds {
        Bounds { keeps: false, ..ConsulSite.bounds() }
    }

    async fn shared(&self) -> Result<Arc<dyn Server>, ServerError> {
        ConsulSite.shared().await
    }

    async fn own(&self) -> Result<Arc<dyn Server>, ServerError> {
        Ok(Arc::new(Consul::start().await?))
    }

    fn url(&self, endpoints: &[SocketAddr], namespace: &str) -> String {
        ConsulSite.url(endpoints, namespace)
    }

    fn truth(&self, server: SocketAddr, namespace: &str) -> Ask {
        ConsulSite.truth(server, namespace)
    }

    async fn delete(
        &self,
        server: SocketAddr,
        namespace: &str,
        instance: &Instance,
    ) -> Result<(), ServerError> {
        ConsulSite.delete(server, namespace, instance).await
    }
}
