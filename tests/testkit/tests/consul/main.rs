//! The launcher against real servers.
#![cfg(unix)]

mod agent;
mod cluster;
