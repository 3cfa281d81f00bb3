//! How a Consul is started.

use std::net::SocketAddr;

use serde_json::Value;

use super::agent::Consul;
use super::cluster::ConsulCluster;
use crate::certs::{TestCa, TestCert};
use crate::server::ServerError;
use crate::server::host::PORT_ATTEMPTS;

/// Options for a Consul agent or cluster.
///
/// An agent is a server in development mode unless told otherwise: ready in a fraction of a second, and without a
/// memory. It contacts nobody, and neither DNS nor gRPC nor the web interface is on.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct ConsulBuilder {
    pub(crate) data: bool,
    pub(crate) acl: bool,
    pub(crate) datacenter: Option<String>,
    pub(crate) wan: Option<SocketAddr>,
    pub(crate) connections: Option<u32>,
    pub(crate) rates: Option<(f64, f64)>,
    pub(crate) tls: Option<TestCa>,
    pub(crate) clients: Option<TestCa>,
    pub(crate) config: Vec<Value>,
    /// The servers' gossip, of an agent that is none.
    pub(crate) client_of: Vec<SocketAddr>,
}

impl ConsulBuilder {
    /// Keeps data on disk, so that a restart remembers; it is ready after about 2 s then.
    pub fn data(mut self) -> Self {
        self.data = true;
        self
    }

    /// Turns access control on: who has no token may nothing. [`Consul::MANAGEMENT`] may everything.
    pub fn acl(mut self) -> Self {
        self.acl = true;
        self
    }

    /// Names the data centre; `dc1` by default.
    pub fn datacenter(mut self, name: &str) -> Self {
        self.datacenter = Some(name.to_owned());
        self
    }

    /// Joins the data centre of `other` over WAN; needs a [`datacenter`](Self::datacenter) of another name. The start
    /// is over when each answers for the other.
    pub fn join_wan(mut self, other: &Consul) -> Self {
        self.wan = Some(other.wan());
        self
    }

    /// Makes it an agent without a part in the servers' work, as stands on each host of a fleet: it joins these servers,
    /// and asks them. Ready once it is in their catalogue.
    ///
    /// Its links to them aren't at hand: gossip goes over UDP too, to the addresses that the servers themselves tell. What
    /// cuts it off is the end of all its servers, or a [`freeze`](Consul::freeze) of them.
    pub fn client_of<'a>(mut self, servers: impl IntoIterator<Item = &'a Consul>) -> Self {
        self.client_of = servers.into_iter().map(Consul::lan).collect();
        self.data = true;
        self
    }

    /// Allows a client `count` connections at a time. The next one is answered 429 and closed.
    pub fn connections_per_client(mut self, count: u32) -> Self {
        self.connections = Some(count);
        self
    }

    /// Allows so many reads and writes per second in all, after a burst of ten times as many. What is too much is
    /// answered 429, or 503 where only the leader could serve it.
    ///
    /// The limits begin when the server is ready, so that the probes do not use them up; a restart's too.
    pub fn requests_per_second(mut self, reads: f64, writes: f64) -> Self {
        self.rates = Some((reads, writes));
        self
    }

    /// Serves clients over TLS too, with a certificate of `ca`: at [`Consul::tls_address`]. What the launcher itself asks
    /// stays without.
    pub fn tls(mut self, ca: &TestCa) -> Self {
        self.tls = Some(ca.clone());
        self
    }

    /// Demands certificates of `ca` from clients that come over TLS; needs [`tls`](Self::tls).
    pub fn client_certs(mut self, ca: &TestCa) -> Self {
        self.clients = Some(ca.clone());
        self
    }

    /// Adds to the configuration file: an object, merged into the launcher's own and stronger than it.
    pub fn config(mut self, extra: Value) -> Self {
        self.config.push(extra);
        self
    }

    /// Starts an agent and waits until it serves.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it is not ready after 10 s.
    pub async fn start(self) -> Result<Consul, ServerError> {
        let mut attempt = 1;
        loop {
            let name = if self.client_of.is_empty() { "n1" } else { "client1" };
            let consul = Consul::prepare(name, &self, 1)?;
            match consul.restart().await {
                Ok(()) => return Ok(consul),
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts `servers` with data that elect a leader, and waits until all serve.
    ///
    /// # Errors
    ///
    /// When there is no binary, or the cluster is not ready after 10 s.
    pub async fn start_cluster(self, servers: usize) -> Result<ConsulCluster, ServerError> {
        let mut attempt = 1;
        loop {
            match ConsulCluster::start_servers(&self, servers).await {
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }

    /// The server's certificate, and whose certificates it demands.
    pub(crate) fn certificates(&self) -> Result<Option<(TestCert, Option<TestCa>)>, ServerError> {
        let Some(ca) = &self.tls else {
            return match &self.clients {
                None => Ok(None),
                Some(_) => Err(ServerError::new("client certificates without TLS: call `tls` too")),
            };
        };
        let server = ca.server();
        let server =
            server.map_err(|error| ServerError::new("certificates for consul").with_source(error))?;
        Ok(Some((server, self.clients.clone())))
    }
}
