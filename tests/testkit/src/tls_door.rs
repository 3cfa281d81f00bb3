//! TLS in front of a server that speaks none.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certs::TestCert;

/// Time for a handshake, so that whoever says nothing isn't kept for ever.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A listener on 127.0.0.1 that ends TLS and hands what is inside to one server.
///
/// It shows one certificate, which can be another one at any time: what a certificate costs a client that isn't
/// trusted, has expired, or is replaced while the client is there. Its tasks run on the runtime that started it and end
/// when it is dropped, with all connections.
#[derive(Debug)]
pub struct TlsDoor {
    address: SocketAddr,
    shown: watch::Sender<Arc<ServerConfig>>,
    refused: Arc<AtomicU64>,
    accepting: AbortHandle,
}

impl TlsDoor {
    /// Listens on a free port and hands over to `target`.
    ///
    /// # Errors
    ///
    /// When the certificate can't be used, or no port can be had.
    pub async fn start(target: SocketAddr, cert: &TestCert) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shown = watch::Sender::new(config(cert.cert(), cert.key())?);
        let refused = Arc::new(AtomicU64::new(0));
        let accepting = tokio::spawn(accept(listener, target, shown.subscribe(), Arc::clone(&refused)));
        Ok(Self { address, shown, refused, accepting: accepting.abort_handle() })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shows another certificate from now on, and closes all connections that were made under the one before.
    ///
    /// # Errors
    ///
    /// When it can't be used; then the one before is still shown.
    pub fn show(&self, cert: &TestCert) -> io::Result<()> {
        self.shown.send_replace(config(cert.cert(), cert.key())?);
        Ok(())
    }

    /// How many handshakes have failed: clients that didn't trust what they were shown.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for TlsDoor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    shown: watch::Receiver<Arc<ServerConfig>>,
    refused: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors at worst: the next turn may have one.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (mut shown, refused) = (shown.clone(), Arc::clone(&refused));
        connections.spawn(async move {
            let config = Arc::clone(&shown.borrow_and_update());
            tokio::select! {
                _ = shown.changed() => {}
                _ = carry(client, target, config, &refused) => {}
            }
        });
    }
}

async fn carry(
    client: TcpStream,
    target: SocketAddr,
    config: Arc<ServerConfig>,
    refused: &AtomicU64,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let accepted = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(client)).await;
    let mut client = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).inspect_err(|_| {
        refused.fetch_add(1, Ordering::Relaxed);
    })?;
    let mut server = TcpStream::connect(target).await?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

fn config(cert: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}
