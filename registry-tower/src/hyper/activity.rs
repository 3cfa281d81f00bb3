//! What goes on over one connection.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::sleep,
};
use tower_service::Service;

use crate::body::{End, Guard, Until};

/// The requests of one connection, and what is written for them.
#[derive(Debug, Default)]
pub(super) struct Activity {
    requests: AtomicUsize,
    was_used: AtomicBool,
    /// How often something was written.
    writes: AtomicUsize,
    /// Whether there is more to write than the system takes at present.
    is_blocked: AtomicBool,
    changed: Notify,
}

/// One request, until the end of its response's body.
#[derive(Debug)]
pub(super) struct Active(Arc<Activity>);

/// A service that notes its requests, and tells the application who asks.
#[derive(Clone, Debug)]
pub(super) struct Noting<S> {
    pub(super) inner: S,
    pub(super) activity: Arc<Activity>,
    #[cfg(feature = "axum")]
    pub(super) peer: std::net::SocketAddr,
}

impl Activity {
    fn begin(self: &Arc<Self>) -> Active {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.was_used.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
        Active(Arc::clone(self))
    }

    /// Waits for the first request.
    pub(super) async fn first(&self) {
        self.until(|activity| activity.was_used.load(Ordering::SeqCst)).await;
    }

    /// Waits until there was no request for `long`, and no write either, for which a peer that reads slowly has
    /// `blocked`: a body is over for us when its last frame is taken, and that may be all of a long answer.
    pub(super) async fn idle_for(&self, long: Duration, blocked: Duration) {
        loop {
            self.until(|activity| activity.requests.load(Ordering::SeqCst) == 0).await;
            let writes = self.writes.load(Ordering::SeqCst);
            let waiting = async {
                sleep(long).await;
                if self.is_blocked.load(Ordering::SeqCst) {
                    sleep(blocked.saturating_sub(long)).await;
                }
            };
            tokio::select! {
                () = waiting => if self.writes.load(Ordering::SeqCst) == writes { return },
                () = self.until(|activity| activity.requests.load(Ordering::SeqCst) > 0) => {}
            }
        }
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before the look, so that no change in between is missed.
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }
}

/// A connection that notes what is written to it.
#[derive(Debug)]
pub(super) struct NotingIo {
    pub(super) io: TcpStream,
    pub(super) activity: Arc<Activity>,
}

impl NotingIo {
    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.activity.is_blocked.store(written.is_pending(), Ordering::SeqCst);
        if written.is_ready() {
            self.activity.writes.fetch_add(1, Ordering::SeqCst);
        }
        written
    }
}

impl AsyncRead for NotingIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for NotingIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Guard for Active {
    fn ended(self, _: End) {}
}

impl<S, A, B> Service<Request<A>> for Noting<S>
where
    S: Service<Request<A>, Response = Response<B>, Future: Send + 'static>,
    B: Body,
{
    type Response = Response<Until<B, Active>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[cfg_attr(not(feature = "axum"), expect(unused_mut, reason = "only axum wants to know the peer"))]
    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        #[cfg(feature = "axum")]
        request.extensions_mut().insert(axum::extract::ConnectInfo(self.peer));
        let active = self.activity.begin();
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Until::new(body, active))) })
    }
}
