//! Eureka as a place for faults.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use registry_testkit::{Eureka, HttpApi, ServerError, Shared};
use service_registry::{Instance, eureka::EurekaConnector};

use crate::live::{Bounds, Server, Site, site::server, truth::Ask};

static SHARED: Shared<Eureka> = Shared::new();

const TTL: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(300);
/// How often the server looks for expired leases, as `tests/servers/eureka` has it.
const EVICTION: Duration = Duration::from_millis(500);
/// One call, as the client has it.
const CALL: Duration = Duration::from_millis(2500);
/// A beat comes within a third of the time to live, and what it shows takes two calls to mend.
const MENDED: Duration = Duration::from_millis(2200);

pub(super) struct EurekaSite;

server!(Eureka, |_eureka| Ok(()));

#[async_trait(?Send)]
impl Site for EurekaSite {
    fn name(&self) -> &'static str {
        "eureka"
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            ttl: TTL,
            keeps: false,
            expiry_is_seen: false,
            // The server adds the duration of a lease to its end a second time, once it was renewed.
            forgets: 2 * TTL + EVICTION + POLL,
            noticed: MENDED,
            // An audit of 2 s comes within 1.2 times its period.
            superseded: Duration::from_millis(2400) + CALL,
            stale: 3 * POLL + CALL,
            names_removed: true,
            removal: Duration::from_secs(1),
        }
    }

    async fn shared(&self) -> Result<Arc<dyn Server>, ServerError> {
        Ok(SHARED.get(Eureka::start()).await?)
    }

    async fn own(&self) -> Result<Arc<dyn Server>, ServerError> {
        Ok(Arc::new(Eureka::start().await?))
    }

    fn url(&self, endpoints: &[SocketAddr], namespace: &str) -> String {
        let hosts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        format!("eureka://{}/{namespace}?ttl=5s&poll=300ms", hosts.join(","))
    }

    fn seldom(&self, url: &str) -> String {
        url.replace("poll=300ms", "poll=3s")
    }

    fn is_attempt(&self, target: &str) -> bool {
        // One instance is read, as `/eureka/apps/APP/ID`, for a registration or after a denied beat. Beats have a query.
        target.matches('/').count() != 4 || target.contains('?')
    }

    fn truth(&self, server: SocketAddr, namespace: &str) -> Ask {
        Ask::by(EurekaConnector::new(), &format!("eureka://{server}/{namespace}"), namespace)
    }

    async fn delete(
        &self,
        server: SocketAddr,
        namespace: &str,
        instance: &Instance,
    ) -> Result<(), ServerError> {
        let service = instance.service();
        let app = format!("{namespace}:{service}").to_ascii_uppercase();
        let path = format!("/eureka/apps/{app}/{namespace}:{service}:{}", instance.id());
        HttpApi::new(server).delete(&path).await?.success().map(drop)
    }
}
