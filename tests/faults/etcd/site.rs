//! etcd as a place for faults.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use etcd_client::Client;
use registry_testkit::{Etcd, ServerError};
use service_registry::Instance;

use super::{
    truth::Truth,
    world::{self, TTL, path},
};
use crate::live::{Bounds, Server, Site, site::server, truth::Ask};

/// An audit of 2 s comes within 1.2 times its period, asks, and publishes.
const AUDITED: Duration = Duration::from_millis(2400);

/// A single node, which starts in a moment: each row has one of its own.
pub(crate) struct EtcdSite;

server!(Etcd, |etcd| etcd.wipe().await);

#[async_trait(?Send)]
impl Site for EtcdSite {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            ttl: TTL,
            keeps: true,
            expiry_is_seen: true,
            // It looks for expired leases every 0.5 s, and its clock has seconds; a look adds its own slack.
            forgets: TTL + Duration::from_secs(1),
            noticed: AUDITED,
            superseded: AUDITED,
            // What is promised of a watch whose stream is silent.
            stale: Duration::from_secs(15),
            names_removed: true,
            removal: Duration::from_secs(1),
        }
    }

    async fn shared(&self) -> Result<Arc<dyn Server>, ServerError> {
        self.own().await
    }

    async fn own(&self) -> Result<Arc<dyn Server>, ServerError> {
        Ok(Arc::new(Etcd::start().await?))
    }

    fn url(&self, endpoints: &[SocketAddr], _namespace: &str) -> String {
        world::url(endpoints)
    }

    /// They share one lease.
    fn count(&self) -> usize {
        world::COUNT
    }

    fn truth(&self, server: SocketAddr, _namespace: &str) -> Ask {
        Truth::at(server).into()
    }

    /// Any of this module's tests: they all play the child where they are told to.
    fn child(&self) -> String {
        "etcd::process::row_20_an_application_killed_without_a_word_is_gone_within_its_ttl".to_owned()
    }

    async fn delete(
        &self,
        server: SocketAddr,
        _namespace: &str,
        instance: &Instance,
    ) -> Result<(), ServerError> {
        let failed =
            |error| ServerError::new(format!("delete {} from etcd", instance.id())).with_source(error);
        let mut client = Client::connect([server.to_string()], None).await.map_err(failed)?;
        client.delete(path(instance.id().as_str()), None).await.map(drop).map_err(failed)
    }
}
