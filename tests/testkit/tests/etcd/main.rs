//! The launcher against real servers.
#![cfg(unix)]

mod cluster;
mod single;
