//! Putting an instance together.

use std::net::SocketAddr;

use super::{
    Endpoint, Instance, InstanceId, InstanceKey, Metadata, RecordVersion, ServiceName, Status, Weight,
    name::{deceptive, invalid},
};
use crate::{Error, ErrorKind};

/// Most endpoints of one instance.
pub(super) const MAX_ENDPOINTS: usize = 16;
/// Most tags of one instance.
pub(super) const MAX_TAGS: usize = 64;
/// Longest version, zone, group or tag, in bytes.
const MAX_TEXT: usize = 256;

/// Builds an [`Instance`]; the first mistake is kept and returned by [`build`](Self::build).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct InstanceBuilder {
    draft: Option<Draft>,
    fault: Option<Error>,
    metadata: Option<Vec<(String, String)>>,
}

/// An instance before it is packed.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) service: ServiceName,
    pub(super) id: InstanceId,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) version: Option<Box<str>>,
    pub(super) zone: Option<Box<str>>,
    pub(super) group: Option<Box<str>>,
    /// Sorted, without duplicates.
    pub(super) tags: Vec<Box<str>>,
    pub(super) weight: Weight,
    pub(super) status: Status,
    pub(super) metadata: Metadata,
    pub(super) record_version: Option<RecordVersion>,
}

impl InstanceBuilder {
    pub(super) fn new(service: &str) -> Self {
        match ServiceName::new(service) {
            Ok(service) => Self::of(service),
            Err(fault) => Self { draft: None, fault: Some(fault), metadata: None },
        }
    }

    /// Starts from a name that is already parsed; for backends that read foreign names.
    pub fn of(service: ServiceName) -> Self {
        Self::of_parsed(service, InstanceId::generate())
    }

    /// Starts from the key of a record that was read: no id is generated, which costs a system call and shows where
    /// records are read by the thousand.
    pub fn of_key(key: InstanceKey) -> Self {
        Self::of_parsed(key.service, key.id)
    }

    pub(super) fn of_parsed(service: ServiceName, id: InstanceId) -> Self {
        Self::from_draft(Draft {
            service,
            id,
            endpoints: Vec::new(),
            version: None,
            zone: None,
            group: None,
            tags: Vec::new(),
            weight: Weight::NEUTRAL,
            status: Status::Serving,
            metadata: Metadata::default(),
            record_version: None,
        })
    }

    pub(super) fn from_draft(draft: Draft) -> Self {
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

    /// Adds an endpoint that is already parsed.
    pub fn parsed_endpoint(self, endpoint: Endpoint) -> Self {
        self.edit(|draft| push_endpoint(draft, endpoint))
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
            draft.endpoints.clear();
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
            let tag = text("tag", tag.as_ref())?;
            if let Err(at) = draft.tags.binary_search(&tag) {
                draft.tags.insert(at, tag);
            }
            if draft.tags.len() > MAX_TAGS {
                return Err(Error::new(ErrorKind::InvalidArgument, "an instance has more than 64 tags"));
            }
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
        let Some(mut draft) = self.draft else {
            return Err(Error::invalid("an instance needs a service name"));
        };
        if let Some(pairs) = self.metadata {
            draft.metadata = Metadata::from_pairs(pairs)?;
        }
        if draft.endpoints.is_empty() {
            return Err(invalid("instance of", draft.service.as_str(), "has no endpoint"));
        }
        Ok(Instance::from_draft(draft))
    }

    fn edit(mut self, change: impl FnOnce(&mut Draft) -> Result<(), Error>) -> Self {
        if let (Some(draft), None) = (&mut self.draft, &self.fault) {
            self.fault = change(draft).err();
        }
        self
    }
}

fn push_endpoint(draft: &mut Draft, endpoint: Endpoint) -> Result<(), Error> {
    if draft.endpoints.len() == MAX_ENDPOINTS {
        return Err(Error::new(ErrorKind::InvalidArgument, "an instance has more than 16 endpoints"));
    }
    draft.endpoints.push(endpoint);
    Ok(())
}

fn text(what: &str, value: &str) -> Result<Box<str>, Error> {
    check_text(what, value)?;
    Ok(value.into())
}

/// Checks a version, zone, group or tag.
pub(super) fn check_text(what: &str, value: &str) -> Result<(), Error> {
    if value.is_empty() || value.len() > MAX_TEXT {
        return Err(invalid(what, value, "must have 1 to 256 bytes"));
    }
    if deceptive(value).is_some() {
        return Err(invalid(what, value, "holds a control character"));
    }
    Ok(())
}
