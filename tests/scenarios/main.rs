//! What users live through: a real etcd that dies, freezes, forgets or is cut off, at the level of the facade.
//!
//! Each story has one client with 100 registrations and another that reads them over the same link. After it, every
//! registration is back within 10 s of the registry being usable, losses are told exactly once, and the reader
//! was never left without an instance.
#![cfg(all(feature = "etcd", unix))]
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

mod access;
mod cluster;
mod outages;
mod recorder;
mod sampler;
mod world;
