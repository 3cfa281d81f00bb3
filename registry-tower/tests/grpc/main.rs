//! The balanced channel and the draining server, with real connections between them.
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod calls;
mod connections;
mod drain;
mod frames;
#[path = "../../../examples/greeter/mod.rs"]
mod greeter;
mod outcomes;
mod probe;
mod tls;
mod world;
