//! What goes on over one connection.

use std::{
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
use tokio::{sync::Notify, time::sleep};
use tower_service::Service;

use crate::body::{End, Guard, Until};

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    requests: AtomicUsize,
    was_used: AtomicBool,
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

    /// Waits until there was no request for `long`.
    pub(super) async fn idle_for(&self, long: Duration) {
        loop {
            self.until(|activity| activity.requests.load(Ordering::SeqCst) == 0).await;
            tokio::select! {
                () = sleep(long) => return,
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
