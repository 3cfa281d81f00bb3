//! The launcher against real servers.
#![cfg(unix)]

mod auth;
mod lines;
