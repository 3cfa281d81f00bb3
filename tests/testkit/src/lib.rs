#![doc = include_str!("../README.md")]

pub mod conformance;
pub mod faults;

#[cfg(unix)]
mod certs;
mod eventually;
mod ledger;
#[cfg(unix)]
mod proxy;
#[cfg(unix)]
mod server;
#[cfg(unix)]
mod tls_door;

#[cfg(unix)]
pub use self::certs::{TestCa, TestCert};
pub use self::eventually::{Timeout, eventually};
pub use self::ledger::Ledger;
#[cfg(unix)]
pub use self::proxy::Proxy;
#[cfg(unix)]
pub use self::server::{
    Consul, ConsulBuilder, ConsulCluster, Etcd, EtcdBuilder, EtcdCluster, EtcdKey, EtcdStatus, Etcdctl,
    Eureka, EurekaBuilder, EurekaPeers, HttpAnswer, HttpApi, Nacos, NacosBuilder, NacosLine, Port, Process,
    ProcessBuilder, Scratch, ServerError, Shared, SpringPeer, SpringPeerBuilder,
};
#[cfg(unix)]
pub use self::tls_door::TlsDoor;
