//! What etcd's rows have of the common world, and what they say of etcd alone.

use std::{net::SocketAddr, time::Duration};

pub(crate) use crate::live::world::*;

/// The shortest time to live there is, so that the stories are short too.
pub(crate) const TTL: Duration = Duration::from_secs(3);
/// Longer than the time to live, so that every safe deadline passes.
pub(crate) const LONG: Duration = Duration::from_secs(6);
/// Just shorter than half of it.
pub(crate) const SHORT: Duration = Duration::from_millis(1400);

/// The URL of one or several etcd endpoints.
pub(crate) fn url(endpoints: &[SocketAddr]) -> String {
    let hosts: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    format!("etcd://{}/stories?ttl=3s", hosts.join(","))
}

/// The same with a user.
pub(crate) fn url_of(user: &str, endpoint: SocketAddr) -> String {
    format!("etcd://{user}@{endpoint}/stories?ttl=3s")
}

/// Where the record of an id stands.
pub(crate) fn path(id: &str) -> String {
    format!("/stories/{SERVICE}/{id}")
}
