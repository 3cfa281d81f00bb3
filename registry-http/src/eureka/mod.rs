//! The Eureka backend.

mod api;
mod catalogue;
mod codec;
mod config;
mod connect;
mod discovery;
mod envelope;
mod error;
mod lease;
mod names;
mod poll;
mod registry;
mod replica;
mod session;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

pub use config::{Address, EurekaConfig};
pub use connect::EurekaConnector;

/// The name of this backend in errors, logs and labels.
pub(crate) const NAME: &str = "eureka";
