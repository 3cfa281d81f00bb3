//! One running copy of a service.

use std::{fmt, net::SocketAddr, sync::Arc};

use super::{
    Endpoint, InstanceId, InstanceKey, Metadata, RecordVersion, ServiceName, Status, Weight,
    name::{invalid, is_deceptive},
};
use crate::{Error, ErrorKind};

/// Most endpoints of one instance.
const MAX_ENDPOINTS: usize = 16;
/// Most tags of one instance.
const MAX_TAGS: usize = 64;
/// Longest version, zone, group or tag, in bytes.
const MAX_TEXT: usize = 256;

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
pub struct Instance {
    service: ServiceName,
    id: InstanceId,
    endpoints: Box<[Endpoint]>,
    version: Option<Arc<str>>,
    zone: Option<Arc<str>>,
    group: Option<Arc<str>>,
    tags: Box<[Arc<str>]>,
    weight: Weight,
    status: Status,
    metadata: Metadata,
    record_version: Option<RecordVersion>,
}

impl Instance {
    /// An instance with a generated id and one endpoint.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if the service name or the endpoint is malformed.
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
    /// [`ErrorKind::InvalidArgument`] if the service name is malformed or the socket has no address.
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
        InstanceBuilder { draft: Some(self.clone()), fault: None, metadata: None }
    }

    /// The service it belongs to.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Its id within the service.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Service and id.
    #[must_use]
    pub fn key(&self) -> InstanceKey {
        InstanceKey::new(self.service.clone(), self.id.clone())
    }

    /// All endpoints, at least one, in the order of preference.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The preferred endpoint: the first.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoints[0]
    }

    /// The first endpoint with this scheme.
    #[must_use]
    pub fn endpoint_with_scheme(&self, scheme: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|e| e.scheme() == scheme)
    }

    /// The version of the running software.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The zone (data centre, rack, availability zone) it runs in.
    #[must_use]
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The group it belongs to, where the fleet uses groups.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// Its tags, sorted and without duplicates.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tags.iter().map(|tag| &**tag)
    }

    /// Whether it carries the tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.binary_search_by(|t| (**t).cmp(tag)).is_ok()
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
        self.record_version
    }

    /// The same instance as the record of a publication; for backends.
    #[must_use]
    pub fn with_record_version(mut self, version: Option<RecordVersion>) -> Self {
        self.record_version = version;
        self
    }

    /// Whether `other` is the same record: equal in content *and* published by the same life in the same epoch.
    #[must_use]
    pub fn is_same_record(&self, other: &Self) -> bool {
        self.record_version == other.record_version && self == other
    }

    /// Replaces wildcard hosts by `ip`; the instance is unchanged if it has none.
    pub(crate) fn with_advertised_ip(mut self, ip: std::net::IpAddr) -> Self {
        for endpoint in &mut self.endpoints {
            if endpoint.ip().is_some_and(|ip| ip.is_unspecified())
                && let Ok(advertised) = Endpoint::new(endpoint.scheme(), &ip.to_string(), endpoint.port())
            {
                *endpoint = advertised;
            }
        }
        self
    }

    /// Whether an endpoint's host is still a wildcard address that nobody can dial.
    pub(crate) fn has_wildcard_endpoint(&self) -> bool {
        self.endpoints.iter().any(|e| e.ip().is_some_and(|ip| ip.is_unspecified()))
    }
}

/// Equality of content; who published it and in which epoch doesn't count, see [`Instance::is_same_record`].
impl PartialEq for Instance {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.service == other.service
            && self.endpoints == other.endpoints
            && self.status == other.status
            && self.weight == other.weight
            && self.version == other.version
            && self.zone == other.zone
            && self.group == other.group
            && self.tags == other.tags
            && self.metadata == other.metadata
    }
}

impl Eq for Instance {}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("key", &self.key())
            .field("endpoints", &self.endpoints)
            .field("status", &self.status)
            .field("weight", &self.weight.get())
            .field("version", &self.version)
            .field("zone", &self.zone)
            .field("group", &self.group)
            .field("tags", &self.tags)
            .field("metadata", &self.metadata)
            .field("record_version", &self.record_version)
            .finish()
    }
}

/// Builds an [`Instance`]; the first mistake is kept and returned by [`build`](Self::build).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct InstanceBuilder {
    draft: Option<Instance>,
    fault: Option<Error>,
    metadata: Option<Vec<(String, String)>>,
}

impl InstanceBuilder {
    fn new(service: &str) -> Self {
        match ServiceName::new(service) {
            Ok(service) => Self::of(service),
            Err(fault) => Self { draft: None, fault: Some(fault), metadata: None },
        }
    }

    /// Starts from a name that is already parsed; for backends that read foreign names.
    pub fn of(service: ServiceName) -> Self {
        Self::of_parsed(service, InstanceId::generate())
    }

    /// Starts from both names; a generated id costs a system call, which shows where records are read by the thousand.
    pub(super) fn of_parsed(service: ServiceName, id: InstanceId) -> Self {
        let draft = Instance {
            service,
            id,
            endpoints: Box::default(),
            version: None,
            zone: None,
            group: None,
            tags: Box::default(),
            weight: Weight::NEUTRAL,
            status: Status::Serving,
            metadata: Metadata::default(),
            record_version: None,
        };
        Self { draft: Some(draft), fault: None, metadata: None }
    }

