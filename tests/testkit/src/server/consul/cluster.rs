//! Several Consul servers that elect a leader.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use super::agent::Consul;
use super::options::ConsulBuilder;
use crate::eventually::eventually;
use crate::server::ServerError;

/// For an election and what takes one.
const ELECTION: Duration = Duration::from_secs(10);

/// A cluster of Consul servers on one machine. Dropping it ends them all.
#[derive(Debug)]
pub struct ConsulCluster {
    servers: Vec<Consul>,
}

impl ConsulCluster {
    /// Starts `servers` with the default options.
    ///
    /// # Errors
    ///
    /// When there is no binary, or the cluster is not ready after 10 s.
    pub async fn start(servers: usize) -> Result<Self, ServerError> {
        Consul::builder().start_cluster(servers).await
    }

    pub(crate) async fn start_servers(options: &ConsulBuilder, count: usize) -> Result<Self, ServerError> {
        // Without data there is no cluster: development mode is one server.
        let options = options.clone().data();
        let prepare = |number: usize| Consul::prepare(&format!("n{}", number + 1), &options, count);
        let servers = (0..count).map(prepare).collect::<Result<Vec<_>, _>>()?;
        for server in &servers {
            server.join(servers.iter().map(Consul::lan).filter(|other| *other != server.lan()).collect());
        }
        let cluster = Self { servers };
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// The servers.
    pub fn nodes(&self) -> &[Consul] {
        &self.servers
    }

    /// A server, counted from 0.
    ///
    /// # Panics
    ///
    /// When there is none with this number.
    pub fn node(&self, index: usize) -> &Consul {
        &self.servers[index]
    }

    /// The URL a client is given: all servers in one.
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.servers.iter().map(|server| server.address().to_string()).collect();
        format!("consul://{}", addresses.join(","))
    }

    /// Starts the servers that do not run, together, and waits until all serve.
    ///
    /// # Errors
    ///
    /// When one is not ready after 10 s.
    pub async fn start_all(&self) -> Result<(), ServerError> {
        try_join_all(self.servers.iter().map(Consul::launch)).await?;
        try_join_all(self.servers.iter().map(Consul::ready)).await.map(drop)
    }

    /// Ends all servers with SIGKILL; their data stays.
    ///
    /// # Errors
    ///
    /// When a process does not end.
    pub async fn kill_all(&self) -> Result<(), ServerError> {
        try_join_all(self.servers.iter().map(Consul::kill)).await.map(drop)
    }

    /// Which server leads now, as the majority of those that answer sees it.
    pub async fn leader_index(&self) -> Option<usize> {
        let asked = self
            .servers
            .iter()
            .map(|server| async { if server.is_running() { server.leader().await } else { None } });
        let known = join_all(asked).await;
        let votes = |index: usize| {
            known.iter().filter(|leader| **leader == Some(self.servers[index].server())).count()
        };
        (0..self.servers.len()).find(|index| votes(*index) * 2 > self.servers.len())
    }

    /// Waits for a leader that `fits`, for example another than before.
    ///
    /// # Errors
    ///
    /// When there is none after 10 s.
    pub async fn wait_for_leader(
        &self,
        fits: impl Fn(usize) -> bool + Send + Sync,
    ) -> Result<usize, ServerError> {
        eventually("leader", ELECTION, async || self.leader_index().await.filter(|index| fits(*index)))
            .await
            .map_err(|timeout| ServerError::new("election in a consul cluster").with_source(timeout))
    }

    /// Lets the leader hand over to another; which one becomes it.
    ///
    /// # Errors
    ///
    /// When there is no leader, or it does not hand over.
    pub async fn move_leader(&self) -> Result<usize, ServerError> {
        let leader = self.wait_for_leader(|_| true).await?;
        self.servers[leader].run(&["operator", "raft", "transfer-leader"]).await?;
        self.wait_for_leader(|index| index != leader).await
    }
}
