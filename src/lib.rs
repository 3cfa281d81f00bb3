#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use registry_core::{
    Attempt, AttemptCause, CallError, CallOptions, Changes, Client, ClientBuilder, ClientConfig, ClientEvent,
    Credential, CredentialProvider, Damping, Deregistration, Diff, Discover, Drain, DrainOnSignal,
    DrainReport, DrainStage, Ejection, EjectionCause, Endpoint, Error, ErrorClass, ErrorKind, Exhaustion,
    Expiry, FailedAttempt, Freshness, Health, Held, InFlight, InFlightGuard, Instance, InstanceBuilder,
    InstanceId, InstanceKey, KeeperThread, Lifecycle, LossCause, Metadata, Namespace, NoneUsable,
    OnDuplicate, OnMissing, OpenPick, Phase, Picked, Probe, RegisterOptions, Registration, RegistrationEvent,
    RegistrationEvents, RegistrationState, RegistryPhase, RegistryUrl, Secret, Selector, ServiceName,
    ShrinkGuard, SlowStart, Snapshot, Start, Status, Subset, Target, TcpProbe, TimeLimit, Unusable, Update,
    Upstream, Upstreams, ViewEvent, ViewEvents, ViewState, Weight, backend, balance, metrics,
};
#[cfg(feature = "memory")]
pub use registry_core::{MemoryRegistry, StaticRegistry, memory, static_list};

/// The etcd backend.
#[cfg(feature = "etcd")]
#[cfg_attr(docsrs, doc(cfg(feature = "etcd")))]
pub mod etcd {
    pub use registry_etcd::{EtcdConfig, EtcdConnector, ReadMode};
}

/// The Consul backend.
#[cfg(feature = "consul")]
#[cfg_attr(docsrs, doc(cfg(feature = "consul")))]
pub use registry_http::consul;

/// The Eureka backend.
#[cfg(feature = "eureka")]
#[cfg_attr(docsrs, doc(cfg(feature = "eureka")))]
pub use registry_http::eureka;

/// The Nacos backend.
#[cfg(feature = "nacos")]
#[cfg_attr(docsrs, doc(cfg(feature = "nacos")))]
pub use registry_http::nacos;

/// Adapters for tower, hyper, axum and reqwest.
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
pub use registry_tower as tower;

#[cfg(feature = "tonic")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
pub use registry_tower::tonic;

/// Connects to a registry by URL, such as `etcd://10.0.0.1:2379,10.0.0.2:2379/prod?ttl=15s` or `memory://`.
///
/// Checks the configuration and does not wait for the registry: see [`Client::ready`].
///
/// # Errors
/// As for [`ClientBuilder::build`]; a scheme that is not compiled in names the Cargo feature that brings it.
pub async fn connect(url: &str) -> Result<Client, Error> {
    builder().url(url).build().await
}

/// A client builder that knows every scheme that is compiled in.
pub fn builder() -> ClientBuilder {
    let builder = Client::builder();
    #[cfg(feature = "etcd")]
    let builder = builder.connector(registry_etcd::EtcdConnector::default());
    #[cfg(feature = "consul")]
    let builder = builder.connector(consul::ConsulConnector::default());
    #[cfg(feature = "eureka")]
    let builder = builder.connector(eureka::EurekaConnector::default());
    #[cfg(feature = "nacos")]
    let builder = builder.connector(nacos::NacosConnector::default());
    builder
}
