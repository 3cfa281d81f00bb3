//! One Eureka process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::options::EurekaBuilder;
use crate::server::api::HttpApi;
use crate::server::host::{Host, controls};
use crate::server::{Port, ProcessBuilder, ServerError, installed, java};

/// Until it serves: 3 to 5 s on a quiet machine, many times that on a busy one.
const READY: Duration = Duration::from_secs(60);
/// For one probe. The first request of all sets up the server's own machinery and takes long.
const PROBE: Duration = Duration::from_secs(5);
/// From SIGTERM to the end; 1.3 s is usual.
const END: Duration = Duration::from_secs(30);

/// A Eureka server: on its own, or one of two [`EurekaPeers`](super::EurekaPeers).
///
/// It keeps everything in memory: a restart forgets, unless a peer remembers. Its address stays the same for life.
/// Dropping it kills the process.
#[derive(Debug)]
pub struct Eureka {
    pub(crate) host: Host,
    jar: PathBuf,
    options: EurekaBuilder,
    /// Where it replicates to.
    peer: Mutex<Option<SocketAddr>>,
}

controls!(Eureka, ready: READY, end: END);

impl Eureka {
    /// Starts a single server.
    ///
    /// # Errors
    ///
    /// When there is no server or no Java, or it is not ready after 60 s.
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }

    /// Options, for a single server or two peers.
    pub fn builder() -> EurekaBuilder {
        EurekaBuilder::default()
    }

    pub(crate) fn prepare(name: &str, options: &EurekaBuilder) -> Result<Self, ServerError> {
        let jar = installed::file("eureka", "eureka-server.jar", "SERVICE_REGISTRY_EUREKA")?;
        let title = format!("eureka {name}");
        let port = Port::reserve()
            .map_err(|error| ServerError::new(format!("port for {title}")).with_source(error))?;
        let host = Host::new(title, "eureka", vec![port])?;
        Ok(Self { host, jar, options: options.clone(), peer: Mutex::default() })
    }

    /// The first start, by whoever has the turn.
    pub(crate) async fn begin(&self) -> Result<(), ServerError> {
        self.launch().await?;
        self.ready().await
    }

    pub(crate) fn replicate_to(&self, peer: SocketAddr) {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = Some(peer);
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.host.port(0).address()
    }

    /// The same as the URL a client is given: `eureka://127.0.0.1:8761`.
    pub fn url(&self) -> String {
        format!("eureka://{}", self.address())
    }

    /// The root of its API as a URL for HTTP: `http://127.0.0.1:8761/eureka`.
    pub fn http(&self) -> String {
        format!("http://{}/eureka", self.address())
    }

    /// Its HTTP API, asked for JSON. Paths begin with `/eureka/`.
    pub fn api(&self) -> HttpApi {
        HttpApi::new(self.address()).with_header("accept", "application/json")
    }

    fn command(&self) -> Result<ProcessBuilder, ServerError> {
        let peer = *self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = if peer.is_some() { "peer.properties" } else { "single.properties" };
        let machine = java::machine(self.host.name(), &self.jar, "128m", &self.host.data())
            .hide_env("EUREKA_")
            .env("EUREKA_PORT", self.address().port().to_string());
        let machine = match peer {
            Some(peer) => machine.env("EUREKA_PEER_PORT", peer.port().to_string()),
            None => machine,
        };
        let properties = self.options.properties.iter().map(|(name, value)| format!("--{name}={value}"));
        Ok(java::run(machine, &self.jar)
            .arg(format!("--spring.config.location=file:./{settings}"))
            .args(properties))
    }

    async fn serving(&self) -> bool {
        let answer = self.api().within(PROBE).get("/eureka/apps").await;
        answer.is_ok_and(|answer| answer.status == 200)
    }
}
