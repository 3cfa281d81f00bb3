//! Consul: an agent in development mode, a server with data, three of them, or two data centres.

mod agent;
mod cli;
mod cluster;
mod config;
mod options;

pub use self::agent::Consul;
pub use self::cluster::ConsulCluster;
pub use self::options::ConsulBuilder;
