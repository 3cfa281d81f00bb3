//! One Consul process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::config::{self, Addresses};
use super::options::ConsulBuilder;
use crate::certs::{TestCa, TestCert};
use crate::server::api::HttpApi;
use crate::server::host::{Host, controls};
use crate::server::{Port, ProcessBuilder, ServerError, installed};

/// Until an agent serves: 2.2 s is usual for a server with data.
const READY: Duration = Duration::from_secs(10);
/// For one probe: without a leader some calls hang.
const PROBE: Duration = Duration::from_secs(1);
/// Between two probes that count against limits.
const PACE: Duration = Duration::from_millis(50);
/// From SIGTERM to the end.
const END: Duration = Duration::from_secs(10);

const HTTP: usize = 0;
const LAN: usize = 1;
const WAN: usize = 2;
const SERVER: usize = 3;
const HTTPS: usize = 4;

/// A Consul agent: a server of its own, one of a [`ConsulCluster`](super::ConsulCluster), or a
/// [client](ConsulBuilder::client_of) of such.
///
/// Its addresses stay the same for life. Dropping it kills the process and removes the data.
#[derive(Debug)]
pub struct Consul {
    pub(crate) host: Host,
    binary: PathBuf,
    name: String,
    options: ConsulBuilder,
    certificates: Option<(TestCert, Option<TestCa>)>,
    expected: usize,
    /// The other servers of the cluster.
    others: Mutex<Vec<SocketAddr>>,
    /// Whether the limits on requests are on in the process of the moment.
    limited: AtomicBool,
}

controls!(Consul, ready: READY, end: END);

impl Consul {
    /// The token that may everything where [`ConsulBuilder::acl`] is on.
    pub const MANAGEMENT: &'static str = "11111111-2222-3333-4444-555555555555";

