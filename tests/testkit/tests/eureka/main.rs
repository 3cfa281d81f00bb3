//! The launcher against real servers.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod instance;
mod peers;
mod single;
mod spring;
