//! The fault suite: each row of the fault matrix under its number, on every backend.
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

#[cfg(all(feature = "etcd", unix))]
mod etcd;
mod memory;
#[cfg(all(feature = "etcd", unix))]
mod naive;
