//! Asking an instance whether it is well, apart from requests.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::net::TcpStream;

use crate::{balance::Failure, model::Instance};

/// Asks an instance whether it is well; see [`Ejection::probe`](crate::Ejection::probe).
///
/// Only instances that are ejected or held in doubt are asked, at most 4 at the same time per upstream. So a probe costs
/// nothing as long as all is well, and it needn't be cheap.
///
/// ```
/// use async_trait::async_trait;
/// use registry_core::{Instance, Probe, balance::Failure};
///
/// /// Believes what the instance says of itself.
/// #[derive(Debug)]
/// struct Said;
///
/// #[async_trait]
/// impl Probe for Said {
///     async fn probe(&self, instance: &Instance) -> Result<(), Failure> {
///         if instance.metadata().get("well") == Some("no") { Err(Failure::Server) } else { Ok(()) }
///     }
/// }
/// ```
#[async_trait]
pub trait Probe: fmt::Debug + Send + Sync + 'static {
    /// Asks once.
    ///
    /// # Errors
    /// What failed. [`Failure::Connect`] also removes an instance that the registry's list no longer has and that is
    /// only held in doubt.
    ///
    /// # Cancel safety
    /// Must be cancel safe: it is dropped when its time is over
    /// ([`probe_timeout`](crate::Ejection::probe_timeout)) and when the upstream is.
    ///
    /// # Panics
    /// A probe that panics is one without a verdict.
    async fn probe(&self, instance: &Instance) -> Result<(), Failure>;
}

/// Opens a connection to the instance's first endpoint and closes it. Well is who accepts it: a process that hangs may
/// be taken for well, as the kernel accepts for it.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TcpProbe;

impl TcpProbe {
    /// The probe.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Probe for TcpProbe {
    async fn probe(&self, instance: &Instance) -> Result<(), Failure> {
        let endpoint = instance.endpoint();
        let connected = match endpoint.socket_addr() {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect((endpoint.host(), endpoint.port())).await,
        };
        connected.map(drop).map_err(|_| Failure::Connect)
    }
}

/// A probe in a configuration; equals its clones.
#[derive(Clone, Debug)]
pub(super) struct AnyProbe(pub(super) Arc<dyn Probe>);

impl PartialEq for AnyProbe {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
