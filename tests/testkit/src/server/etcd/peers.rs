//! The traffic between the members of a cluster, one breakable link per ordered pair.
//!
//! A member has one peer address for all others, as etcd derives its id from it, and a connection carries messages
//! both ways: whoever dials gets the other's stream over it. So neither the address nor the direction tells who
//! talks to whom; the process that dialled does, and it is found by the socket it holds.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::member::Pid;
use super::sockets;
use crate::proxy::{Conditions, Relay};

/// Links between all members; its tasks end when it is dropped.
#[derive(Debug)]
pub(crate) struct Peers {
    /// `links[from][to]`: what member `from` has dialled at member `to`.
    links: Vec<Vec<Arc<Relay>>>,
    _switches: JoinSet<()>,
}

impl Peers {
    /// Listens once per member and gives the addresses at which the members are to be dialled.
    pub(crate) async fn start(members: &[(SocketAddr, Pid)]) -> io::Result<(Self, Vec<SocketAddr>)> {
        let links: Vec<Vec<Arc<Relay>>> = members
            .iter()
            .map(|_| members.iter().map(|(target, _)| Arc::new(Relay::new(*target))).collect())
            .collect();
        let mut switches = JoinSet::new();
        let mut addresses = Vec::new();
        for to in 0..members.len() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            addresses.push(listener.local_addr()?);
            let inbound: Vec<_> = links.iter().map(|from| Arc::clone(&from[to])).collect();
            let pids: Vec<_> = members.iter().map(|(_, pid)| Arc::clone(pid)).collect();
            switches.spawn(switch(listener, inbound, pids));
        }
        Ok((Self { links, _switches: switches }, addresses))
    }

    /// Cuts a member off from all others, both ways.
    pub(crate) async fn isolate(&self, member: usize) {
        let links = || {
            let others = (0..self.links.len()).filter(move |other| *other != member);
            others.flat_map(move |other| [&self.links[member][other], &self.links[other][member]])
        };
        for link in links() {
            link.change(|conditions| {
                conditions.cut = true;
                conditions.cuts += 1;
            });
        }
        for link in links() {
            link.until_open(|open| *open == 0).await;
        }
    }

    /// Ends every isolation.
    pub(crate) fn heal(&self) {
        for link in self.links.iter().flatten() {
            link.change(Conditions::restore);
        }
    }
}

/// Hands each connection to the link of the member that dialled it.
async fn switch(listener: TcpListener, inbound: Vec<Arc<Relay>>, pids: Vec<Pid>) {
    let Ok(near) = listener.local_addr() else { return };
    loop {
        let Ok((stream, dialler)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let pids: Vec<u32> = pids.iter().map(|pid| pid.load(Ordering::Relaxed)).collect();
        let found = spawn_blocking(move || sockets::owner(dialler, near, &pids)).await;
        if let Ok(Some(from)) = found {
            inbound[from].adopt(stream);
        }
        // Nobody else's business, or gone already: the drop closes it.
    }
}
