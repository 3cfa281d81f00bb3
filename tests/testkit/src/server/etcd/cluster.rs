//! Several etcd members that elect a leader.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use super::binaries::Binaries;
use super::ctl::Etcdctl;
use super::member::{Etcd, Group, fresh_token};
use super::options::EtcdBuilder;
use super::peers::Peers;
use crate::eventually::eventually;
use crate::server::ServerError;

/// For an election, and for what takes one: servers of a busy machine have needed 2.2 s.
const ELECTION: Duration = Duration::from_secs(10);

/// A cluster of etcd members on one machine. Dropping it ends them all.
#[derive(Debug)]
pub struct EtcdCluster {
    nodes: Vec<Etcd>,
    peers: Option<Peers>,
}

impl EtcdCluster {
    /// Starts `nodes` members with the default options.
    ///
    /// # Errors
    ///
    /// When there is no binary, or the cluster is not ready after 10 s.
    pub async fn start(nodes: usize) -> Result<Self, ServerError> {
        Etcd::builder().start_cluster(nodes).await
    }

    pub(crate) async fn start_members(
        binaries: &Binaries,
        options: &EtcdBuilder,
        count: usize,
    ) -> Result<Self, ServerError> {
        let prepare = |number: usize| Etcd::prepare(format!("n{}", number + 1), binaries, options);
        let nodes = (0..count).map(prepare).collect::<Result<Vec<_>, _>>()?;
        let mut dialled: Vec<_> = nodes.iter().map(|node| node.peer.address()).collect();
        let mut peers = None;
        if options.peer_proxies {
            if !cfg!(target_os = "linux") {
                return Err(ServerError::new("peer proxies tell members apart by /proc: Linux only"));
            }
            let members: Vec<_> =
                nodes.iter().map(|node| (node.peer.address(), Arc::clone(&node.pid))).collect();
            let started = Peers::start(&members).await;
            let (links, addresses) =
                started.map_err(|error| ServerError::new("start of peer proxies").with_source(error))?;
            dialled = addresses;
            peers = Some(links);
        }
        let names = (1..).map(|number| format!("n{number}"));
        let group = Group { token: fresh_token(), members: names.zip(dialled).collect() };
        for node in &nodes {
            node.join(group.clone());
        }
        let cluster = Self { nodes, peers };
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// The members.
    pub fn nodes(&self) -> &[Etcd] {
        &self.nodes
    }

    /// A member, counted from 0.
    ///
    /// # Panics
    ///
    /// When there is none with this number.
    pub fn node(&self, index: usize) -> &Etcd {
        &self.nodes[index]
    }

    /// `etcdctl` for all members: it finds one that works.
    pub fn ctl(&self) -> Etcdctl {
        self.nodes[0].ctl_for(self.nodes.iter().map(Etcd::address).collect())
    }

    /// Starts the members that do not run, together, and waits until all serve.
    ///
    /// # Errors
    ///
    /// When one is not ready after 10 s.
    pub async fn start_all(&self) -> Result<(), ServerError> {
        let fresh = try_join_all(self.nodes.iter().map(Etcd::launch)).await?;
        try_join_all(self.nodes.iter().map(Etcd::ready)).await?;
        if fresh.iter().all(|fresh| *fresh) { self.nodes[0].set_up().await } else { Ok(()) }
    }

    /// Ends all members with SIGKILL; their data stays.
    ///
    /// # Errors
    ///
    /// When a process does not end.
    pub async fn kill_all(&self) -> Result<(), ServerError> {
        try_join_all(self.nodes.iter().map(Etcd::kill)).await.map(drop)
    }

    /// Deletes the data of all members; [`start_all`](Self::start_all) makes a new cluster with another id then.
    ///
    /// # Errors
    ///
    /// When a member runs.
    pub async fn wipe(&self) -> Result<(), ServerError> {
        if self.nodes.iter().any(Etcd::is_running) {
            return Err(ServerError::new("wipe of an etcd cluster: a member runs"));
        }
        let token = fresh_token();
        try_join_all(self.nodes.iter().map(|node| node.forget(token.clone()))).await.map(drop)
    }

    /// Which member leads now, as far as the members that answer know. The one with the latest term is believed:
    /// an isolated leader learns late that it is none.
    pub async fn leader_index(&self) -> Option<usize> {
        let asked = self
            .nodes
            .iter()
            .map(|node| async { if node.is_running() { node.ctl().status().await.ok() } else { None } });
        let known = join_all(asked).await;
        let leads = |(index, status): (usize, &Option<_>)| {
            let status: &super::EtcdStatus = status.as_ref()?;
            (status.leader == status.member).then_some((status.term, index))
        };
        known.iter().enumerate().filter_map(leads).max().map(|(_, index)| index)
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
            .map_err(|timeout| ServerError::new("election in an etcd cluster").with_source(timeout))
    }

    /// Makes member `index` the leader.
    ///
    /// # Errors
    ///
    /// When there is no leader, or it does not hand over.
    pub async fn move_leader(&self, index: usize) -> Result<(), ServerError> {
        let leader = self.wait_for_leader(|_| true).await?;
        if leader != index {
            let member = self.nodes[index].ctl().status().await?.member;
            self.nodes[leader].ctl().move_leader(member).await?;
        }
        Ok(())
    }

    /// Cuts member `index` off from the others, both ways; clients still reach all.
    ///
    /// # Errors
    ///
    /// When the cluster was started without [`EtcdBuilder::peer_proxies`].
    pub async fn isolate(&self, index: usize) -> Result<(), ServerError> {
        self.peers()?.isolate(index).await;
        Ok(())
    }

    /// Ends every isolation.
    ///
    /// # Errors
    ///
    /// When the cluster was started without [`EtcdBuilder::peer_proxies`].
    pub fn heal(&self) -> Result<(), ServerError> {
        self.peers()?.heal();
        Ok(())
    }

    fn peers(&self) -> Result<&Peers, ServerError> {
        self.peers
            .as_ref()
            .ok_or_else(|| ServerError::new("isolation in an etcd cluster without `peer_proxies`"))
    }
}
