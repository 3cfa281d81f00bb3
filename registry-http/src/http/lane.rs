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

#[cfg(feature = "eureka")]
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use registry_core::{ErrorKind, TlsFiles};
use reqwest::{
    Certificate, Client, Identity,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use tokio::time::{Instant, timeout_at};

use super::{
    Answer, Call,
    body::Reading,
    config::Common,
    error::{Cause, Fault},
};

/// Idle connections are closed before most servers and middle boxes do it.
const IDLE: Duration = Duration::from_secs(50);
/// Idle connections that are kept: what a burst of renewals uses.
const MAX_IDLE: usize = 64;
/// TCP's own probes, for connections that hold a long poll open.
const PROBE: Duration = Duration::from_secs(15);
/// A connection that has sent something is given up when nothing of it was acknowledged for so long: a server that was cut
/// off sends no word of it.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

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

    /// One attempt, within its time.
    pub(crate) async fn attempt(&self, config: &Common, call: &Call, time: Time) -> Result<Answer, Fault> {
        let client = self.open(config).await?;
        let url = format!("{}{}", base(&self.server, config), call.target);
        let request = client.request(call.method.clone(), url).headers(call.headers.clone());
        #[cfg(feature = "eureka")]
        let request = if config.gzip { request.header(ACCEPT_ENCODING, "gzip") } else { request };
        let request = if call.body.is_empty() { request } else { request.body(call.body.clone()) };
        let mut response = time.limit(request.send()).await??;
        let headers = std::mem::take(response.headers_mut());
        let status = response.status();
        let announced = response.content_length().unwrap_or(0);
        let mut body = Reading::new(call.limit, announced)?;
        #[cfg(feature = "eureka")]
        if config.gzip && headers.get(CONTENT_ENCODING).is_some_and(|coding| coding == "gzip") {
            body = body.compressed();
        }
        while let Some(chunk) = time.limit(response.chunk()).await?? {
            body.take(&chunk)?;
        }
        Ok(Answer { status, headers, body: body.finish()?, server: Arc::clone(&self.server) })
    }
}

/// How long an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    began: Instant,
    deadline: Instant,
    /// Whether another server is to be asked if this one falls silent.
    is_shared: bool,
    /// Whether bytes that flow are given all the time.
    is_list: bool,
}

impl Time {
    /// Of an attempt that begins now.
    pub(crate) fn new(call: &Call, deadline: Instant, is_shared: bool) -> Self {
        Self { began: Instant::now(), deadline, is_shared, is_list: call.is_list }
    }

    /// Until when the attempt goes on if nothing more comes: where others are to have the rest, half of the time that there
    /// was at its start. A long list whose bytes flow isn't silence, and may take all the time: half of what is left now.
    pub(crate) fn silence(self) -> Instant {
        let from = if self.is_list { Instant::now() } else { self.began };
        let left = self.deadline.saturating_duration_since(from);
        if self.is_shared { from + left / 2 } else { self.deadline }
    }

    async fn limit<F: Future>(self, progress: F) -> Result<F::Output, Fault> {
        timeout_at(self.silence(), progress).await.map_err(|_| {
            let took = self.began.elapsed();
            Fault::new(ErrorKind::Timeout, true, format!("no answer within {took:?}"))
        })
    }
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
    // What may be compressed is decompressed by us, as nobody else counts what comes out of how much.
    builder = builder.no_gzip().no_brotli().no_deflate().no_zstd();
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    {
        builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
    }
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
