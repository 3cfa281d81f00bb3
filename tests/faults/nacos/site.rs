//! Nacos as a place for faults.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use registry_testkit::{HttpApi, Nacos, NacosLine, ServerError, Shared};
use service_registry::{Instance, nacos::NacosConnector};

use crate::live::{Bounds, Server, Site, site::server, truth::Ask};

static LINE_2: Shared<Nacos> = Shared::new();
static LINE_3: Shared<Nacos> = Shared::new();

const TTL: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_secs(1);
/// Longest time of one request, by default.
const REQUEST: Duration = Duration::from_millis(2500);
/// How often the server looks for who is silent.
const SWEEP: Duration = Duration::from_secs(5);
/// A list is up to a second old at the server.
const CACHE: Duration = Duration::from_secs(1);
/// A beat comes within a third of the time to live, and what it shows takes two calls to mend.
const MENDED: Duration = Duration::from_millis(2200);

/// A Nacos of one line. They differ in the API that the client finds there, not in what is promised.
pub(crate) struct NacosSite(pub(crate) NacosLine);

server!(Nacos, |nacos| nacos.wipe().await);

#[async_trait(?Send)]
impl Site for NacosSite {
    fn name(&self) -> &'static str {
        if self.0 == NacosLine::V2 { "nacos2" } else { "nacos" }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            ttl: TTL,
            keeps: false,
            expiry_is_seen: false,
            forgets: TTL + SWEEP + CACHE + POLL,
            noticed: MENDED + CACHE,
            // An audit of 2 s comes within 1.2 times its period.
            superseded: Duration::from_millis(2400) + CACHE + POLL,
            // Three polls, the last of which may take as long as a request.
            stale: 3 * POLL + REQUEST,
            names_removed: false,
            removal: CACHE + POLL,
        }
    }

    async fn shared(&self) -> Result<Arc<dyn Server>, ServerError> {
        let shared = if self.0 == NacosLine::V2 { &LINE_2 } else { &LINE_3 };
        Ok(shared.get(Nacos::start(self.0)).await?)
    }

    async fn own(&self) -> Result<Arc<dyn Server>, ServerError> {
        Ok(Arc::new(Nacos::start(self.0).await?))
    }

    fn url(&self, endpoints: &[SocketAddr], namespace: &str) -> String {
        let hosts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        format!("nacos://{}/{namespace}?ttl=5s&poll=1s", hosts.join(","))
    }

    fn seldom(&self, url: &str) -> String {
        url.replace("poll=1s", "poll=3s")
    }

    /// It needs seconds of this machine for sixty, right after its start.
    fn herd(&self) -> usize {
        20
    }

    fn truth(&self, server: SocketAddr, namespace: &str) -> Ask {
        Ask::by(NacosConnector::new(), &format!("nacos://{server}/{namespace}"), namespace).aged(CACHE)
    }

    async fn delete(
        &self,
        server: SocketAddr,
        namespace: &str,
        instance: &Instance,
    ) -> Result<(), ServerError> {
        let endpoint = instance.endpoint();
        let api = if self.0 == NacosLine::V2 { "v2" } else { "v3/client" };
        let path = format!(
            "/nacos/{api}/ns/instance?namespaceId={namespace}&groupName=DEFAULT_GROUP&serviceName={}&ip={}\
             &port={}&clusterName=DEFAULT&ephemeral=true",
            instance.service(),
            endpoint.host(),
            endpoint.port()
        );
        HttpApi::new(server).delete(&path).await?.success().map(drop)
    }
}
