//! What can be configured, from a URL or in code.

use registry_core::{Error, RegistryUrl};

use crate::http::{Common, SHARED_OPTIONS};

/// The HTTP port of Consul's agents.
const DEFAULT_PORT: u16 = 8500;

/// The options of a Consul URL, beside the core's own.
pub(crate) const OPTIONS: &[&str] = SHARED_OPTIONS;

/// Where Consul's agents are and how to talk to them.
#[derive(Clone, Debug)]
pub struct ConsulConfig {
    pub(crate) common: Common,
}

impl ConsulConfig {
    /// The configuration that a URL describes. Options it doesn't know are left alone: they are the core's, which
    /// checks that each option belongs to somebody.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](registry_core::ErrorKind::InvalidArgument) naming the part that is wrong.
    pub fn from_url(url: &RegistryUrl) -> Result<Self, Error> {
        Ok(Self { common: Common::from_url(url, super::NAME, DEFAULT_PORT)? })
    }
}
