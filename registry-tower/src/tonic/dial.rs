//! From an instance to its connection.

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "tonic-tls")]
use ::tonic::transport::ClientTlsConfig;
use ::tonic::transport::Endpoint as Transport;
use registry_core::{Endpoint, Instance};

use super::link::Link;
use crate::{BoxError, Connect};

/// The schemes that a gRPC server is registered with, the likeliest first.
const SCHEMES: [&str; 4] = ["grpc", "grpcs", "http", "https"];
/// Pings, while a stream is open only: servers punish those on idle connections.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long a ping may stay unanswered.
const PING_WITHIN: Duration = Duration::from_secs(5);

type Configure = dyn Fn(Transport, &Instance) -> Transport + Send + Sync;

/// Connects as configured.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) connect_within: Duration,
    pub(super) scheme: Option<Box<str>>,
    pub(super) configure: Option<Arc<Configure>>,
    #[cfg(feature = "tonic-tls")]
    pub(super) tls: Option<ClientTlsConfig>,
    #[cfg(feature = "tonic-tls")]
    pub(super) domain_name: Option<Box<str>>,
}

impl Dial {
    pub(super) fn new() -> Self {
        Self {
            connect_within: Duration::from_secs(1),
            scheme: None,
            configure: None,
            #[cfg(feature = "tonic-tls")]
            tls: None,
            #[cfg(feature = "tonic-tls")]
            domain_name: None,
        }
    }

    fn transport(&self, instance: &Instance, endpoint: &Endpoint) -> Result<Transport, BoxError> {
        let is_tls = self.is_tls(endpoint);
        let scheme = if is_tls { "https" } else { "http" };
        let mut transport = Transport::from_shared(format!("{scheme}://{}", endpoint.authority()))?
            .connect_timeout(self.connect_within)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN)
            .keep_alive_while_idle(false);
        if is_tls {
            transport = self.secure(transport)?;
        }
        Ok(match &self.configure {
            Some(configure) => configure(transport, instance),
            None => transport,
        })
    }
}

#[cfg(feature = "tonic-tls")]
impl Dial {
    /// TLS once it is configured, whatever an instance says: a record must not be able to turn it off.
    fn is_tls(&self, endpoint: &Endpoint) -> bool {
        self.tls.is_some() || self.domain_name.is_some() || says_tls(endpoint)
    }

    fn secure(&self, transport: Transport) -> Result<Transport, BoxError> {
        let config = self.tls.clone().unwrap_or_else(|| ClientTlsConfig::new().with_enabled_roots());
        let config = config.timeout(self.connect_within);
        Ok(transport.tls_config(match &self.domain_name {
            Some(name) => config.domain_name(&**name),
            None => config,
        })?)
    }
}

#[cfg(not(feature = "tonic-tls"))]
impl Dial {
    #[expect(clippy::unused_self, reason = "with TLS it looks at itself")]
    fn is_tls(&self, endpoint: &Endpoint) -> bool {
        says_tls(endpoint)
    }

    #[expect(clippy::unused_self, clippy::needless_pass_by_value, reason = "as with TLS")]
    fn secure(&self, transport: Transport) -> Result<Transport, BoxError> {
        Err(format!("{} wants TLS: enable the feature `tonic-tls`", transport.uri()).into())
    }
}

fn says_tls(endpoint: &Endpoint) -> bool {
    matches!(endpoint.scheme(), "https" | "grpcs" | "tls")
}

impl Connect for Dial {
    type Service = Link;

    /// The first of the wanted scheme; else, of an instance that speaks several protocols, what looks like gRPC.
    fn endpoint<'a>(&self, instance: &'a Instance) -> &'a Endpoint {
        let found = match &self.scheme {
            Some(scheme) => instance.endpoint_with_scheme(scheme),
            None => SCHEMES.iter().find_map(|scheme| instance.endpoint_with_scheme(scheme)),
        };
        found.unwrap_or_else(|| instance.endpoint())
    }

    fn connect(&self, instance: &Instance, endpoint: &Endpoint) -> Result<Link, BoxError> {
        Ok(Link::new(self.transport(instance, endpoint)?, self.connect_within))
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("connect_within", &self.connect_within)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}
