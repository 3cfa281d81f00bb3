//! A balanced channel for generated clients.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ::tonic::{Status, body::Body};
use http::{Request, Response};
use registry_core::{CallOptions, Upstream};
use tower_service::Service;

use super::{
    deadline::Deadline,
    rules::ClassifyTonic,
    status::status_of,
    transport::{Dial, GrpcTransport},
};
use crate::{Balanced, Classify, Idempotent};

/// A channel over an [`Upstream`]: takes the place of tonic's `Channel` in a generated client, as in
/// `GreeterClient::new(GrpcChannel::new(greeters))`.
///
/// - **Each call picks.** Instances that are ejected, draining or gone get none, from that moment on. (tonic's own
///   balanced channel takes an instance that can't be connected to for a ready one.) The pick stays open, counted as in
///   flight, until the call's trailers; their status tells how it went.
/// - **Calls are retried** on another instance, within the upstream's budget, where that is safe: as long as nothing was
///   sent (no connection, a connection that the server is closing, a stream it refuses), and after an `UNAVAILABLE`
///   before any message, or another failure, of calls that are [idempotent](GrpcChannelBuilder::idempotent). See
///   [`ClassifyTonic`]. A request of more than 64 KiB is retried only if nothing of it was sent.
/// - **One connection per instance**, opened at its first call and closed when it leaves the view and its calls are over.
///   No call waits longer than 1 s for one.
/// - **The caller's timeout** (`Request::set_timeout`) is over all attempts, not for each.
/// - TLS as [`GrpcTransport`] has it, with the name that the certificate has to be for.
///
/// Cheap to clone; clones share connections. Needs a tokio runtime when it is called.
///
/// ```
/// use registry_core::{Instance, Target, Upstream, balance::Balance};
/// use registry_tower::tonic::GrpcChannel;
/// use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), registry_core::Error> {
/// let greeters = Upstream::fixed(
///     Target::try_from("greeter")?,
///     [Instance::new("greeter", "grpc://127.0.0.1:1")?],
///     &Balance::default(),
/// );
/// let mut client = HealthClient::new(GrpcChannel::new(greeters));
/// let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
/// assert_eq!(status.code(), tonic::Code::Unavailable);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GrpcChannel {
    balanced: Balanced<Dial>,
    is_idempotent: bool,
}

impl GrpcChannel {
    /// A channel with the defaults.
    #[must_use]
    pub fn new(upstream: Upstream) -> Self {
        Self::builder(upstream).build()
    }

    /// A channel to configure.
    pub fn builder(upstream: Upstream) -> GrpcChannelBuilder {
        GrpcChannelBuilder {
            upstream,
            transport: GrpcTransport::new(),
            classify: Arc::new(ClassifyTonic),
            options: CallOptions::new(),
            replay_limit: None,
            is_idempotent: false,
        }
    }

    /// What it picks from.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        self.balanced.upstream()
    }
}

impl Service<Request<Body>> for GrpcChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Status>> + Send>>;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(deadline) = Deadline::of(request.headers()) {
            request.extensions_mut().insert(deadline);
        }
        if self.is_idempotent {
            request.extensions_mut().get_or_insert(Idempotent(true));
        }
        let sending = self.balanced.call(request);
        Box::pin(async move {
            match sending.await {
                Ok(response) => Ok(response.map(Body::new)),
                Err(error) => Err(status_of(error)),
            }
        })
    }
}

impl fmt::Debug for GrpcChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcChannel")
            .field("balanced", &self.balanced)
            .field("is_idempotent", &self.is_idempotent)
            .finish()
    }
}

/// Configures a [`GrpcChannel`].
#[derive(Clone, Debug)]
#[must_use]
pub struct GrpcChannelBuilder {
    upstream: Upstream,
    transport: GrpcTransport,
    classify: Arc<dyn Classify>,
    options: CallOptions,
    replay_limit: Option<usize>,
    is_idempotent: bool,
}

impl GrpcChannelBuilder {
    /// Whether calls may be processed twice, so that those that break after they were sent are retried too; `false`
    /// by default. A single call says it by an [`Idempotent`] in its request's extensions.
    pub fn idempotent(mut self, is_idempotent: bool) -> Self {
        self.is_idempotent = is_idempotent;
        self
    }

    /// How instances are connected to.
    pub fn transport(mut self, transport: GrpcTransport) -> Self {
        self.transport = transport;
        self
    }

    /// How calls are made: attempts, time per attempt, … A [`CallOptions`] in a request's extensions comes first.
    ///
    /// A [hedge](CallOptions::hedge_after) of an [idempotent](Self::idempotent) call begins if its request was wholly sent by then and kept,
    /// see [`replay_limit`](Self::replay_limit): not while the connection is being made, nor while messages are streamed.
    pub fn options(mut self, options: CallOptions) -> Self {
        self.options = options;
        self
    }

    /// Other rules for what counts as failed, and what is retried.
    pub fn classify(mut self, classify: impl Classify) -> Self {
        self.classify = Arc::new(classify);
        self
    }

    /// How many bytes of a request are kept for another attempt; 64 KiB by default.
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.replay_limit = Some(bytes);
        self
    }

    /// The channel. Nothing is connected yet.
    #[must_use]
    pub fn build(self) -> GrpcChannel {
        let mut balanced =
            Balanced::new(self.upstream, Dial(self.transport)).classify(self.classify).options(self.options);
        if let Some(limit) = self.replay_limit {
            balanced = balanced.replay_limit(limit);
        }
        GrpcChannel { balanced, is_idempotent: self.is_idempotent }
    }
}
