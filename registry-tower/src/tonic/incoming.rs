//! Connections that can be cut.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use ::tonic::transport::server::Connected;
use futures_core::Stream;
use registry_core::InFlight;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use crate::listen::Connections;

/// The connections of a listener until new work is refused, and those that have come by then.
pub(super) fn connections(
    listener: TcpListener,
    in_flight: InFlight,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let connections = Connections::new(listener, in_flight.clone());
    futures_util::stream::unfold((connections, in_flight), async |(mut connections, in_flight)| {
        let (io, _) = connections.next().await?;
        let connection = Connection::new(io, in_flight.clone());
        Some((Ok(connection), (connections, in_flight)))
    })
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
