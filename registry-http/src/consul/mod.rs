//! The Consul backend.

mod config;
mod connect;

pub use config::ConsulConfig;
pub use connect::ConsulConnector;

/// The name of this backend in errors, logs and labels.
pub(crate) const NAME: &str = "consul";
