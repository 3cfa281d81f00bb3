//! The Consul backend against real agents: restarts, outages, access control, limits, clusters, data centres.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod access;
mod agents;
mod checks;
mod cluster;
mod cut_off;
mod datacenters;
mod grpc_health;
mod narrowed;
mod records;
mod support;
mod tls;
