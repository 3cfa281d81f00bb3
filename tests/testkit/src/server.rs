//! Starts real servers for tests and ends them with their owner.
//!
//! Everything listens on 127.0.0.1, on ports taken from the system; data is in temporary directories that are
//! removed at drop, or swept at the next start when the process was killed.

mod api;
mod consul;
mod error;
mod etcd;
mod eureka;
mod host;
mod http;
mod installed;
mod java;
mod nacos;
mod output;
mod port;
mod process;
mod scratch;
mod shared;
mod spawner;
mod spring;

pub use self::api::{HttpAnswer, HttpApi};
pub use self::consul::{Consul, ConsulBuilder, ConsulCluster};
pub use self::error::ServerError;
pub use self::etcd::{Etcd, EtcdBuilder, EtcdCluster, EtcdKey, EtcdStatus, Etcdctl};
pub use self::eureka::{Eureka, EurekaBuilder, EurekaPeers};
pub use self::nacos::{Nacos, NacosBuilder, NacosLine};
pub use self::port::Port;
pub use self::process::{Process, ProcessBuilder};
pub use self::scratch::Scratch;
pub use self::shared::Shared;
pub use self::spring::{SpringPeer, SpringPeerBuilder};
