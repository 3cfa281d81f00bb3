//! Eureka: every server knows all instances, tells its peers, and believes in its list rather than in its eyes.
//!
//! URL and options: [`EurekaConfig`]. Tested on Spring Cloud Netflix's server 4.3 (Eureka 2.0), alone and as two peers,
//! and with a Spring Cloud application as its other client.
//!
//! # Records
//!
//! | ours | `InstanceInfo` |
//! |---|---|
//! | namespace and service | `app`, in upper case, and `vipAddress`, in lower case: `ORDERS`, `orders`; `PROD:EU:ORDERS`, `prod:eu:orders` in the namespace `prod/eu` |
//! | service and id | `instanceId`: `orders:a1`. With the service, as Eureka keeps status overrides by instance id alone |
//! | the first `http` endpoint (else `https`, else any) | `hostName`, `ipAddr`, `port`; an `https` endpoint of the same host is `securePort` |
//! | `Starting`, `Serving`, `Down` | `STARTING`, `UP`, `DOWN` |
//! | `Draining` | an override with `OUT_OF_SERVICE`; Spring's clients leave it alone |
//! | `version`, `weight` unless 100, `zone`, the port of a `grpc` endpoint | metadata `version`, `weight`, `zone`, `gRPC_port` |
//! | metadata whose keys and values XML can hold | metadata |
//! | everything, other metadata included | metadata `sdk-record`, a native record; `sdk-namespace` |
//!
//! Foreign records are read the same way, for the default namespace only: `version`, `weight`, `zone` and `gRPC_port`
//! become fields, an enabled secure port comes first, and the service may be asked for in any case. A record that can't
//! be read is rejected and hides no other. The target's qualifier `vip` (or `svip`) asks for a vip address instead of
//! an application, `region` for other regions too. Where two of those found have one id, as in two applications of one vip
//! address, the second is called `{instance id}@{application}` as long as the first is there.
//!
//! # Registering
//!
//! A lease here is a set of instances with a beat each, 32 at a time; a beat that is answered with 404 is a lost
//! instance, if that server has lists and denies the instance again when it is asked for. What is in front of a server, or
//! at a wrong path, denies beats as well: these are missed, as is one that isn't answered in time, and the next server is
//! asked. Before a write or a removal the record that stands there is
//! read: another process's is left alone or taken over as asked, save for the moment between. `lastDirtyTimestamp`
//! grows with each registration, beyond what stands there too, wherever the clock is set. An operator's override stays
//! when an instance registers again; our own ends with `Draining`.
//!
//! # How long a dead instance stays
//!
//! - A lease that was never renewed ends after its duration, one that was after *twice* its duration.
//! - The server looks for ended leases once a minute, and takes at most 15 % away at once.
//! - In *self-preservation*, when less than 85 % of the beats of the last minute came, it takes nothing away. It counts
//!   on one beat per instance in 30 s, so instances that beat oftener, as with `ttl=15s`, make up for silent ones.
//!   Beside Java clients `ttl=90s` is the better choice: a beat each 30 s, as theirs.
//!
//! So a crashed instance is seen for minutes, or for ever: callers have to find out by themselves, which is what outlier
//! ejection does.
//!
//! # Finding
//!
//! Polled, every 30 s unless configured: all watches of a client share one poll, which fetches everything once and then
//! deltas. After each delta the hash of the whole, `UP_12_DOWN_1_`, is compared; the list is fetched again where it
//! differs, where a server gives no deltas, after 2 min without an answer, and every 10 min. Of a list only those entries
//! are decoded that differ in more than their last beat. The servers answer from a cache of 30 s, unless configured
//! otherwise: a change may take a minute to arrive.
//!
//! Eureka has no name for the life of a server's memory. But it notes when it took each registration in: a list in which
//! no registration has the time that it had before is the list of a server that started anew, maybe empty. That, and
//! another server's list, is another source, so that what the list lacks is held and not believed gone.
//!
//! # Peers
//!
//! What one server is told, the others learn a moment later, or never while they can't reach each other. After a failover
//! the next server may not know an instance yet: that is a loss, told and mended within a beat. A withdrawal that finds
//! nothing at a server that has just started may leave the record at its peer, where it runs out. A list that a server
//! refuses as it has just started (403) comes from another one, and that server is left alone for a while; where there is
//! none, it is an error that passes, unless it refuses to tell of single instances too. Every 20 min (10 to 30) another server is preferred at random, as by Java's client.
//!
//! The catalogue is what the asked server knows. A watch of it ends when the list comes from another memory.

mod absence;
mod api;
#[doc(hidden)]
pub mod bench;
mod catalogue;
mod codec;
mod config;
mod connect;
mod discovery;
mod envelope;
mod error;
mod glance;
mod lease;
mod lists;
mod names;
mod poll;
mod registry;
mod replica;
mod said;
mod scan;
mod session;
mod view;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

pub use config::{Address, EurekaConfig};
pub use connect::EurekaConnector;

/// The name of this backend in errors, logs and labels.
pub(crate) const NAME: &str = "eureka";
