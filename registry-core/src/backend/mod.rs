//! What a backend implements: small, object-safe, and without policy.
//!
//! A backend says *how* to talk to one kind of registry. It holds no retry loop, no cache for users and no timer
//! policy: reconnecting, backoff, resuming, diffing, guarding, staleness, renewal timing and desired state are the
//! core's, once, the same for every registry. It may keep one protocol session for many watches, and it may try
//! another endpoint of the same cluster within one call.
//!
//! The traits are not sealed: third parties implement them and plug in through a [`Connector`]. What a registry
//! can't do is visible in [`Backend`]: a part that isn't there.

mod capabilities;
mod catalogue;
mod connector;
mod discovery;
mod recall;
mod registry;
mod relist;

pub use capabilities::{Capabilities, Delivery, Proof};
pub use catalogue::{Catalogue, CatalogueStream};
pub use connector::{Backend, ConnectContext, Connector};
pub use discovery::{
    Change, Consistency, Cursor, Discovery, Event, Evidence, Listing, Read, SourceId, WatchStream,
};
pub use recall::{Hashing, Recall};
pub use registry::{Grant, Lease, Lifetime, OnDuplicate, Outcome, Presence, Publish, Registry, Renewal};
pub use relist::{Relist, Relisted};
