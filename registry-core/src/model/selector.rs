//! Which instances of a service a consumer wants.

use super::{Instance, Metadata};
use crate::Error;

/// Narrows a service to the instances that match *every* condition; the empty selector matches all.
///
/// ```
/// use registry_core::{Instance, Selector};
///
/// let canary = Selector::new().zone("z1").tag("canary");
/// let instance = Instance::builder("orders").endpoint("http://10.0.0.7:80").zone("z1").tag("canary").build()?;
/// assert!(canary.matches(&instance));
/// # Ok::<(), registry_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct Selector {
    version: Option<String>,
    zone: Option<String>,
    group: Option<String>,
    tags: Vec<String>,
    metadata: Metadata,
}

impl Selector {
    /// The selector that matches all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only this version.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Only this zone.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Only this group.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Only instances with this tag; several tags must all be there.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self.tags.sort();
        self.tags.dedup();
        self
    }

    /// Only instances whose metadata has this value under this key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) past the limits of [`Metadata`].
    pub fn metadata(mut self, key: &str, value: &str) -> Result<Self, Error> {
        self.metadata = Metadata::from_pairs(self.metadata.iter().chain([(key, value)]))?;
        Ok(self)
    }

    /// Whether the instance meets every condition.
    #[must_use]
    pub fn matches(&self, instance: &Instance) -> bool {
        let same = |want: &Option<String>, have: Option<&str>| want.is_none() || want.as_deref() == have;
        same(&self.version, instance.version())
            && same(&self.zone, instance.zone())
            && same(&self.group, instance.group())
            && self.tags.iter().all(|tag| instance.has_tag(tag))
            && self.metadata.iter().all(|(key, value)| instance.metadata().get(key) == Some(value))
    }
}