    /// Starts an agent in development mode.
    ///
    /// # Errors
    ///
    /// When there is no binary, or it is not ready after 10 s.
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }

    /// Options, for an agent or a cluster.
    pub fn builder() -> ConsulBuilder {
        ConsulBuilder::default()
    }

    pub(crate) fn prepare(name: &str, options: &ConsulBuilder, expected: usize) -> Result<Self, ServerError> {
        let binary = installed::file("consul", "consul", "SERVICE_REGISTRY_CONSUL")?;
        let title = format!("consul {name}");
        let ports = std::iter::repeat_with(Port::reserve).take(5).collect::<Result<_, _>>();
        let ports =
            ports.map_err(|error| ServerError::new(format!("ports for {title}")).with_source(error))?;
        Ok(Self {
            host: Host::new(title, "consul", ports)?,
            binary,
            name: name.to_owned(),
            options: options.clone(),
            certificates: options.certificates()?,
            expected,
            others: Mutex::default(),
            limited: AtomicBool::new(false),
        })
    }

    pub(crate) fn join(&self, others: Vec<SocketAddr>) {
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = others;
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.host.port(HTTP).address()
    }

    /// Where clients connect to over TLS, with [`ConsulBuilder::tls`].
    pub fn tls_address(&self) -> SocketAddr {
        self.host.port(HTTPS).address()
    }

    /// The same as the URL a client is given: `consul+tls://127.0.0.1:8501`.
    pub fn tls_url(&self) -> String {
        format!("consul+tls://{}", self.tls_address())
    }

    /// The URL that a client is given, without TLS: `consul://127.0.0.1:8500`.
    pub fn url(&self) -> String {
        format!("consul://{}", self.address())
    }

    /// The same as a URL for HTTP.
    pub fn http(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its HTTP API, with [`MANAGEMENT`](Self::MANAGEMENT) when access control is on.
    pub fn api(&self) -> HttpApi {
        let api = HttpApi::new(self.address());
        if self.options.acl { api.with_header("x-consul-token", Self::MANAGEMENT) } else { api }
    }

    /// The data centre it serves.
    pub fn datacenter(&self) -> &str {
        self.options.datacenter.as_deref().unwrap_or("dc1")
    }

    /// Where servers of its data centre find it.
    pub(crate) fn lan(&self) -> SocketAddr {
        self.host.port(LAN).address()
    }

    /// Where servers of other data centres find it.
    pub(crate) fn wan(&self) -> SocketAddr {
        self.host.port(WAN).address()
    }

    /// How the cluster knows it.
    pub(crate) fn server(&self) -> SocketAddr {
        self.host.port(SERVER).address()
    }

    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    pub(crate) fn has_acl(&self) -> bool {
        self.options.acl
    }

    /// Deletes its data, so that the next start knows nothing.
    ///
    /// # Errors
    ///
    /// When it runs.
    pub async fn wipe(&self) -> Result<(), ServerError> {
        self.host.wipe().await
    }

    fn command(&self) -> Result<ProcessBuilder, ServerError> {
        self.limited.store(false, Ordering::Relaxed);
        let file = self.host.write("consul.json", &self.document().to_string())?;
        let mut command =
            ProcessBuilder::new(self.host.name(), &self.binary).hide_env("CONSUL_").arg("agent");
        if !self.options.data {
            command = command.arg("-dev");
        }
        Ok(command.arg("-config-file").arg(file))
    }

    fn document(&self) -> Value {
        let addresses =
            Addresses { http: self.address(), lan: self.lan(), wan: self.wan(), server: self.server() };
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut document =
            config::document(&self.name, addresses, &self.options, self.expected, &others, &self.host.data());
        if let Some((server, clients)) = &self.certificates {
            config::serve_tls(&mut document, self.tls_address(), server, clients.as_ref());
        }
        document
    }

    /// Whether it has a leader, is itself in the catalogue and healthy, and sees the other data centre.
    async fn serving(&self) -> bool {
        self.leader().await.is_some()
            && self.is_in_catalogue().await
            && self.sees_the_other_data_centre().await
            && self.limit().await
    }

    /// Whom the server takes for the leader.
    pub(crate) async fn leader(&self) -> Option<SocketAddr> {
        let answer = self.api().within(PROBE).get("/v1/status/leader").await.ok()?;
        answer.json().as_str()?.parse().ok()
    }

    async fn is_in_catalogue(&self) -> bool {
        let path = format!("/v1/health/node/{}", self.name);
        let Ok(answer) = self.api().within(PROBE).get(&path).await else { return false };
        let passing = answer.json().as_array().is_some_and(|checks| {
            checks.iter().any(|check| check["CheckID"] == "serfHealth" && check["Status"] == "passing")
        });
        if !passing {
            sleep(PACE).await;
        }
        passing
    }

    async fn sees_the_other_data_centre(&self) -> bool {
        if self.options.wan.is_none() {
            return true;
        }
        let Ok(answer) = self.api().within(PROBE).get("/v1/catalog/datacenters").await else { return false };
        let names = answer.json();
        let Some(others) = names.as_array().filter(|names| names.len() > 1) else { return false };
        for name in others.iter().filter_map(Value::as_str) {
            let path = format!("/v1/catalog/nodes?dc={name}");
            let answer = self.api().within(PROBE).get(&path).await;
            if !answer.is_ok_and(|answer| answer.is_success()) {
                return false;
            }
        }
        true
    }

    /// Limits requests from now on, as [`ConsulBuilder::requests_per_second`] does from the start, until its next start;
    /// `None` ends that.
    ///
    /// The agent reads its configuration again, and so forgets what was registered at it unless it keeps
    /// [data](ConsulBuilder::data).
    ///
    /// # Errors
    ///
    /// When it doesn't take it.
    pub async fn limit_requests(&self, rates: Option<(f64, f64)>) -> Result<(), ServerError> {
        let document = config::limited(self.document(), rates);
        self.host.write("consul.json", &document.to_string())?;
        self.api().put("/v1/agent/reload", "").await?.success().map(drop)
    }

    /// Begins to limit requests, once per process.
    async fn limit(&self) -> bool {
        let Some(rates) = self.options.rates else { return true };
        if self.limited.load(Ordering::Relaxed) {
            return true;
        }
        let document = config::limited(self.document(), Some(rates));
        let written = self.host.write("consul.json", &document.to_string()).is_ok();
        let reloaded = self.api().within(PROBE).put("/v1/agent/reload", "").await;
        let limited = written && reloaded.is_ok_and(|answer| answer.is_success());
        self.limited.store(limited, Ordering::Relaxed);
        limited
    }
}
