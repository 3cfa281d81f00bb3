//! Connections that can be cut.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use ::tonic::transport::server::Connected;
use futures_core::Stream;
use registry_core::InFlight;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// Pause after an error of the listener itself, such as too many open files: it would repeat at once.
const PAUSE: Duration = Duration::from_secs(1);

/// How many connections can be in a listener's queue, as tokio asks for.
const BACKLOG: usize = 1_024;

/// The connections of a listener until new work is refused. What is in the listener's queue by then is still taken:
/// closing it would reset those.
pub(super) fn connections(
    listener: TcpListener,
    in_flight: InFlight,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    futures_util::stream::unfold((listener, in_flight, BACKLOG), async |(listener, in_flight, queued)| {
        // Without a bound a crowd of newcomers would keep the listener open.
        let queued = if in_flight.is_refusing() { queued.checked_sub(1)? } else { queued };
        let accepted = tokio::select! {
            biased;
            connection = accept(&listener) => Some(connection),
            () = in_flight.refusing() => None,
        };
        let connection = Connection::new(accepted?, in_flight.clone());
        Some((Ok(connection), (listener, in_flight, queued)))
    })
}

async fn accept(listener: &TcpListener) -> TcpStream {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                // Answers are small, and Nagle's algorithm would hold them back.
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY can't be set");
                }
                return connection;
            }
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) => {
            }
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; trying again in {PAUSE:?}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// A connection that ends when the drain does: a stream that hangs must not outlive it.
pub(super) struct Connection {
    io: TcpStream,
    aborted: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Connection {
    fn new(io: TcpStream, in_flight: InFlight) -> Self {
        Self { io, aborted: Box::pin(async move { in_flight.aborted().await }) }
    }

    /// Only asked when there is nothing to do, so that a busy connection doesn't pay for it.
    fn pending<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.aborted.as_mut().poll(cx).map(|()| Err(io::ErrorKind::ConnectionAborted.into()))
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
            ready @ Poll::Ready(_) => ready,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write(cx, buf) {
            Poll::Pending => this.pending(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.io).poll_write_vectored(cx, bufs) {
            Poll::Pending => this.pending(cx),
            ready @ Poll::Ready(_) => ready,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.io).finish()
    }
}
