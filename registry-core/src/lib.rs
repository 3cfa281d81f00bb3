//! The core of `service-registry`: the model, the backend traits, and everything that is the same for every
//! registry.
//!
//! Applications use the facade crate `service-registry`. This crate is what backends build on; it follows semantic
//! versioning too.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod backend;
pub mod balance;
#[doc(hidden)]
pub mod bench;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod static_list;

mod address;
mod backoff;
mod client;
mod clock;
mod disk;
mod drain;
mod error;
#[cfg(test)]
mod explore;
mod feed;
mod freshness;
mod intake;
mod keeper;
mod observer;
mod outlier;
mod reflector;
mod secret;
mod snapshot;
mod upstream;
mod url;
mod view;

pub use backend::{
    Backend, Capabilities, Catalogue, ConnectContext, Connector, Discovery, Lease, OnDuplicate, Registry,
};
pub use client::{
    Client, ClientBuilder, ClientConfig, Discover, Health, Lifecycle, RegisterOptions, Registration,
    RegistrationEvents, RegistryPhase, Start, Upstreams,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use drain::{Drain, DrainOnSignal, DrainReport, DrainStage, InFlight, InFlightGuard};
pub use error::{Error, ErrorClass, ErrorKind};
pub use freshness::{Freshness, ViewEvent, ViewEvents, ViewState};
pub use intake::{Damping, Subset};
pub use keeper::{
    ClientEvent, Deregistration, KeeperThread, LossCause, OnMissing, Phase, RegistrationEvent,
    RegistrationState,
};
pub use memory::{MemoryConnector, MemoryRegistry};
pub use model::{
    Endpoint, Incarnation, Instance, InstanceBuilder, InstanceId, InstanceKey, Metadata, Namespace, Selector,
    ServiceName, Status, Target, Weight,
};
pub use outlier::{Ejection, EjectionCause, Probe, TcpProbe};
pub use reflector::{Expiry, ShrinkGuard};
pub use secret::{Credential, CredentialProvider, Secret};
pub use snapshot::{Diff, SlowStart, Snapshot};
pub use static_list::{StaticConnector, StaticRegistry, StaticRegistryBuilder};
pub use upstream::{
    Attempt, AttemptCause, CallError, CallOptions, Changes, Exhaustion, FailedAttempt, Held, NoneUsable,
    OpenPick, Picked, TimeLimit, Unusable, Update, Upstream,
};
pub use url::{HostPort, RegistryUrl, TlsFiles};
