//! A TCP proxy that puts faults between a client and its server.
//!
//! It stands in for the network: servers stay as they are and every fault is lifted with
//! [`restore`](Proxy::restore). Faults add up; each call changes its own aspect only.
//!
//! | call | the client sees |
//! |---|---|
//! | [`cut`](Proxy::cut) | open connections reset, new ones refused, as from a host without the process |
//! | [`reset`](Proxy::reset) | open connections reset, new ones fine |
//! | [`hold`](Proxy::hold) | connections that stay open and silent, new ones included: a half-open path |
//! | [`delay`](Proxy::delay) | every byte later |
//! | [`trickle`](Proxy::trickle) | bytes one by one |
//!
//! A direction keeps at most 256 KiB; beyond that its sender feels the back-pressure.

mod conditions;
mod pump;
mod relay;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::sleep;

pub(crate) use self::conditions::Conditions;
pub(crate) use self::relay::Relay;
use self::relay::until;

/// Connections at a time; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 1024;
const BACKLOG: u32 = 128;

/// A listener on 127.0.0.1 that relays to one target and breaks the path on demand.
///
/// Its tasks run on the runtime that started it and end when it is dropped, with resets for open connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    relay: Arc<Relay>,
    listening: watch::Receiver<bool>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and relays to `target`.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let port = HeldPort::reserve()?;
        let address = port.address;
        let relay = Arc::new(Relay::new(target));
        let (listens, mut listening) = watch::channel(false);
        let accepting = tokio::spawn(accept(Arc::clone(&relay), port, listens)).abort_handle();
        let proxy = Self { address, relay, listening: listening.clone(), accepting };
        drop(listening.wait_for(|listens| *listens).await);
        Ok(proxy)
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open now. One whose client has left during a [`hold`](Self::hold) still counts.
    pub fn connections(&self) -> usize {
        self.relay.open()
    }

    /// Waits until exactly `count` connections are open.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; it only watches.
    pub async fn wait_for_connections(&self, count: usize) {
        self.relay.until_open(|open| *open == count).await;
    }

    /// Resets all connections and refuses new ones until [`restore`](Self::restore). On return both are true.
    ///
    /// # Cancel safety
    ///
    /// The cut happens in any case; only the wait for its end is lost.
    pub async fn cut(&self) {
        self.relay.change(|conditions| {
            conditions.cut = true;
            conditions.cuts += 1;
        });
        drop(self.listening.clone().wait_for(|listens| !listens).await);
        self.wait_for_connections(0).await;
    }

    /// Resets all connections; new ones are served. On return none of those is open any more.
    ///
    /// # Cancel safety
    ///
    /// The reset happens in any case; only the wait for its end is lost.
    pub async fn reset(&self) {
        self.relay.change(|conditions| conditions.cuts += 1);
        self.relay.until_cut().await;
    }

    /// Forwards nothing in either direction and closes nothing; new connections are accepted and stay silent.
    ///
    /// Bytes sent meanwhile arrive when the hold is lifted.
    pub fn hold(&self) {
        self.relay.change(|conditions| {
            conditions.to_client.held = true;
            conditions.to_server.held = true;
        });
    }

    /// Holds only what the server sends: requests still arrive and take effect.
    pub fn hold_towards_client(&self) {
        self.relay.change(|conditions| conditions.to_client.held = true);
    }

    /// Holds only what the client sends, new connections included.
    pub fn hold_towards_server(&self) {
        self.relay.change(|conditions| conditions.to_server.held = true);
    }

    /// Hands every byte over `delay` after its arrival, in each direction; throughput stays.
    pub fn delay(&self, delay: Duration) {
        self.relay.change(|conditions| {
            conditions.to_client.delay = delay;
            conditions.to_server.delay = delay;
        });
    }

    /// Limits each direction of each connection to `bytes_per_second`.
    pub fn trickle(&self, bytes_per_second: NonZeroU64) {
        self.relay.change(|conditions| {
            conditions.to_client.rate = Some(bytes_per_second);
            conditions.to_server.rate = Some(bytes_per_second);
        });
    }

    /// Sends new connections to `target`; open ones stay where they are.
    pub fn retarget(&self, target: SocketAddr) {
        self.relay.change(|conditions| conditions.target = target);
    }

    /// Lifts every fault; on return new connections are accepted. The target stays.
    ///
    /// # Cancel safety
    ///
    /// The faults are lifted in any case; only the wait for the listener is lost.
    pub async fn restore(&self) {
        self.relay.change(Conditions::restore);
        drop(self.listening.clone().wait_for(|listens| *listens).await);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.relay.end();
    }
}

async fn accept(relay: Arc<Relay>, port: HeldPort, listens: watch::Sender<bool>) {
    let mut conditions = relay.conditions();
    loop {
        until(&mut conditions, |conditions| !conditions.cut).await;
        let Ok(listener) = port.listen() else {
            // Out of file descriptors at worst: the next turn may have one.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        listens.send_replace(true);
        loop {
            tokio::select! {
                biased;
                () = until(&mut conditions, |conditions| conditions.cut) => break,
                accepted = next(&relay, &listener) => match accepted {
                    Ok((client, _)) => relay.adopt(client),
                    Err(_) => sleep(Duration::from_millis(10)).await,
                },
            }
        }
        drop(listener);
        listens.send_replace(false);
    }
}

async fn next(relay: &Relay, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    relay.until_open(|open| *open < MAX_CONNECTIONS).await;
    listener.accept().await
}

/// A port that stays ours while nobody listens on it.
///
/// The bound socket never listens: connections are refused, no other process gets the port between a cut and a
/// restore, and a client that keeps dialling can't be connected to itself.
struct HeldPort {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl HeldPort {
    fn reserve() -> io::Result<Self> {
        let bound = Self::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: bound.local_addr()?, _bound: bound })
    }

    fn listen(&self) -> io::Result<TcpListener> {
        Self::bind(self.address)?.listen(BACKLOG)
    }

    fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        Ok(socket)
    }
}
