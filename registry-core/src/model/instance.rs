//! One running copy of a service.

use std::{fmt, sync::Arc};

use super::{
    Endpoint, Incarnation, InstanceBuilder, InstanceId, InstanceKey, Metadata, RecordVersion, ServiceName,
    Sketch, Status, Weight,
    builder::Draft,
    metadata::pack,
    shape::{Outline, Shape},
};
use crate::Error;

/// One running copy of a service: its id, where it listens, and what it says of itself.
///
/// Immutable once built; to change a published one, build another with [`Instance::to_builder`] and give it to
/// `Registration::update`.
///
/// ```
/// use registry_core::{Instance, Status};
///
/// let instance = Instance::builder("orders")
///     .endpoint("http://10.0.0.7:8080")
///     .version("2.4.1")
///     .zone("z1")
///     .weight(100)
///     .metadata("team", "core")
///     .build()?;
/// assert_eq!(instance.status(), Status::Serving);
/// # Ok::<(), registry_core::Error>(())
/// ```
#[derive(Clone)]
#[repr(C)]
pub struct Instance {
    /// First, and by that usually on one cache line with the reference count before it, which is the other thing that a
    /// pick looks at.
    weight: Weight,
    status: Status,
    stamp: Option<Stamp>,
    id: InstanceId,
    /// Keeps the [`Shape`] too, in which service, version, zone, group and tags are.
    metadata: Metadata,
    endpoints: Endpoints,
}

/// Never empty; 16 bytes, as nearly every instance has one.
#[derive(Clone)]
enum Endpoints {
    One(Endpoint),
    Many(Arc<Vec<Endpoint>>),
}

/// The record version as bytes, so that it fills the gaps between the fields; the upper halves of its counters are in
/// the [`Shape`].
#[derive(Clone, Copy)]
struct Stamp {
    incarnation: [u8; 16],
    epoch: [u8; 4],
    sequence: [u8; 4],
}

impl Instance {
    /// An instance with a generated id and one endpoint.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the service name or the endpoint is malformed.
    pub fn new(service: impl AsRef<str>, endpoint: impl AsRef<str>) -> Result<Self, Error> {
        Self::builder(service).endpoint(endpoint).build()
    }

    /// An instance whose port is the one that `listener` really has, for services that listen on port 0.
    ///
    /// The scheme is `http`. A listener bound to a wildcard address (`0.0.0.0`, `::`) has no address to tell:
    /// the host is then left open and `Client::register` fills in the one that routes to the registry. Give an
    /// explicit address with [`InstanceBuilder::endpoint`] instead where that guess is wrong.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) if the service name is malformed or the socket has no address.
    pub fn from_listener(
        service: impl AsRef<str>,
        listener: &tokio::net::TcpListener,
    ) -> Result<Self, Error> {
        let address = listener
            .local_addr()
            .map_err(|e| Error::invalid("the listener has no local address").with_source(e))?;
        Self::builder(service).socket_addr("http", address).build()
    }

    /// Starts a builder for an instance of `service`.
    pub fn builder(service: impl AsRef<str>) -> InstanceBuilder {
        InstanceBuilder::new(service.as_ref())
    }

    /// A builder that holds everything this instance holds, for a changed copy.
    pub fn to_builder(&self) -> InstanceBuilder {
        InstanceBuilder::from_draft(Draft {
            service: self.service().clone(),
            id: self.id.clone(),
            endpoints: self.endpoints().to_vec(),
            version: self.shape().version.clone(),
            zone: self.shape().zone.clone(),
            group: self.shape().group.clone(),
            tags: self.shape().tags.to_vec(),
            weight: self.weight,
            status: self.status,
            metadata: self.metadata.clone(),
            record_version: self.record_version(),
        })
    }

    /// The draft must have an endpoint.
    pub(super) fn from_draft(draft: Draft) -> Self {
        let (keys, values) = draft.metadata.into_parts();
        let shape = Shape {
            service: Some(draft.service),
            version: draft.version,
            zone: draft.zone,
            group: draft.group,
            tags: draft.tags.into(),
            keys,
            high: high(draft.record_version),
        };
        Self {
            id: draft.id,
            metadata: Metadata::in_shape(shape.share(), values),
            endpoints: Endpoints::new(draft.endpoints),
            weight: draft.weight,
            status: draft.status,
            stamp: draft.record_version.map(Stamp::of),
        }
    }

    /// The sketch must have an endpoint, and lists in order.
    pub(super) fn from_sketch(sketch: &mut Sketch<'_>) -> Self {
        let shape = Outline {
            service: &sketch.key.service,
            texts: [sketch.version, sketch.zone, sketch.group],
            tags: &sketch.tags,
            metadata: &sketch.metadata,
            high: high(sketch.record_version),
        };
        Self {
            metadata: Metadata::in_shape(shape.share(), pack(&sketch.metadata)),
            id: sketch.key.id.clone(),
            endpoints: Endpoints::new(std::mem::take(&mut sketch.endpoints)),
            weight: sketch.weight,
            status: sketch.status,
            stamp: sketch.record_version.map(Stamp::of),
        }
    }

    fn shape(&self) -> &Shape {
        self.metadata.shape()
    }

