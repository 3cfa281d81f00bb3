//! etcd: one node or a cluster of them, and `etcdctl` to look at it and to hurt it.

mod auth;
mod binaries;
mod cluster;
mod ctl;
mod keys;
mod member;
mod options;
mod peers;
mod sockets;

pub use self::cluster::EtcdCluster;
pub use self::ctl::Etcdctl;
pub use self::keys::{EtcdKey, EtcdStatus};
pub use self::member::Etcd;
pub use self::options::EtcdBuilder;
