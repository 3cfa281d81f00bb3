//! How instances are connected to.

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

/// How instances are connected to, by a [`GrpcChannel`](super::GrpcChannel) or a [`GrpcProbe`](super::GrpcProbe).
///
/// TLS (feature `tonic-tls`) for endpoints with the scheme `https`, `grpcs` or `tls`, trusted by the system's roots; and
/// for all, whatever their schemes, once it is configured here: a record can't turn it off.
#[derive(Clone)]
#[must_use]
pub struct GrpcTransport {
    connect_within: Duration,
    scheme: Option<Box<str>>,
    configure: Option<Arc<Configure>>,
    #[cfg(feature = "tonic-tls")]
    tls: Option<ClientTlsConfig>,
    #[cfg(feature = "tonic-tls")]
    domain_name: Option<Box<str>>,
}

impl Default for GrpcTransport {
    fn default() -> Self {
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
}

impl GrpcTransport {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a call may wait for a connection before it goes elsewhere: for TCP, TLS and a free stream together;
    /// 1 s by default, some round trips across a continent.
    pub fn connect_timeout(mut self, within: Duration) -> Self {
        self.connect_within = within;
        self
    }

    /// Takes each instance's first endpoint of this scheme. By default the first with `grpc`, `grpcs`, `http` or
    /// `https`, in this order; of an instance that has none the first endpoint, whatever its scheme.
    pub fn scheme(mut self, scheme: impl Into<Box<str>>) -> Self {
        self.scheme = Some(scheme.into());
        self
    }

    /// Changes tonic's settings for each instance: windows, limits, the origin, pings. By default it pings every
    /// 10 s while a call is open and nothing is heard, and gives up after 5 s; some servers permit that only every
    /// 5 min (`ENHANCE_YOUR_CALM`) unless configured otherwise.
    pub fn configure(
        mut self,
        configure: impl Fn(Transport, &Instance) -> Transport + Send + Sync + 'static,
    ) -> Self {
        self.configure = Some(Arc::new(configure));
        self
    }

    /// TLS to every instance.
    #[cfg(feature = "tonic-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tonic-tls")))]
    pub fn tls(mut self, config: ClientTlsConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// TLS to every instance, whose certificate has to be for this name; by default it has to be for the endpoint's
    /// host, which often is a mere address.
    #[cfg(feature = "tonic-tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tonic-tls")))]
    pub fn domain_name(mut self, name: impl Into<Box<str>>) -> Self {
        self.domain_name = Some(name.into());
        self
    }

    pub(super) fn endpoint<'a>(&self, instance: &'a Instance) -> &'a Endpoint {
        let found = match &self.scheme {
            Some(scheme) => instance.endpoint_with_scheme(scheme),
            None => SCHEMES.iter().find_map(|scheme| instance.endpoint_with_scheme(scheme)),
        };
        found.unwrap_or_else(|| instance.endpoint())
    }

    pub(super) fn to(&self, instance: &Instance, endpoint: &Endpoint) -> Result<Transport, BoxError> {
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
impl GrpcTransport {
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
impl GrpcTransport {
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

impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTransport")
            .field("connect_within", &self.connect_within)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// Makes the links to instances.
#[derive(Clone, Debug)]
pub(super) struct Dial(pub(super) GrpcTransport);

impl Connect for Dial {
    type Service = Link;

    fn endpoint<'a>(&self, instance: &'a Instance) -> &'a Endpoint {
        self.0.endpoint(instance)
    }

    fn connect(&self, instance: &Instance, endpoint: &Endpoint) -> Result<Link, BoxError> {
        Ok(Link::new(self.0.to(instance, endpoint)?, self.0.connect_within))
    }
}
