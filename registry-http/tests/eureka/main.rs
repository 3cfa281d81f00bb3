//! Whole clients on real servers that die, freeze, forget and are operated on.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod operators;
mod outages;
mod peers;
mod rivals;
mod spring;
mod world;
