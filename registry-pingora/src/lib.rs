//! The backends of a pingora [`LoadBalancer`](pingora_load_balancing::LoadBalancer), from any registry.
//!
//! [`Backing`] is the [`ServiceDiscovery`](pingora_load_balancing::discovery::ServiceDiscovery); [`Follow`] the
//! background service that applies each change at once, instead of at the next poll.
//!
//! The client that the [`Upstream`](registry_core::Upstream) comes from has tasks of its own: make it in a runtime that
//! lives as long as the proxy.
#![doc = include_str!("../README.md")]

mod backing;
mod follow;
mod names;
mod weights;

pub use backing::Backing;
pub use follow::{Follow, follow};
