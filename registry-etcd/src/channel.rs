//! One endpoint: a plain HTTP/2 channel, and etcd-client's stubs on top of it.
//!
//! Not etcd-client's own balancer, whose constant load keeps sending to a dead endpoint; health is ours, in
//! [`Pool`](crate::pool::Pool). A lane that failed is thrown away and built anew, which reads the certificate files
//! again. The token is added here, from one cell that all lanes share, as etcd's tokens are valid on every member.

use std::{
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use etcd_client::{AuthClient, Client, ConnectOptions, KvClient, LeaseClient, WatchClient};
use http::HeaderValue;
use registry_core::{ErrorKind, TlsFiles};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tower::util::BoxCloneSyncService;
use tower_service::Service;

use crate::{
    config::EtcdConfig,
    error::{Fault, Reaction},
};

/// Largest answer that is read, for lists and watches; tonic's default of 4 MiB breaks large services.
pub(crate) const MAX_ANSWER: usize = 128 * 1024 * 1024;
/// HTTP/2 pings while a stream is open: a half-open connection is noticed within their sum. etcd punishes pings
/// that come sooner than 5 s after each other, and pings on idle connections.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// The one call that is made without a token, as it fetches one.
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";

/// The stubs of one endpoint; clones share the connection.
#[derive(Clone)]
pub(crate) struct Lane {
    pub(crate) node: usize,
    /// Tells this lane from its successors on the same endpoint.
    pub(crate) serial: u64,
    /// `host:port`.
    pub(crate) endpoint: Arc<str>,
    /// Refused by a member without a leader.
    pub(crate) kv: KvClient,
    /// Answered by a member without a leader too.
    pub(crate) local_kv: KvClient,
    pub(crate) lease: LeaseClient,
    pub(crate) watch: WatchClient,
    pub(crate) auth: AuthClient,
}

/// The token that every call carries, with a generation that tells whether a refused one was replaced since.
#[derive(Debug, Default)]
pub(crate) struct TokenCell(RwLock<(u64, Option<HeaderValue>)>);

impl TokenCell {
    pub(crate) fn generation(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1.is_none()
    }

    /// Replaces the token and returns the new generation.
    pub(crate) fn set(&self, token: Option<HeaderValue>) -> u64 {
        let mut cell = self.0.write().unwrap_or_else(PoisonError::into_inner);
        cell.0 += 1;
        cell.1 = token;
        cell.0
    }

    fn header(&self) -> Option<HeaderValue> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

/// Builds the lane of an endpoint. Reads files, but doesn't connect: the first call does.
pub(crate) async fn open(
    config: &EtcdConfig,
    node: usize,
    serial: u64,
    token: &Arc<TokenCell>,
) -> Result<Lane, Fault> {
    let authority = &config.endpoints[node];
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{authority}"))
        .map_err(|e| unusable(format!("{authority} is not an address: {e}")))?
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false);
    if let Some(files) = &config.tls {
        endpoint = endpoint
            .tls_config(tls(files).await?)
            .map_err(|e| unusable(format!("the TLS files can't be used: {}", root_cause(&e))))?;
    }
    let channel = WithToken { inner: endpoint.connect_lazy(), token: Arc::clone(token) };
    let strict = stubs(&channel, true).await?;
    let local = stubs(&channel, false).await?;
    Ok(Lane {
        node,
        serial,
        endpoint: authority.as_str().into(),
        kv: strict.kv_client().max_decoding_message_size(MAX_ANSWER),
        local_kv: local.kv_client().max_decoding_message_size(MAX_ANSWER),
        lease: strict.lease_client(),
        watch: strict.watch_client().max_decoding_message_size(MAX_ANSWER),
        auth: local.auth_client(),
    })
}

async fn stubs(channel: &WithToken, require_leader: bool) -> Result<Client, Fault> {
    let channel = etcd_client::Channel::Custom(BoxCloneSyncService::new(channel.clone()));
    // Without a user this makes no call.
    let options = ConnectOptions::new().with_require_leader(require_leader);
    Client::from_channel(channel, Some(options)).await.map_err(Fault::from)
}

async fn tls(files: &TlsFiles) -> Result<ClientTlsConfig, Fault> {
    let mut tls = ClientTlsConfig::new();
    tls = match &files.ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(read(ca).await?)),
        None => tls.with_enabled_roots(),
    };
    if let Some((cert, key)) = &files.identity {
        tls = tls.identity(Identity::from_pem(read(cert).await?, read(key).await?));
    }
    if let Some(domain) = &files.domain {
        tls = tls.domain_name(domain);
    }
    Ok(tls)
}

async fn read(path: &std::path::Path) -> Result<Vec<u8>, Fault> {
    tokio::fs::read(path).await.map_err(|e| unusable(format!("{} can't be read: {e}", path.display())))
}

/// A file may be in the middle of being replaced, so this passes like an unreachable endpoint.
fn unusable(message: String) -> Fault {
    Fault::new(ErrorKind::Unavailable, Reaction::NextEndpoint, message)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    text
}

/// Adds the token to every call but the one that fetches it.
#[derive(Clone)]
struct WithToken {
    inner: Channel,
    token: Arc<TokenCell>,
}

impl Service<http::Request<tonic::body::Body>> for WithToken {
    type Response = http::Response<tonic::body::Body>;
    type Error = tower::BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        if request.uri().path() != AUTHENTICATE
            && let Some(token) = self.token.header()
        {
            request.headers_mut().insert("token", token);
        }
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map_err(Into::into) })
    }
}
