//! What varies between registries, as a value.

use std::time::Duration;

/// What a registry can and can't do, as far as the core's policies depend on it.
///
/// Start from [`Capabilities::session`] or [`Capabilities::heartbeat`] and set what differs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// What a successful renewal proves.
    pub proof: Proof,
    /// Whether records must be read back now and then, as renewal doesn't prove each of them.
    pub audit: bool,
    /// How much longer than the granted time the registry may keep a record that is no longer renewed (1.5: half
    /// as long again). For reports only.
    pub grace: f64,
    /// How changes reach the consumer.
    pub delivery: Delivery,
    /// A view is fresh while the last sign of life on its session is younger than this.
    pub proof_within: Duration,
    /// How long consumers usually need to learn of a deregistration: how long a drain keeps serving.
    pub propagation: Duration,
    /// Most records the core hands to one `publish` call.
    pub publish_batch: usize,
    /// Largest record in bytes, checked at `register`.
    pub max_record: usize,
    /// Shortest time to live the registry honours.
    pub min_ttl: Duration,
}

/// What a successful renewal proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Proof {
    /// The lease lives, and with it everything published under it (etcd, ZooKeeper, Nacos over gRPC, memory).
    Session,
    /// Each instance that was neither lost nor missed lives (Consul, Eureka, Nacos over HTTP).
    Heartbeat,
}

/// How changes reach the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivery {
    /// The registry sends changes, removals explicitly.
    Watch,
    /// The registry holds its answer back until something changes and then gives the whole list (Consul): a removal is
    /// as good as told, but what came and went in between is not seen.
    LongPoll,
    /// Lists are fetched at an interval; removals are implied by absence.
    Poll {
        /// The interval.
        every: Duration,
    },
}

impl Capabilities {
    /// Defaults for a registry with sessions and watches, such as etcd.
    #[must_use]
    pub fn session() -> Self {
        Self {
            proof: Proof::Session,
            audit: true,
            grace: 1.5,
            delivery: Delivery::Watch,
            proof_within: Duration::from_secs(15),
            propagation: Duration::from_secs(2),
            publish_batch: 1024,
            max_record: crate::model::MAX_RECORD,
            min_ttl: Duration::from_secs(3),
        }
    }

    /// Defaults for a registry with a heartbeat per instance, such as Eureka.
    #[must_use]
    pub fn heartbeat() -> Self {
        Self {
            proof: Proof::Heartbeat,
            audit: false,
            grace: 2.0,
            propagation: Duration::from_secs(3),
            publish_batch: 64,
            ..Self::session()
        }
    }
}
