//! The core of `service-registry`: the model, the backend traits, and everything that is the same for every
//! registry.
//!
//! Applications use the facade crate `service-registry`. This crate is what backends build on; it follows semantic
//! versioning too.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backend;
pub mod memory;
pub mod model;
pub mod static_list;

mod backoff;
mod clock;
mod error;
mod feed;
mod keeper;
mod secret;
mod url;

pub use backend::{
    Backend, Capabilities, Catalogue, ConnectContext, Connector, Discovery, Lease, OnDuplicate, Registry,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Error, ErrorClass, ErrorKind};
pub use keeper::{
    ClientEvent, Deregistration, LossCause, OnMissing, Phase, RegistrationEvent, RegistrationState,
};
pub use memory::{MemoryConnector, MemoryRegistry};
pub use model::{
    Endpoint, Incarnation, Instance, InstanceBuilder, InstanceId, InstanceKey, Metadata, Namespace, Selector,
    ServiceName, Status, Target, Weight,
};
pub use secret::{Credential, CredentialProvider, Secret};
pub use static_list::{StaticConnector, StaticRegistry, StaticRegistryBuilder};
pub use url::{HostPort, RegistryUrl};
