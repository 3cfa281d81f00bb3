//! The connection to one instance.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use ::tonic::{
    TimeoutExpired,
    body::Body,
    transport::{Channel, Endpoint},
};
use http::{Request, Response};
use tokio::time::{Instant, sleep};
use tower_service::Service;

use super::{
    deadline::Deadline,
    rules::{is_late, is_refused},
    sent::Sent,
};
use crate::{BoxError, NotSent, Replay, connect::Blameless};

/// A lazily connected channel to one instance, which says of each error whether the request was sent.
///
/// tonic's channel queues what comes while it connects, and connects anew for each request in the queue: with an
/// address that swallows packets the tenth request would wait for ten connect timeouts. So no request waits longer
/// than `connect_within` until it is sent, and what it waited for is thrown away, as nobody drives a connection
/// attempt that nobody waits for: the next request would get its stale failure.
#[derive(Clone)]
pub(super) struct Link(Arc<Shared>);

struct Shared {
    endpoint: Endpoint,
    connect_within: Duration,
    current: Mutex<Current>,
}

struct Current {
    channel: Channel,
    /// Counts the channels of this link.
    number: u64,
    /// When the last answer came through it.
    answered: Option<Instant>,
}

impl Link {
    /// Needs a tokio runtime.
    pub(super) fn new(endpoint: Endpoint, connect_within: Duration) -> Self {
        let current = Current { channel: endpoint.connect_lazy(), number: 0, answered: None };
        Self(Arc::new(Shared { endpoint, connect_within, current: Mutex::new(current) }))
    }

    async fn send(self, request: Request<Replay<Body>>) -> Result<Response<Body>, BoxError> {
        let (mut head, body) = request.into_parts();
        let mut patience = self.0.connect_within;
        let mut is_short = false;
        if let Some(deadline) = head.extensions.get::<Deadline>() {
            let left = deadline.left().ok_or_else(|| Blameless::new(TimeoutExpired(())))?;
            Deadline::write(left, &mut head.headers);
            patience = patience.min(left);
            is_short = deadline.is_short(left);
        }
        let (sent, body) = Sent::watch(body);
        let (mut channel, number) = self.current();
        let request = Request::from_parts(head, Body::new(body));
        let exchange = async move {
            poll_fn(|cx| channel.poll_ready(cx)).await?;
            channel.call(request).await
        };
        tokio::pin!(exchange);
        let answer = tokio::select! {
            biased;
            answer = &mut exchange => answer,
            () = sleep(patience) => {
                if sent.abandon() {
                    self.replace(number);
                    if is_short && patience < self.0.connect_within {
                        return Err(Blameless::new(TimeoutExpired(())).into());
                    }
                    return Err(NotSent::new(Unconnected(patience)).into());
                }
                exchange.await
            }
        };
        match answer {
            Ok(response) => {
                self.answered(number);
                Ok(response)
            }
            Err(error) if is_short && is_late(&error) => Err(Blameless::new(error).into()),
            Err(error) if sent.abandon() || is_refused(&error) => Err(NotSent::new(error).into()),
            Err(error) => Err(error.into()),
        }
    }

    fn current(&self) -> (Channel, u64) {
        let current = self.lock();
        (current.channel.clone(), current.number)
    }

    fn answered(&self, number: u64) {
        let mut current = self.lock();
        if current.number == number {
            current.answered = Some(Instant::now());
        }
    }

    /// Connects anew, unless somebody has, or answers come: then it is not the connection that is missing, but a
    /// stream that the server would grant.
    fn replace(&self, number: u64) {
        let mut current = self.lock();
        let is_alive = current.answered.is_some_and(|at| at.elapsed() < self.0.connect_within);
        if current.number == number && !is_alive {
            let fresh =
                Current { channel: self.0.endpoint.connect_lazy(), number: number + 1, answered: None };
            let stale = std::mem::replace(&mut *current, fresh);
            drop(current);
            drop(stale);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Request<Replay<Body>>> for Link {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Replay<Body>>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("endpoint", &self.0.endpoint.uri()).finish_non_exhaustive()
    }
}

/// There was no connection in time.
#[derive(Debug)]
struct Unconnected(Duration);

impl fmt::Display for Unconnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection within {:?}", self.0)
    }
}

impl std::error::Error for Unconnected {}
