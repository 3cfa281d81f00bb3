//! What is asked for.

use super::{Metadata, ServiceName};
use crate::Error;

/// What a consumer asks for: a service name, and the qualifiers that only some registries know.
///
/// Qualifiers (`group`, `cluster`, `dc`, `region`, `vip`, `query`, …) are free key-value pairs; a backend rejects
/// the ones it doesn't know when the target is first used, so that a typo is not silently a wider query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    service: ServiceName,
    qualifiers: Metadata,
}

impl Target {
    /// A target without qualifiers.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        Self { service, qualifiers: Metadata::default() }
    }

    /// Adds a qualifier.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) past the limits of [`Metadata`].
    pub fn with_qualifier(mut self, key: &str, value: &str) -> Result<Self, Error> {
        let pairs = self.qualifiers.iter().chain([(key, value)]);
        self.qualifiers = Metadata::from_pairs(pairs)?;
        Ok(self)
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The qualifiers.
    #[must_use]
    pub fn qualifiers(&self) -> &Metadata {
        &self.qualifiers
    }
}

impl From<ServiceName> for Target {
    fn from(service: ServiceName) -> Self {
        Self::new(service)
    }
}

impl From<&ServiceName> for Target {
    fn from(service: &ServiceName) -> Self {
        Self::new(service.clone())
    }
}

impl TryFrom<&str> for Target {
    type Error = Error;

    fn try_from(service: &str) -> Result<Self, Error> {
        ServiceName::new(service).map(Self::new)
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(service: String) -> Result<Self, Error> {
        ServiceName::new(service).map(Self::new)
    }
}
