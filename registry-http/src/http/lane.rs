//! One server: its pooled connections, and one attempt at a call.
//!
//! A client of its own per server, as the name in the certificate is given by way of resolving it, and as certificate
//! files are read again by building the client anew.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use registry_core::{ErrorKind, TlsFiles};
use reqwest::{
    Certificate, Client, Identity, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use tokio::time::{Instant, timeout_at};

use super::{
    Answer, Call,
    config::Common,
    error::{Cause, Fault},
};

/// Idle connections are closed before most servers and middle boxes do it.
const IDLE: Duration = Duration::from_secs(50);
/// Idle connections that are kept: what a burst of renewals uses.
const MAX_IDLE: usize = 64;
/// TCP's own probes, for connections that hold a long poll open.
const PROBE: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Lane {
    /// `host:port`.
    pub(crate) server: Arc<str>,
    slot: Mutex<Slot>,
}

/// The client of the moment.
#[derive(Debug, Default)]
struct Slot {
    /// Tells it from its predecessors.
    serial: u64,
    client: Option<Client>,
}

impl Lane {
    pub(crate) fn new(server: &str) -> Self {
        Self { server: server.into(), slot: Mutex::default() }
    }

    /// Which client an attempt that begins now would use.
    pub(crate) fn serial(&self) -> u64 {
        self.slot().serial
    }

    /// Throws the connections of client `serial` away, so that the next attempt reads the certificate files again; those
    /// that were made since are innocent.
    pub(crate) fn reset(&self, serial: u64) {
        let mut slot = self.slot();
        if slot.serial == serial {
            *slot = Slot { serial: serial + 1, client: None };
        }
    }

    /// Makes sure that a client can be built, which reads the files.
    pub(crate) async fn open(&self, config: &Common) -> Result<Client, Fault> {
        if let Some(client) = &self.slot().client {
            return Ok(client.clone());
        }
        let client = build(&self.server, config).await?;
        // Two may get here at once; one of the clients is dropped after its call.
        self.slot().client = Some(client.clone());
        Ok(client)
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One attempt, which ends by `deadline`.
    pub(crate) async fn attempt(
        &self,
        config: &Common,
        call: &Call,
        deadline: Instant,
    ) -> Result<Answer, Fault> {
        let client = self.open(config).await?;
        let began = Instant::now();
        match timeout_at(deadline, self.exchange(client, config, call)).await {
            Ok(result) => result,
            Err(_) => {
                let took = began.elapsed();
                Err(Fault::new(ErrorKind::Timeout, true, format!("no answer within {took:?}")))
            }
        }
    }

    async fn exchange(&self, client: Client, config: &Common, call: &Call) -> Result<Answer, Fault> {
        let url = format!("{}{}", base(&self.server, config), call.target);
        let request = client.request(call.method.clone(), url).headers(call.headers.clone());
        let request = if call.body.is_empty() { request } else { request.body(call.body.clone()) };
        let mut response = request.send().await?;
        let headers = std::mem::take(response.headers_mut());
        let status = response.status();
        let body = read(&mut response, call.limit).await?;
        Ok(Answer { status, headers, body, server: Arc::clone(&self.server) })
    }
}

/// The body, decompressed by the client; refused as soon as it is longer than the limit.
async fn read(response: &mut Response, limit: usize) -> Result<Bytes, Fault> {
    let too_long = || {
        let message = format!("the answer is longer than {limit} bytes");
        Fault::new(ErrorKind::Protocol, true, message)
    };
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |length| length > limit) {
        return Err(too_long());
    }
    let mut whole = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if whole.len() + chunk.len() > limit {
            return Err(too_long());
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

fn base(server: &str, config: &Common) -> String {
    match &config.tls {
        None => format!("http://{server}"),
        Some(TlsFiles { domain: None, .. }) => format!("https://{server}"),
        Some(TlsFiles { domain: Some(domain), .. }) => {
            let port = server.rsplit_once(':').map_or("443", |(_, port)| port);
            format!("https://{domain}:{port}")
        }
    }
}

async fn build(server: &str, config: &Common) -> Result<Client, Fault> {
    let mut builder = Client::builder()
        .connect_timeout(config.connect_timeout)
        .http1_only()
        .no_proxy()
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .tcp_keepalive(PROBE)
        .tcp_nodelay(true)
        .user_agent(concat!("service-registry/", env!("CARGO_PKG_VERSION")));
    #[cfg(feature = "eureka")]
    {
        builder = builder.gzip(config.gzip);
    }
    #[cfg(not(feature = "eureka"))]
    {
        builder = builder.no_gzip();
    }
    builder = builder.no_brotli().no_deflate().no_zstd();
    if config.tls.is_none() {
        // It would read the system's certificates all the same, and fail where there are none.
        builder = builder.tls_certs_only([]);
    }
    if let Some(files) = &config.tls {
        builder = builder.tls_backend_rustls().https_only(true);
        if let Some(ca) = &files.ca {
            let certificates = Certificate::from_pem_bundle(&pem(ca).await?).map_err(|e| unusable(&e))?;
            if certificates.is_empty() {
                return Err(unreadable(ca, "it holds no certificate"));
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let Some((cert, key)) = &files.identity {
            let mut both = pem(cert).await?;
            both.push(b'\n');
            both.extend(pem(key).await?);
            builder = builder.identity(Identity::from_pem(&both).map_err(|e| unusable(&e))?);
        }
        if files.domain.is_some() {
            builder = builder.dns_resolver(Fixed(server.into()));
        }
    }
    builder.build().map_err(|e| unusable(&e))
}

async fn pem(path: &Path) -> Result<Vec<u8>, Fault> {
    tokio::fs::read(path).await.map_err(|e| unreadable(path, &e.to_string()))
}

/// A file may be in the middle of being replaced, so this passes like an unreachable server.
fn unreadable(path: &Path, why: &str) -> Fault {
    Fault::new(ErrorKind::Unavailable, false, format!("{} can't be read: {why}", path.display()))
}

fn unusable(error: &reqwest::Error) -> Fault {
    let mut root: &dyn std::error::Error = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    let cause = Some(Cause(root.to_string()));
    Fault { cause, ..Fault::new(ErrorKind::Unavailable, false, "the TLS files can't be used") }
}

/// Finds the server under whichever name its certificate has.
#[derive(Debug)]
struct Fixed(Arc<str>);

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let server = Arc::clone(&self.0);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host(&*server).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