    /// Sets the id; by default one is generated.
    pub fn id(self, id: impl AsRef<str>) -> Self {
        self.edit(|draft| {
            draft.id = InstanceId::new(id)?;
            Ok(())
        })
    }

    /// Sets an id that is already parsed.
    pub fn parsed_id(self, id: InstanceId) -> Self {
        self.edit(|draft| {
            draft.id = id;
            Ok(())
        })
    }

    /// Adds an endpoint such as `http://10.0.0.7:8080`; the first is the preferred one.
    pub fn endpoint(self, endpoint: impl AsRef<str>) -> Self {
        self.edit(|draft| push_endpoint(draft, endpoint.as_ref().parse()?))
    }

    /// Adds an endpoint from its scheme and the address of a socket.
    pub fn socket_addr(self, scheme: &str, address: SocketAddr) -> Self {
        self.edit(|draft| {
            push_endpoint(draft, Endpoint::new(scheme, &address.ip().to_string(), address.port())?)
        })
    }

    /// Forgets the endpoints, for a changed copy.
    pub fn clear_endpoints(self) -> Self {
        self.edit(|draft| {
            draft.endpoints = Box::default();
            Ok(())
        })
    }

    /// Sets the version of the software.
    pub fn version(self, version: impl AsRef<str>) -> Self {
        self.edit(|draft| {
            draft.version = Some(text("version", version.as_ref())?);
            Ok(())
        })
    }

    /// Sets the zone.
    pub fn zone(self, zone: impl AsRef<str>) -> Self {
        self.edit(|draft| {
            draft.zone = Some(text("zone", zone.as_ref())?);
            Ok(())
        })
    }

    /// Sets the group.
    pub fn group(self, group: impl AsRef<str>) -> Self {
        self.edit(|draft| {
            draft.group = Some(text("group", group.as_ref())?);
            Ok(())
        })
    }

    /// Adds a tag.
    pub fn tag(self, tag: impl AsRef<str>) -> Self {
        self.edit(|draft| {
            let mut tags = std::mem::take(&mut draft.tags).into_vec();
            tags.push(text("tag", tag.as_ref())?);
            tags.sort();
            tags.dedup();
            if tags.len() > MAX_TAGS {
                return Err(Error::new(ErrorKind::InvalidArgument, "an instance has more than 64 tags"));
            }
            draft.tags = tags.into();
            Ok(())
        })
    }

    /// Sets the weight, 0 to 1,000,000; 100 is neutral and the default.
    pub fn weight(self, weight: u32) -> Self {
        self.edit(|draft| {
            draft.weight = Weight::new(weight)?;
            Ok(())
        })
    }

    /// Sets the status; [`Status::Serving`] by default.
    pub fn status(self, status: Status) -> Self {
        self.edit(|draft| {
            draft.status = status;
            Ok(())
        })
    }

    /// Sets one metadata entry.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let old = self.draft.as_ref().map(|d| &d.metadata);
        self.metadata
            .get_or_insert_with(|| {
                old.into_iter().flat_map(Metadata::iter).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
            })
            .push((key.into(), value.into()));
        self
    }

    /// Replaces all metadata.
    pub fn all_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = None;
        self.edit(|draft| {
            draft.metadata = metadata;
            Ok(())
        })
    }

    /// Builds the instance.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] with the first mistake made, or if there is no endpoint.
    pub fn build(self) -> Result<Instance, Error> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let Some(mut instance) = self.draft else {
            return Err(Error::invalid("an instance needs a service name"));
        };
        if let Some(pairs) = self.metadata {
            instance.metadata = Metadata::from_pairs(pairs)?;
        }
        if instance.endpoints.is_empty() {
            return Err(invalid("instance of", instance.service.as_str(), "has no endpoint"));
        }
        Ok(instance)
    }

    fn edit(mut self, change: impl FnOnce(&mut Instance) -> Result<(), Error>) -> Self {
        if let (Some(draft), None) = (&mut self.draft, &self.fault) {
            self.fault = change(draft).err();
        }
        self
    }
}

fn push_endpoint(draft: &mut Instance, endpoint: Endpoint) -> Result<(), Error> {
    if draft.endpoints.len() == MAX_ENDPOINTS {
        return Err(Error::new(ErrorKind::InvalidArgument, "an instance has more than 16 endpoints"));
    }
    let mut endpoints = std::mem::take(&mut draft.endpoints).into_vec();
    endpoints.push(endpoint);
    draft.endpoints = endpoints.into();
    Ok(())
}

fn text(what: &str, value: &str) -> Result<Arc<str>, Error> {
    if value.is_empty() || value.len() > MAX_TEXT {
        return Err(invalid(what, value, "must have 1 to 256 bytes"));
    }
    if value.chars().any(is_deceptive) {
        return Err(invalid(what, value, "holds a control character"));
    }
    Ok(value.into())
}
