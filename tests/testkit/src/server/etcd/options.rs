//! How an etcd is started.

use std::time::Duration;

use super::binaries::Binaries;
use super::cluster::EtcdCluster;
use super::member::Etcd;
use crate::certs::{TestCa, TestCert};
use crate::server::ServerError;

/// How often a first start is repeated with other ports when somebody else was faster.
const PORT_ATTEMPTS: u32 = 3;

/// Options for an etcd node or cluster.
///
/// Timing is short (elections after 100 ms, in a cluster 200 ms) and nothing is synced to disk: a start takes a
/// fraction of a second, and data survives `kill -9` but would not survive the machine.
#[derive(Clone, Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct EtcdBuilder {
    pub(crate) token_ttl: Option<Duration>,
    pub(crate) tls: Option<TestCa>,
    pub(crate) clients: Option<TestCa>,
    pub(crate) args: Vec<String>,
    pub(crate) peer_proxies: bool,
}

impl EtcdBuilder {
    /// Enables authentication with [`Etcdctl::ROOT`](super::Etcdctl::ROOT); simple tokens live for `token_ttl`
    /// after their last use, in whole seconds.
    pub fn auth(mut self, token_ttl: Duration) -> Self {
        self.token_ttl = Some(token_ttl);
        self
    }

    /// Serves clients over TLS, with a certificate of `ca`. Peers and the readiness probe stay without.
    pub fn tls(mut self, ca: &TestCa) -> Self {
        self.tls = Some(ca.clone());
        self
    }

    /// Demands certificates of `ca` from clients; needs [`tls`](Self::tls).
    pub fn client_certs(mut self, ca: &TestCa) -> Self {
        self.clients = Some(ca.clone());
        self
    }

    /// Adds a flag for every node. It comes last, so that it wins over the launcher's own.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Puts the traffic between members behind proxies, for [`EtcdCluster::isolate`]; Linux only. A single node
    /// has no peers and ignores it.
    pub fn peer_proxies(mut self, on: bool) -> Self {
        self.peer_proxies = on;
        self
    }

    /// Starts a single node and waits until it serves.
    ///
    /// # Errors
    ///
    /// When there is no binary, or the node is not ready after 10 s.
    pub async fn start(self) -> Result<Etcd, ServerError> {
        let binaries = Binaries::find()?;
        let mut attempt = 1;
        loop {
            match Etcd::start_alone(&binaries, &self).await {
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }

    /// Starts `nodes` members and waits until all serve.
    ///
    /// # Errors
    ///
    /// When there is no binary, or the cluster is not ready after 10 s.
    pub async fn start_cluster(self, nodes: usize) -> Result<EtcdCluster, ServerError> {
        let binaries = Binaries::find()?;
        let mut attempt = 1;
        loop {
            match EtcdCluster::start_members(&binaries, &self, nodes).await {
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }

    pub(crate) fn certificates(&self) -> Result<Option<Certificates>, ServerError> {
        let Some(ca) = &self.tls else {
            return match &self.clients {
                None => Ok(None),
                Some(_) => Err(ServerError::new("client certificates without TLS: call `tls` too")),
            };
        };
        let failed = |error| ServerError::new("certificates for etcd").with_source(error);
        let server = ca.server().map_err(failed)?;
        let client = self.clients.as_ref().map(|ca| ca.client("root")).transpose().map_err(failed)?;
        Ok(Some(Certificates { server, client }))
    }
}

/// What one start uses over TLS.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    pub(crate) server: TestCert,
    /// `etcdctl`'s own, when the server asks for one.
    pub(crate) client: Option<TestCert>,
}