    /// The service it belongs to.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        self.shape().service.as_ref().expect("the shape of an instance has a service")
    }

    /// Its id within the service.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Service and id.
    #[must_use]
    pub fn key(&self) -> InstanceKey {
        InstanceKey::new(self.service().clone(), self.id.clone())
    }

    /// All endpoints, at least one, in the order of preference.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        match &self.endpoints {
            Endpoints::One(endpoint) => std::slice::from_ref(endpoint),
            Endpoints::Many(endpoints) => endpoints,
        }
    }

    /// The preferred endpoint: the first.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoints()[0]
    }

    /// The first endpoint with this scheme.
    #[must_use]
    pub fn endpoint_with_scheme(&self, scheme: &str) -> Option<&Endpoint> {
        self.endpoints().iter().find(|e| e.scheme() == scheme)
    }

    /// The version of the running software.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.shape().version.as_deref()
    }

    /// The zone (data centre, rack, availability zone) it runs in.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.shape().zone.as_deref()
    }

    /// The group it belongs to, where the fleet uses groups.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.shape().group.as_deref()
    }

    /// Its tags, sorted and without duplicates.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        self.shape().tags.iter().map(|tag| &**tag)
    }

    /// Whether it carries the tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.shape().tags.binary_search_by(|t| (**t).cmp(tag)).is_ok()
    }

    /// Its relative share of traffic.
    #[must_use]
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// What it says of itself.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Free text that travels with it.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Who published this record and how often, if it was read from a registry that tells.
    #[must_use]
    pub fn record_version(&self) -> Option<RecordVersion> {
        let [epoch, sequence] = self.shape().high;
        self.stamp.map(|stamp| RecordVersion {
            incarnation: Incarnation::from_bits(u128::from_ne_bytes(stamp.incarnation)),
            epoch: join(epoch, stamp.epoch),
            sequence: join(sequence, stamp.sequence),
        })
    }

    /// The same instance as the record of a publication; for backends.
    #[must_use]
    pub fn with_record_version(mut self, version: Option<RecordVersion>) -> Self {
        let high = high(version);
        if self.shape().high != high {
            let shape = self.metadata.shape_mut();
            *shape = Shape { high, ..Shape::clone(shape) }.share();
        }
        self.stamp = version.map(Stamp::of);
        self
    }

    /// Whether `other` is the same record: equal in content *and* published by the same life in the same epoch.
    #[must_use]
    pub fn is_same_record(&self, other: &Self) -> bool {
        self.record_version() == other.record_version() && self == other
    }

    /// Replaces wildcard hosts by `ip`; the instance is unchanged if it has none.
    pub(crate) fn with_advertised_ip(mut self, ip: std::net::IpAddr) -> Self {
        if !self.has_wildcard_endpoint() {
            return self;
        }
        let advertised = |endpoint: &Endpoint| {
            let is_open = endpoint.ip().is_some_and(|ip| ip.is_unspecified());
            let advertised = is_open
                .then(|| Endpoint::new(endpoint.scheme(), &ip.to_string(), endpoint.port()).ok())
                .flatten();
            advertised.unwrap_or_else(|| endpoint.clone())
        };
        self.endpoints = Endpoints::new(self.endpoints().iter().map(advertised).collect());
        self
    }

    /// Whether an endpoint's host is still a wildcard address that nobody can dial.
    pub(crate) fn has_wildcard_endpoint(&self) -> bool {
        self.endpoints().iter().any(|e| e.ip().is_some_and(|ip| ip.is_unspecified()))
    }
}

/// Equality of content; who published it and in which epoch doesn't count, see [`Instance::is_same_record`].
impl PartialEq for Instance {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.endpoints() == other.endpoints()
            && self.status == other.status
            && self.weight == other.weight
            && self.metadata.values() == other.metadata.values()
            && self.shape().is_same_content(other.shape())
    }
}

impl Eq for Instance {}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("key", &self.key())
            .field("endpoints", &self.endpoints())
            .field("status", &self.status)
            .field("weight", &self.weight.get())
            .field("version", &self.version())
            .field("zone", &self.zone())
            .field("group", &self.group())
            .field("tags", &self.shape().tags)
            .field("metadata", &self.metadata)
            .field("record_version", &self.record_version())
            .finish()
    }
}

impl Endpoints {
    fn new(endpoints: Vec<Endpoint>) -> Self {
        match <[Endpoint; 1]>::try_from(endpoints) {
            Ok([endpoint]) => Self::One(endpoint),
            Err(mut endpoints) => {
                endpoints.shrink_to_fit();
                Self::Many(Arc::new(endpoints))
            }
        }
    }
}

impl Stamp {
    fn of(version: RecordVersion) -> Self {
        Self {
            incarnation: version.incarnation.to_bits().to_ne_bytes(),
            epoch: low(version.epoch),
            sequence: low(version.sequence),
        }
    }
}

fn low(counter: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = counter.to_le_bytes();
    [a, b, c, d]
}

fn join(high: u32, low: [u8; 4]) -> u64 {
    u64::from(high) << 32 | u64::from(u32::from_le_bytes(low))
}

/// The upper halves of the counters.
fn high(version: Option<RecordVersion>) -> [u32; 2] {
    version.map_or([0; 2], |version| [version.epoch, version.sequence].map(|counter| (counter >> 32) as u32))
}
