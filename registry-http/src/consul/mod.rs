//! Consul: instances belong to the agent they were registered at, which runs their checks and tells the catalogue.
//!
//! Registering, beating and deregistering go to one agent; looking up and watching to any. A look-up is one read, a
//! watch a row of *blocking queries*: reads that the agent holds back until something changes.

mod agent;
#[doc(hidden)]
pub mod bench;
mod catalogue;
mod codec;
mod config;
mod connect;
mod discovery;
mod entry;
mod error;
mod lease;
mod list;
mod missed;
mod names;
mod owners;
mod pace;
mod query;
mod registration;
mod registry;
mod rights;
mod session;
mod shown;
mod text;
mod watch;

pub use config::{ConsulCheck, ConsulConfig, ConsulRead};
pub use connect::ConsulConnector;

/// The name of this backend in errors, logs and labels.
pub(crate) const NAME: &str = "consul";
