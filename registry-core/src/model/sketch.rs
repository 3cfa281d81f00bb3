//! An instance while a list is read.

use super::{
    Endpoint, Instance, InstanceKey, RecordVersion, Status, Weight,
    builder::{MAX_ENDPOINTS, MAX_TAGS, check_text},
    metadata,
    name::invalid,
};
use crate::{Error, ErrorKind};

/// The parts of an instance as they stand in somebody's answer, borrowed from it.
///
/// For backends that read lists of thousands: what an [`InstanceBuilder`](super::InstanceBuilder) keeps piece by piece is
/// copied once here, and not at all where another instance of the service says the same.
///
/// ```
/// use registry_core::{InstanceId, InstanceKey, ServiceName, model::Sketch};
///
/// let key = InstanceKey::new(ServiceName::new("orders")?, InstanceId::new("a1")?);
/// let mut sketch = Sketch::new(key);
/// sketch.endpoints.push("http://10.0.0.7:8080".parse()?);
/// sketch.version = Some("2.4.1");
/// sketch.metadata.push(("team", "core"));
/// assert_eq!(sketch.build()?.metadata().get("team"), Some("core"));
/// # Ok::<(), registry_core::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a sketch does nothing until `build`"]
pub struct Sketch<'a> {
    /// Service and id.
    pub key: InstanceKey,
    /// 1 to 16, the preferred one first.
    pub endpoints: Vec<Endpoint>,
    /// The version of the software, 1 to 256 bytes.
    pub version: Option<&'a str>,
    /// The zone, 1 to 256 bytes.
    pub zone: Option<&'a str>,
    /// The group, 1 to 256 bytes.
    pub group: Option<&'a str>,
    /// At most 64, in any order; duplicates count once.
    pub tags: Vec<&'a str>,
    /// Neutral by default.
    pub weight: Weight,
    /// [`Status::Serving`] by default.
    pub status: Status,
    /// In any order, within the limits of [`Metadata`](super::Metadata); a later duplicate of a key wins.
    pub metadata: Vec<(&'a str, &'a str)>,
    /// Who published the record, if it tells.
    pub record_version: Option<RecordVersion>,
}

impl Sketch<'_> {
    /// One with nothing in it but whose it is.
    pub fn new(key: InstanceKey) -> Self {
        Self {
            key,
            endpoints: Vec::new(),
            version: None,
            zone: None,
            group: None,
            tags: Vec::new(),
            weight: Weight::NEUTRAL,
            status: Status::Serving,
            metadata: Vec::new(),
            record_version: None,
        }
    }

    /// Builds the instance.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if there is no endpoint, or something is beyond its limits.
    pub fn build(mut self) -> Result<Instance, Error> {
        if self.endpoints.is_empty() {
            return Err(invalid("instance of", self.key.service.as_str(), "has no endpoint"));
        }
        if self.endpoints.len() > MAX_ENDPOINTS {
            return Err(Error::new(ErrorKind::InvalidArgument, "an instance has more than 16 endpoints"));
        }
        for (what, text) in [("version", self.version), ("zone", self.zone), ("group", self.group)] {
            text.map_or(Ok(()), |text| check_text(what, text))?;
        }
        self.tags.iter().try_for_each(|tag| check_text("tag", tag))?;
        self.tags.sort_unstable();
        self.tags.dedup();
        if self.tags.len() > MAX_TAGS {
            return Err(Error::new(ErrorKind::InvalidArgument, "an instance has more than 64 tags"));
        }
        if !metadata::is_sorted(&self.metadata) {
            self.metadata = metadata::sort(self.metadata)?;
        }
        Ok(Instance::from_sketch(&mut self))
    }
}
