//! A fixed list of endpoints behind the same API: for the services that no registry knows, and for a start without
//! one.
//!
//! There is nothing to register in, so a [`StaticRegistry`] is no [`Registry`](crate::Registry), by type.
//!
//! ```
//! use registry_core::static_list::StaticRegistry;
//!
//! let list = StaticRegistry::builder()
//!     .service("orders", ["http://10.0.0.7:8080", "http://10.0.0.8:8080"])
//!     .service("billing", ["grpc://billing.internal:9000"])
//!     .build()?;
//! assert!(list.backend().registry.is_none());
//! # Ok::<(), registry_core::Error>(())
//! ```

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Error,
    backend::{Backend, Capabilities},
    model::{Endpoint, Instance, InstanceBuilder, InstanceId, ServiceName},
};

mod connect;
mod discovery;

#[cfg(test)]
mod tests;

pub use connect::StaticConnector;

/// The short name in errors and labels.
const NAME: &str = "static";

/// Services with fixed instances; cheap to clone.
#[derive(Clone, Debug)]
pub struct StaticRegistry {
    services: Arc<BTreeMap<ServiceName, Vec<Arc<Instance>>>>,
}

impl StaticRegistry {
    /// Starts an empty list.
    pub fn builder() -> StaticRegistryBuilder {
        StaticRegistryBuilder { services: BTreeMap::new(), fault: None }
    }

    /// The parts that a fixed list has: finding, and listing services.
    #[must_use]
    pub fn backend(&self) -> Backend {
        let capabilities = Capabilities { audit: false, ..Capabilities::session() };
        Backend::new(NAME, capabilities)
            .with_discovery(Arc::new(self.clone()))
            .with_catalogue(Arc::new(self.clone()))
    }

    fn instances(&self, service: &ServiceName) -> Vec<Arc<Instance>> {
        self.services.get(service).cloned().unwrap_or_default()
    }
}

/// Builds a [`StaticRegistry`]; the first mistake is kept and returned by [`build`](Self::build).
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct StaticRegistryBuilder {
    services: BTreeMap<ServiceName, Vec<Arc<Instance>>>,
    fault: Option<Error>,
}

impl StaticRegistryBuilder {
    /// Adds a service with one instance per endpoint; the id of each is its `host:port`, so that it is the same in
    /// every process.
    pub fn service<E: AsRef<str>>(
        self,
        name: impl AsRef<str>,
        endpoints: impl IntoIterator<Item = E>,
    ) -> Self {
        match instances(name.as_ref(), endpoints) {
            Ok(instances) => instances.into_iter().fold(self, Self::instance),
            Err(fault) => Self { fault: self.fault.or(Some(fault)), ..self },
        }
    }

    /// Adds one instance with all it has: weight, zone, metadata.
    pub fn instance(mut self, instance: Instance) -> Self {
        let known = self.services.entry(instance.service().clone()).or_default();
        match known.binary_search_by(|other| other.id().cmp(instance.id())) {
            Ok(_) => {
                let fault = Error::invalid(format!("{} is listed twice", instance.key()));
                self.fault = self.fault.or(Some(fault));
            }
            Err(at) => known.insert(at, Arc::new(instance)),
        }
        self
    }

    /// Builds the list, which may be empty.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) with the first mistake made: a malformed
    /// name or endpoint, or an instance that is listed twice.
    pub fn build(self) -> Result<StaticRegistry, Error> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(StaticRegistry { services: Arc::new(self.services) }),
        }
    }
}

fn instances<E: AsRef<str>>(
    service: &str,
    endpoints: impl IntoIterator<Item = E>,
) -> Result<Vec<Instance>, Error> {
    let service = ServiceName::new(service)?;
    let instance = |endpoint: E| {
        let endpoint: Endpoint = endpoint.as_ref().parse()?;
        let id = InstanceId::foreign(endpoint.authority())?;
        InstanceBuilder::of(service.clone()).parsed_id(id).endpoint(endpoint.to_string()).build()
    };
    endpoints.into_iter().map(instance).collect()
}
