//! One Nacos process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::network;
use super::options::{NacosBuilder, NacosLine};
use crate::server::api::HttpApi;
use crate::server::host::{Host, controls};
use crate::server::{Port, ProcessBuilder, ServerError, installed, java};

/// Until it serves: 5 to 11 s on a quiet machine, a minute on a busy one.
const READY: Duration = Duration::from_secs(120);
/// For one probe.
const PROBE: Duration = Duration::from_secs(5);
/// From SIGTERM to the end; 3 s is usual.
const END: Duration = Duration::from_secs(30);
/// From its port to those of gRPC, for clients and for servers, and of raft. The distances are fixed.
const RELATIVES: [i16; 3] = [1000, 1001, -1000];

/// A Nacos server on its own.
///
/// It listens on every address, so that it only starts in a network that is the loopback and nothing else: `cargo
/// xtask test` makes one, `tests/servers/apart` too. `SERVICE_REGISTRY_NACOS_ANYWHERE=1` lets it start elsewhere.
///
/// A restart keeps services, persistent instances and users; ephemeral instances are forgotten. Its address stays the
/// same for life. Dropping it kills the process and removes the data.
#[derive(Debug)]
pub struct Nacos {
    pub(crate) host: Host,
    jar: PathBuf,
    options: NacosBuilder,
}

controls!(Nacos, ready: READY, end: END);

impl Nacos {
    /// User and password of the administrator where [`NacosBuilder::auth`] is on.
    pub const ADMIN: (&'static str, &'static str) = ("nacos", "nacos-password");

    /// Starts a server without authentication.
    ///
    /// # Errors
    ///
    /// When there is no server or no Java, others could reach this machine, or it is not ready after 120 s.
    pub async fn start(line: NacosLine) -> Result<Self, ServerError> {
        Self::builder(line).start().await
    }

    /// Options.
    pub fn builder(line: NacosLine) -> NacosBuilder {
        NacosBuilder::new(line)
    }

    pub(crate) fn prepare(options: &NacosBuilder) -> Result<Self, ServerError> {
        network::check()?;
        let name = options.line.name();
        let variable = match options.line {
            NacosLine::V2 => "SERVICE_REGISTRY_NACOS2",
            NacosLine::V3 => "SERVICE_REGISTRY_NACOS3",
        };
        let jar = installed::file(name, &format!("{name}-server.jar"), variable)?;
        let ports = Port::reserve_family(&RELATIVES)
            .map_err(|error| ServerError::new(format!("ports for {name}")).with_source(error))?;
        Ok(Self { host: Host::new(name.to_owned(), name, ports)?, jar, options: options.clone() })
    }

    /// The first start, by whoever has the turn: until it is up, which is not yet until it serves.
    pub(crate) async fn begin(&self) -> Result<(), ServerError> {
        self.launch().await?;
        self.host.ready(READY, async || self.is_up().await).await
    }

    /// Its release line.
    pub fn line(&self) -> NacosLine {
        self.options.line
    }

    /// Where clients connect to over HTTP.
    pub fn address(&self) -> SocketAddr {
        self.host.port(0).address()
    }

    /// Where clients connect to over gRPC: 1000 ports above.
    pub fn grpc(&self) -> SocketAddr {
        self.host.port(1).address()
    }

    /// The same as the URL a client is given: `nacos://127.0.0.1:8848`.
    pub fn url(&self) -> String {
        format!("nacos://{}", self.address())
    }

    /// The root of its API as a URL for HTTP: `http://127.0.0.1:8848/nacos`.
    pub fn http(&self) -> String {
        format!("http://{}/nacos", self.address())
    }

    /// Its HTTP API, without a user. Paths begin with `/nacos/`.
    pub fn api(&self) -> HttpApi {
        HttpApi::new(self.address())
    }

    /// Its HTTP API as a user, with a token as old as this call.
    ///
    /// # Errors
    ///
    /// When the user is refused or there is no answer.
    pub async fn api_of(&self, user: &str, password: &str) -> Result<HttpApi, ServerError> {
        let path = match self.options.line {
            NacosLine::V2 => "/nacos/v1/auth/login",
            NacosLine::V3 => "/nacos/v3/auth/user/login",
        };
        let form = format!("username={user}&password={password}");
        let answer = self.api().post(path, form).await?.success()?;
        let token = answer.json()["accessToken"].as_str().map(str::to_owned);
        let token = token.ok_or_else(|| {
            ServerError::new(format!("login at {}: no token", self.host.name())).with_output(answer.body)
        })?;
        Ok(self.api().with_header("authorization", &format!("Bearer {token}")))
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
        let data = self.host.data();
        let port = self.address().port().to_string();
        let mut machine = java::machine(self.host.name(), &self.jar, "256m", &data)
            .hide_env("NACOS_")
            .env("NACOS_PORT", port)
            .arg("-Dnacos.standalone=true")
            .arg(format!("-Dnacos.home={}", data.display()))
            .arg(format!("-Dderby.stream.error.file={}", data.join("derby.log").display()))
            // By itself Nacos gives its own database 3 s and ends when a busy machine needs longer.
            .arg("-Ddb.pool.config.connectionTimeout=60000")
            // Without it Nacos looks for the other members of a cluster.
            .arg("-Dnacos.member.list=");
        if self.options.line == NacosLine::V3 {
            machine = machine.arg("-Dnacos.remote.grpc.listen.ip=127.0.0.1");
        }
        if let Some(ttl) = self.options.token_ttl {
            machine =
                machine.env("NACOS_AUTH", "true").env("NACOS_TOKEN_TTL", ttl.as_secs().max(1).to_string());
        }
        for (name, value) in &self.options.properties {
            machine = machine.arg(format!("-D{name}={value}"));
        }
        Ok(java::run(machine, &self.jar))
    }

    async fn serving(&self) -> bool {
        self.is_up().await && self.admits_the_administrator().await
    }

    async fn is_up(&self) -> bool {
        let answer = self.api().within(PROBE).get("/nacos/v1/ns/operator/metrics").await;
        answer.is_ok_and(|answer| answer.json()["status"] == "UP")
    }

    /// Makes the administrator where there has to be one, and waits until the server has noticed.
    async fn admits_the_administrator(&self) -> bool {
        if self.options.token_ttl.is_none() {
            return true;
        }
        let (user, password) = Self::ADMIN;
        if self.api_of(user, password).await.is_ok() {
            return true;
        }
        let path = match self.options.line {
            NacosLine::V2 => "/nacos/v1/auth/users/admin",
            NacosLine::V3 => "/nacos/v3/auth/user/admin",
        };
        // Refused when there is one already, who may not be known everywhere yet.
        drop(self.api().post(path, format!("password={password}")).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
        false
    }
}
