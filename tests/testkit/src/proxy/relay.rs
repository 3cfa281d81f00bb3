//! The part of a proxy that owns connections, without a listener of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::conditions::{Conditions, Way};
use super::pump::{Gate, pump};

/// Connections to one target under common conditions; ends them all when it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    conditions: watch::Sender<Conditions>,
    /// Of each open connection, how many cuts had been made before it.
    open: Arc<watch::Sender<Vec<u64>>>,
    end: CancellationToken,
}

impl Relay {
    pub(crate) fn new(target: SocketAddr) -> Self {
        Self {
            conditions: watch::Sender::new(Conditions::new(target)),
            open: Arc::default(),
            end: CancellationToken::new(),
        }
    }

    pub(crate) fn conditions(&self) -> watch::Receiver<Conditions> {
        self.conditions.subscribe()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Conditions)) {
        self.conditions.send_modify(change);
    }

    /// How many connections are open now.
    pub(crate) fn open(&self) -> usize {
        self.open.borrow().len()
    }

    /// Waits until `enough` holds for the number of open connections.
    pub(crate) async fn until_open(&self, mut enough: impl FnMut(&usize) -> bool + Send) {
        let mut open = self.open.subscribe();
        // The sender lives as long as `self`.
        drop(open.wait_for(|open| enough(&open.len())).await);
    }

    /// Waits until every connection has ended that was made before the latest cut. Its client may have made another one
    /// by then.
    pub(crate) async fn until_cut(&self) {
        let cuts = self.conditions.borrow().cuts;
        let mut open = self.open.subscribe();
        drop(open.wait_for(|open| open.iter().all(|made_after| *made_after >= cuts)).await);
    }

    /// Resets all connections for good, without waiting for it.
    pub(crate) fn end(&self) {
        self.end.cancel();
    }

    /// Takes over a connection that a client has made; its task ends with the relay at the latest.
    pub(crate) fn adopt(&self, client: TcpStream) {
        let conditions = self.conditions.subscribe();
        let made_under = *conditions.borrow();
        if made_under.cut {
            return reset(&client);
        }
        let counted = Counted::new(Arc::clone(&self.open), made_under.cuts);
        let end = self.end.clone();
        tokio::spawn(async move {
            carry(client, conditions, made_under.cuts, end).await;
            drop(counted);
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end();
    }
}

/// Counts a connection for as long as it lives, also when its task is dropped with the runtime.
struct Counted {
    open: Arc<watch::Sender<Vec<u64>>>,
    cuts: u64,
}

impl Counted {
    fn new(open: Arc<watch::Sender<Vec<u64>>>, cuts: u64) -> Self {
        open.send_modify(|open| open.push(cuts));
        Self { open, cuts }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.send_modify(|open| {
            if let Some(at) = open.iter().position(|cuts| *cuts == self.cuts) {
                open.swap_remove(at);
            }
        });
    }
}

/// Connects to the target and pumps both directions until they end, fail or are cut.
async fn carry(
    mut client: TcpStream,
    conditions: watch::Receiver<Conditions>,
    cuts: u64,
    end: CancellationToken,
) {
    let mut watched = conditions.clone();
    let cut = async {
        tokio::select! {
            () = end.cancelled() => {},
            () = until(&mut watched, |conditions| conditions.cuts != cuts) => {},
        }
    };
    tokio::pin!(cut);

    let connected = tokio::select! {
        biased;
        () = &mut cut => None,
        connected = connect(&conditions) => connected.ok(),
    };
    let Some(mut server) = connected else {
        return reset(&client);
    };
    // Only latency is lost without it.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);

    let carried = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = async {
            tokio::try_join!(
                pump(from_client, to_server, conditions.clone(), Way::ToServer),
                pump(from_server, to_client, conditions.clone(), Way::ToClient),
            )
        };
        tokio::select! {
            biased;
            () = &mut cut => None,
            carried = both => carried.ok(),
        }
    };
    if carried.is_none() {
        reset(&client);
        reset(&server);
    }
}

/// Waits until `holds` does, or until the relay is gone.
pub(crate) async fn until(
    conditions: &mut watch::Receiver<Conditions>,
    holds: impl FnMut(&Conditions) -> bool + Send,
) {
    drop(conditions.wait_for(holds).await);
}

/// Connects once the way to the server is open; a failure is known to the client once the way back is.
async fn connect(conditions: &watch::Receiver<Conditions>) -> io::Result<TcpStream> {
    Gate { conditions: conditions.clone(), way: Way::ToServer }.opened().await;
    let target = conditions.borrow().target;
    let connected = TcpStream::connect(target).await;
    if connected.is_err() {
        Gate { conditions: conditions.clone(), way: Way::ToClient }.opened().await;
    }
    connected
}

/// Makes the coming close a reset. A socket that refuses the option is closed in order, which also ends it.
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}
