//! What makes an etcd cluster the one it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a new data directory is told of its cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// Makes the ids of cluster and members, together with the peers' addresses.
    pub(crate) token: String,
    /// Names with the addresses at which peers are dialled, which may be proxies'.
    pub(crate) members: Vec<(String, SocketAddr)>,
}

/// A token no other cluster has: etcd derives the cluster's id from it and from the peers' addresses, which do not
/// change with a wipe.
pub(crate) fn fresh_token() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("testkit-{}-{count}", std::process::id())
}
