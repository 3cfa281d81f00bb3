#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod auth;
mod catalogue;
mod channel;
mod codec;
mod config;
mod connect;
mod diagnose;
mod discovery;
mod error;
mod keepalive;
mod lease;
mod pool;
mod registry;
mod session;
mod transact;
mod watch;

pub use config::{EtcdConfig, ReadMode};
pub use connect::EtcdConnector;

/// The name of this backend in errors, logs and labels.
pub(crate) const NAME: &str = "etcd";
