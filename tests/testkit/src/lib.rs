#![doc = include_str!("../README.md")]

#[cfg(unix)]
mod certs;
#[cfg(unix)]
mod eventually;
#[cfg(unix)]
mod proxy;
#[cfg(unix)]
mod server;

#[cfg(unix)]
pub use self::certs::{TestCa, TestCert};
#[cfg(unix)]
pub use self::eventually::{Timeout, eventually};
#[cfg(unix)]
pub use self::proxy::Proxy;
#[cfg(unix)]
pub use self::server::{
    Etcd, EtcdBuilder, EtcdCluster, EtcdKey, EtcdStatus, Etcdctl, Port, Process, ProcessBuilder, Scratch,
    ServerError,
};
