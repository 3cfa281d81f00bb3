//! The launcher against real servers.
#![cfg(unix)]

mod instance;
mod peers;
mod single;
