//! The etcd backend of `service-registry`.
//!
//! Applications use it through the facade: `connect("etcd://10.0.0.1:2379,10.0.0.2:2379/prod")`. What this crate
//! offers beside that is the [`EtcdConnector`] to plug in by hand, and the [`EtcdConfig`] that its URLs describe.
//!
//! - Records are JSON under `/{namespace}/{service}/{id}`, attached to one lease per client.
//! - Registration is a guarded transaction: a record of another client life is never overwritten by accident, nor
//!   deleted by a late deregistration.
//! - A cluster's endpoints have their health tracked here; a dead one costs one attempt.
//! - Certificates and credentials can be replaced while it runs.
//!
//! The types of the client library it is built on are no part of the API.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

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
