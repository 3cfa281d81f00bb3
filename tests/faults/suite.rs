//! The fault suite: each row of the fault matrix under its number, on every backend.
#![allow(clippy::unwrap_used, reason = "a test may fail; the lint only knows functions marked as tests")]

#[cfg(all(feature = "consul", unix))]
mod consul;
#[cfg(all(feature = "etcd", unix))]
mod etcd;
#[cfg(all(feature = "eureka", unix))]
mod eureka;
#[cfg(all(any(feature = "consul", feature = "etcd", feature = "eureka", feature = "nacos"), unix))]
#[allow(
    dead_code,
    unused_macros,
    unused_imports,
    reason = "each registry makes those faults that it can have"
)]
mod live;
mod memory;
#[cfg(all(feature = "nacos", unix))]
mod nacos;
#[cfg(all(feature = "nacos", unix))]
mod nacos2;
#[cfg(all(feature = "etcd", unix))]
mod naive;
