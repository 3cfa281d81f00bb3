//! The connections of a listener, to its end.
//!
//! ```text
//! Open ── new work is refused ──> Leaving ── nobody for NOBODY ──> Closing ── the queue is empty ──> Closed
//!                                    └──────── BACKLOG newcomers ────┴───────────────────────────────┘
//! ```
//!
//! The system completes handshakes by itself and keeps the connections in a queue; closing the listener resets what
//! is in it. So the queue is emptied first: for a moment as before, as peers may be a packet short of being connected,
//! and at last by asking the system itself, because the runtime may not have heard of everybody yet, and may want
//! another task to have its turn. Who connects between the last question and the end is reset all the same; the
//! sockets' interface has no way to do both at once.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use registry_core::InFlight;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// How many connections can wait to be accepted: the backlog that tokio asks for.
const BACKLOG: usize = 1024;
/// How long nobody has to come before the listener closes.
const NOBODY: Duration = Duration::from_millis(10);
/// Pause after an error of the listener itself, such as too many open files: it would repeat at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The connections of a listener until new work is refused, and those that have come by then.
#[derive(Debug)]
pub(crate) struct Connections {
    state: State,
    in_flight: InFlight,
    /// How many are taken at most after new work was refused: without a bound a crowd of newcomers would keep the
    /// listener open.
    left: usize,
}

#[derive(Debug)]
enum State {
    Open(TcpListener),
    Leaving(TcpListener),
    Closing(std::net::TcpListener),
    Closed,
}

impl Connections {
    pub(crate) fn new(listener: TcpListener, in_flight: InFlight) -> Self {
        Self { state: State::Open(listener), in_flight, left: BACKLOG }
    }

    /// The next connection, or `None` once the listener is closed.
    pub(crate) async fn next(&mut self) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = match &self.state {
                State::Open(listener) => tokio::select! {
                    biased;
                    () = self.in_flight.refusing() => Err(ErrorKind::WouldBlock.into()),
                    accepted = listener.accept() => accepted,
                },
                State::Leaving(listener) => timeout(NOBODY, listener.accept())
                    .await
                    .unwrap_or_else(|_| Err(ErrorKind::WouldBlock.into())),
                State::Closing(listener) => ask(listener),
                State::Closed => return None,
            };
            match accepted {
                Ok((stream, peer)) => {
                    self.take_one();
                    // Answers are small, and Nagle's algorithm would hold them back.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY can't be set");
                    }
                    return Some((stream, peer));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.go_on(),
                // Its peer was quicker.
                Err(error) if is_of_connection(&error) => self.take_one(),
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted; trying again in {PAUSE:?}");
                    self.take_one();
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn take_one(&mut self) {
        if !matches!(self.state, State::Open(_)) {
            self.left -= 1;
            if self.left == 0 {
                self.state = State::Closed;
            }
        }
    }

    fn go_on(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(listener) => State::Leaving(listener),
            State::Leaving(listener) => listener.into_std().map_or(State::Closed, State::Closing),
            State::Closing(_) | State::Closed => State::Closed,
        };
    }
}

/// Asks the system for a connection, without waiting.
fn ask(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((TcpStream::from_std(stream)?, peer))
}

/// Whether it concerns one connection and not the listener.
fn is_of_connection(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use registry_core::Drain;
    use tokio::net::TcpSocket;

    use super::*;
    use crate::world::World;

    fn listener() -> TcpListener {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.listen(1024).unwrap()
    }

    fn connect(address: SocketAddr, count: usize) -> Vec<std::net::TcpStream> {
        (0..count).map(|_| std::net::TcpStream::connect(address).unwrap()).collect()
    }

    /// Of a client that refuses new work.
    async fn refusing() -> (World, InFlight, registry_core::InFlightGuard) {
        let world = World::with(1).await;
        let in_flight = world.client.in_flight();
        let pending = in_flight.enter();
        let client = world.client.clone();
        tokio::spawn(async move { client.drain(Drain::new().propagate(Duration::ZERO)).await });
        in_flight.refusing().await;
        (world, in_flight, pending)
    }

    #[tokio::test]
    async fn all_that_wait_to_be_accepted_are_accepted_before_the_port_closes() {
        let (_world, in_flight, _pending) = refusing().await;
        let listener = listener();
        let address = listener.local_addr().unwrap();
        // More than one turn of a task is good for.
        let waiting = connect(address, 300);
        let mut connections = Connections::new(listener, in_flight);
        let mut accepted = Vec::new();
        while let Some(connection) = connections.next().await {
            accepted.push(connection);
        }
        assert_eq!(accepted.len(), waiting.len());
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn the_runtime_need_not_have_heard_of_a_connection() {
        let (_world, in_flight, _pending) = refusing().await;
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let mut connections = Connections::new(listener, in_flight);
        // As if the time had run out at the moment at which they came.
        connections.go_on();
        connections.go_on();
        let waiting = connect(address, 300);
        let mut accepted = Vec::new();
        while let Some(Some(connection)) = futures_util::FutureExt::now_or_never(connections.next()) {
            accepted.push(connection);
        }
        assert_eq!(accepted.len(), waiting.len());
    }

    #[tokio::test]
    async fn a_crowd_of_newcomers_does_not_keep_the_port_open() {
        let (_world, in_flight, _pending) = refusing().await;
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let mut connections = Connections::new(listener, in_flight);
        connections.left = 3;
        let _waiting = connect(address, 5);
        let mut accepted = Vec::new();
        while let Some(connection) = connections.next().await {
            accepted.push(connection);
        }
        assert_eq!(accepted.len(), 3);
    }
}
