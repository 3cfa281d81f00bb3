//! How a Eureka is started.

use super::peers::EurekaPeers;
use super::single::Eureka;
use crate::server::host::PORT_ATTEMPTS;
use crate::server::{ServerError, java};

/// Options for a Eureka server or two peers.
///
/// Every timer is short: leases are looked at twice a second, answers are cached for 0.2 s, for 1 s at most, and
/// self-preservation is off. The files of settings stand in `tests/servers/eureka`; [`property`](Self::property) is stronger than them.
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct EurekaBuilder {
    pub(crate) properties: Vec<(String, String)>,
    pub(crate) proxied: bool,
}

/// How long an answer is kept at most: 3 minutes by default, and for so long an outdated one stands if a registration
/// came while it was put together.
const KEPT: (&str, &str) = ("eureka.server.response-cache-auto-expiration-in-seconds", "1");

impl Default for EurekaBuilder {
    fn default() -> Self {
        Self { properties: vec![(KEPT.0.to_owned(), KEPT.1.to_owned())], proxied: false }
    }
}

impl EurekaBuilder {
    /// Sets a property of the server, such as `eureka.server.enable-self-preservation`.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts the replication between two peers behind proxies, for [`EurekaPeers::part`]. A single server has no peers
    /// and ignores it.
    pub fn peer_proxies(mut self, on: bool) -> Self {
        self.proxied = on;
        self
    }

    /// Starts a single server and waits until it serves.
    ///
    /// # Errors
    ///
    /// When there is no server or no Java, or it is not ready after 60 s.
    pub async fn start(self) -> Result<Eureka, ServerError> {
        let _turn = java::turn().await;
        let mut attempt = 1;
        loop {
            let eureka = Eureka::prepare("single", &self)?;
            match eureka.begin().await {
                Ok(()) => return Ok(eureka),
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts two servers that replicate to each other, and waits until both serve.
    ///
    /// # Errors
    ///
    /// When there is no server or no Java, or one is not ready after 60 s.
    pub async fn start_peers(self) -> Result<EurekaPeers, ServerError> {
        let _turn = java::turn().await;
        let mut attempt = 1;
        loop {
            match EurekaPeers::begin(&self).await {
                Err(error) if error.is_port_taken() && attempt < PORT_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }
}
