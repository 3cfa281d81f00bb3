//! The cluster and the ways to it: what is broken and repaired.

use std::{collections::BTreeSet, net::SocketAddr, num::NonZeroU64, time::Duration};

use futures_util::future::{join_all, try_join_all};
use registry_testkit::{Etcd, EtcdCluster, EtcdKey, Proxy, ServerError};
use tokio::time::timeout;

use crate::plan::{Fault, Links, MEMBERS, Member};

/// Where the records stand.
pub(crate) const PREFIX: &str = "/chaos/orders/";
/// For connections to be reset, which happens in any case.
const RESET: Duration = Duration::from_millis(500);

/// Three members that know each other through breakable links, each behind a proxy for all clients.
pub(crate) struct Site {
    cluster: EtcdCluster,
    links: Vec<Proxy>,
}

/// What has to be repaired.
pub(crate) enum Broken {
    Dead(Vec<usize>),
    Frozen(usize),
    Isolated,
    Links(Vec<usize>),
}

/// What an operator took away, for which nobody else can be blamed.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Ids whose records were deleted.
    pub(crate) ids: BTreeSet<String>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let cluster = Etcd::builder().peer_proxies(true).start_cluster(MEMBERS).await.unwrap();
        let links =
            try_join_all(cluster.nodes().iter().map(|node| Proxy::start(node.address()))).await.unwrap();
        Self { cluster, links }
    }

    /// For clients: every way can be broken.
    pub(crate) fn links(&self) -> Vec<SocketAddr> {
        self.links.iter().map(Proxy::address).collect()
    }

    /// For who looks at the truth: past the proxies.
    pub(crate) fn members(&self) -> Vec<SocketAddr> {
        self.cluster.nodes().iter().map(Etcd::address).collect()
    }

    /// Breaks something; what was taken from whom is in `taken`.
    pub(crate) async fn inject(
        &self,
        fault: &Fault,
        taken: &mut Taken,
    ) -> Result<Option<Broken>, ServerError> {
        match fault {
            Fault::Kill(member) => {
                let member = self.resolve(*member).await;
                self.cluster.node(member).kill().await?;
                Ok(Some(Broken::Dead(vec![member])))
            }
            Fault::KillMajority => {
                let leader = self.resolve(Member::Leader).await;
                let dead = vec![leader, (leader + 1) % MEMBERS];
                try_join_all(dead.iter().map(|member| self.cluster.node(*member).kill())).await?;
                Ok(Some(Broken::Dead(dead)))
            }
            Fault::Freeze(member) => {
                let member = self.resolve(*member).await;
                self.cluster.node(member).freeze().await?;
                Ok(Some(Broken::Frozen(member)))
            }
            Fault::Isolate(member) => {
                let member = self.resolve(*member).await;
                self.cluster.isolate(member).await?;
                Ok(Some(Broken::Isolated))
            }
            Fault::Cut(links) => {
                let links = numbers(*links);
                join_all(links.iter().map(|link| self.links[*link].cut())).await;
                Ok(Some(Broken::Links(links)))
            }
            Fault::Hold(links) => Ok(self.each(*links, Proxy::hold)),
            Fault::HoldAnswers(links) => Ok(self.each(*links, Proxy::hold_towards_client)),
            Fault::Delay(links, delay) => Ok(self.each(*links, |link| link.delay(*delay))),
            Fault::Trickle(links, rate) => {
                let rate = NonZeroU64::new(*rate).expect("a plan draws no 0");
                Ok(self.each(*links, |link| link.trickle(rate)))
            }
            Fault::Reset(links) => {
                // It waits for a moment without connections, which so many clients may never leave it.
                let reset = numbers(*links).into_iter().map(|link| timeout(RESET, self.links[link].reset()));
                join_all(reset).await;
                Ok(None)
            }
            Fault::Revoke(_) | Fault::Delete(_) | Fault::Compact | Fault::MoveLeader(_) => {
                self.operate(fault, taken).await.map(|()| None)
            }
        }
    }

    async fn operate(&self, fault: &Fault, taken: &mut Taken) -> Result<(), ServerError> {
        let ctl = self.cluster.ctl();
        match fault {
            Fault::Revoke(writer) => {
                let writer = format!("writer {writer}");
                let of_writer = |key: &EtcdKey| String::from_utf8_lossy(&key.value).contains(&writer);
                let records = ctl.get_prefix(PREFIX).await?;
                let Some(lease) = records.iter().find(|key| of_writer(key)).map(|key| key.lease) else {
                    return Ok(());
                };
                let hit = records.iter().filter(|key| key.lease == lease);
                taken.ids.extend(hit.map(|key| key.key[PREFIX.len()..].to_owned()));
                ctl.revoke_lease(lease).await
            }
            Fault::Delete(ids) => {
                for id in ids {
                    taken.ids.insert(id.clone());
                    ctl.run(&["del", "--", &format!("{PREFIX}{id}")]).await?;
                }
                Ok(())
            }
            Fault::Compact => ctl.compact(ctl.revision().await?).await,
            Fault::MoveLeader(to) => self.cluster.move_leader(*to).await,
            _ => Ok(()),
        }
    }

    pub(crate) async fn repair(&self, broken: Broken) -> Result<(), ServerError> {
        match broken {
            Broken::Dead(members) => {
                try_join_all(members.iter().map(|member| self.cluster.node(*member).restart()))
                    .await
                    .map(drop)
            }
            Broken::Frozen(member) => self.cluster.node(member).thaw(),
            Broken::Isolated => self.cluster.heal(),
            Broken::Links(links) => {
                join_all(links.iter().map(|link| self.links[*link].restore())).await;
                Ok(())
            }
        }
    }

    /// Waits until all members serve.
    pub(crate) async fn usable(&self) -> Result<(), ServerError> {
        try_join_all(self.cluster.nodes().iter().map(Etcd::ready)).await.map(drop)
    }

    /// Who leads, or member 0 while nobody does.
    async fn resolve(&self, member: Member) -> usize {
        match member {
            Member::Numbered(number) => number,
            Member::Leader => self.cluster.leader_index().await.unwrap_or_default(),
        }
    }

    fn each(&self, links: Links, change: impl Fn(&Proxy)) -> Option<Broken> {
        let links = numbers(links);
        links.iter().for_each(|link| change(&self.links[*link]));
        Some(Broken::Links(links))
    }
}

fn numbers(links: Links) -> Vec<usize> {
    match links {
        Links::All => (0..MEMBERS).collect(),
        Links::To(member) => vec![member],
    }
}
