//! The etcd client that everybody writes first, on `etcd-client` itself.
//!
//! Grant a lease, put, renew in a loop that ends at its first error; list, watch, and when the watch ends open it again
//! without a revision; a map is what readers see. It is written with care, as one would at a first try: what it lacks is
//! what nobody thinks of before the first outage. The fault suite has to fail it, which proves that the suite can fail.
#![cfg(all(feature = "etcd", unix))]

mod fleet;
mod reader;

pub use self::{
    fleet::{NaiveFleet, NaiveFleets},
    reader::NaiveReader,
};
