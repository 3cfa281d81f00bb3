//! Connections that can be cut.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use ::tonic::transport::server::Connected;
use futures_core::Stream;
use registry_core::InFlight;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};

use crate::listen::Connections;

/// How long a peer has to close its side after this one: enough to read what the system has in its buffers, and not so
/// long that those who never close pile up.
const LINGER: Duration = Duration::from_secs(10);

/// The connections of a listener until new work is refused, and those that have come by then.
pub(super) fn connections(
    listener: TcpListener,
    in_flight: InFlight,
    traffic: Arc<Traffic>,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let connections = Connections::new(listener, in_flight.clone());
    futures_util::stream::unfold(
        (connections, in_flight, traffic),
        async |(mut connections, in_flight, traffic)| {
            let (io, _) = connections.next().await?;
            let connection = Connection::new(io, in_flight.clone(), Arc::clone(&traffic));
            Some((Ok(connection), (connections, in_flight, traffic)))
        },
    )
}

/// What goes on over all connections.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// How often something was read or written.
    moves: AtomicUsize,
    /// How many connections have more to write than the system takes at present: their peers read slowly.
    blocked: AtomicUsize,
}

impl Traffic {
    pub(super) fn moves(&self) -> usize {
        self.moves.load(Ordering::SeqCst)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::SeqCst) > 0
    }
}

/// A connection that ends when the drain does: a stream that hangs must not outlive it.
///
/// When it is closed from this side, it goes on reading until the peer closes too, or for [`LINGER`]: what a peer sends
/// to a closed socket, a ping or more credit, is answered by a reset, and the system then forgets what it had still to
/// send of the last answers (RFC 9112, section 9.6 has the same of HTTP/1).
pub(super) struct Connection {
    io: TcpStream,
    aborted: Pin<Box<dyn Future<Output = ()> + Send>>,
    traffic: Arc<Traffic>,
    is_blocked: bool,
    /// Since when it is closed from this side.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    fn new(io: TcpStream, in_flight: InFlight, traffic: Arc<Traffic>) -> Self {
        let aborted = Box::pin(async move { in_flight.aborted().await });
        Self { io, aborted, traffic, is_blocked: false, lingering: None }
    }

    /// Only asked when there is nothing to do, so that a busy connection doesn't pay for it.
    fn pending<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.aborted.as_mut().poll(cx).map(|()| Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn note(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.block(written.is_pending());
        match written {
            Poll::Pending => self.pending(cx),
            ready @ Poll::Ready(_) => {
                self.traffic.moves.fetch_add(1, Ordering::SeqCst);
                ready
            }
        }
    }

    fn block(&mut self, is_blocked: bool) {
        match (std::mem::replace(&mut self.is_blocked, is_blocked), is_blocked) {
            (false, true) => drop(self.traffic.blocked.fetch_add(1, Ordering::SeqCst)),
            (true, false) => drop(self.traffic.blocked.fetch_sub(1, Ordering::SeqCst)),
            _ => {}
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.block(false);
    }
}

impl Connected for Connection {
    type ConnectInfo = <TcpStream as Connected>::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Pending => this.pending(cx),
            ready @ Poll::Ready(_) => {
                this.traffic.moves.fetch_add(1, Ordering::SeqCst);
                ready
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.note(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.note(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            this.lingering = Some(Box::pin(sleep(LINGER)));
        }
        let mut scratch = [0; 1024];
        loop {
            let mut unread = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *this).poll_read(cx, &mut unread) {
                Poll::Ready(Ok(())) if !unread.filled().is_empty() => {}
                // The peer has closed too, or is gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        this.lingering.as_mut().map_or(Poll::Pending, |lingering| lingering.as_mut().poll(cx).map(Ok))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.io).finish()
    }
}
