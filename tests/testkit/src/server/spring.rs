//! A Spring Cloud application: who else uses a registry.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::server::api::HttpApi;
use crate::server::host::{Host, PORT_ATTEMPTS, controls};
use crate::server::{Port, ProcessBuilder, ServerError, installed, java};

/// Until it is registered: 4 to 7 s on a quiet machine.
const READY: Duration = Duration::from_secs(60);
/// For one probe.
const PROBE: Duration = Duration::from_secs(5);
/// From SIGTERM to the end.
const END: Duration = Duration::from_secs(30);

/// Options for a Spring Cloud application.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct SpringPeerBuilder {
    name: String,
    registry: String,
    properties: Vec<(String, String)>,
}

impl SpringPeerBuilder {
    /// Sets a property, such as `spring.cloud.consul.discovery.query-passing`.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the application and waits until it sees itself in the registry.
    ///
    /// # Errors
    ///
    /// When it has not been built, there is no Java, the URL is for no registry that it knows, or it is not registered
    /// after 60 s.
    pub async fn start(self) -> Result<SpringPeer, ServerError> {
        let _turn = java::turn().await;
        let mut attempt = 1;
        loop {
            let peer = SpringPeer::prepare(&self)?;
            let started = async {
                peer.launch().await?;
                peer.ready().await
            };
            match started.await {
                Ok(()) => return Ok(peer),
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }
}

/// A Spring Cloud application that registers itself under a name, at 127.0.0.1, and calls services by theirs.
///
/// It looks for changes every second and keeps no list between two calls. Dropping it kills the process.
#[derive(Debug)]
pub struct SpringPeer {
    host: Host,
    jar: PathBuf,
    options: SpringPeerBuilder,
}

controls!(SpringPeer, ready: READY, end: END);

impl SpringPeer {
    /// Starts the application `name` on the registry at `url`: that of [`Consul`](super::Consul::url),
    /// [`Eureka`](super::Eureka::url) or [`Nacos`](super::Nacos::url).
    ///
    /// # Errors
    ///
    /// As in [`SpringPeerBuilder::start`].
    pub async fn start(name: &str, url: &str) -> Result<Self, ServerError> {
        Self::builder(name, url).start().await
    }

    /// Options; name and URL as in [`start`](Self::start).
    pub fn builder(name: &str, url: &str) -> SpringPeerBuilder {
        SpringPeerBuilder { name: name.to_owned(), registry: url.to_owned(), properties: Vec::new() }
    }

    fn prepare(options: &SpringPeerBuilder) -> Result<Self, ServerError> {
        let jar = installed::file("spring", "spring-peer.jar", "SERVICE_REGISTRY_SPRING")?;
        let title = format!("spring peer {}", options.name);
        let port = Port::reserve()
            .map_err(|error| ServerError::new(format!("port for {title}")).with_source(error))?;
        Ok(Self { host: Host::new(title, "spring", vec![port])?, jar, options: options.clone() })
    }

    /// Where it serves; instances of ours call it there.
    pub fn address(&self) -> SocketAddr {
        self.host.port(0).address()
    }

    /// Its HTTP API: `/whoami` tells its name.
    pub fn api(&self) -> HttpApi {
        HttpApi::new(self.address()).within(PROBE)
    }

    /// Lets it call `path` at an instance of `service`, whichever its load balancer picks; the answer's body.
    ///
    /// # Errors
    ///
    /// When there is no instance for Spring, or it does not answer.
    pub async fn call(&self, service: &str, path: &str) -> Result<String, ServerError> {
        let answer = self.api().get(&format!("/call/{service}?path={path}")).await?.success()?;
        Ok(answer.body)
    }

    /// The URIs of the instances of `service` as Spring sees them.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn instances(&self, service: &str) -> Result<Vec<String>, ServerError> {
        let answer = self.api().get(&format!("/instances/{service}")).await?.success()?;
        let instances = answer.json().as_array().cloned().unwrap_or_default();
        Ok(instances.iter().filter_map(|instance| instance["uri"].as_str().map(str::to_owned)).collect())
    }

    /// The same with all that Spring tells: `id`, `uri`, `secure`, `metadata`.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn instances_in_full(&self, service: &str) -> Result<Value, ServerError> {
        Ok(self.api().get(&format!("/instances/{service}")).await?.success()?.json())
    }

    fn command(&self) -> Result<ProcessBuilder, ServerError> {
        let unknown = || {
            ServerError::new(format!(
                "start of {}: `{}` is no URL of consul, eureka or nacos",
                self.host.name(),
                self.options.registry
            ))
        };
        let (profile, addresses) = self.options.registry.split_once("://").ok_or_else(unknown)?;
        if !["consul", "eureka", "nacos"].contains(&profile) {
            return Err(unknown());
        }
        let first = addresses.split(['/', ',', '?']).next().unwrap_or_default();
        let (host, port) = first.rsplit_once(':').ok_or_else(unknown)?;
        let machine = java::machine(self.host.name(), &self.jar, "128m", &self.host.data())
            .hide_env("PEER_")
            .env("PEER_NAME", &self.options.name)
            .env("PEER_PORT", self.address().port().to_string())
            .env("PEER_REGISTRY_HOST", host)
            .env("PEER_REGISTRY_PORT", port);
        let properties = self.options.properties.iter().map(|(name, value)| format!("--{name}={value}"));
        Ok(java::run(machine, &self.jar).arg(format!("--spring.profiles.active={profile}")).args(properties))
    }

    async fn serving(&self) -> bool {
        let own = self.address().to_string();
        self.instances(&self.options.name).await.is_ok_and(|uris| uris.iter().any(|uri| uri.ends_with(&own)))
    }
}
