//! A door for the benchmarks of this repository, which measure what isn't public. Not part of the API.

use std::sync::Arc;

use registry_core::{Instance, InstanceKey};

#[cfg(feature = "consul")]
pub use crate::consul::bench as consul;
#[cfg(feature = "eureka")]
pub use crate::eureka::bench as eureka;
#[cfg(feature = "nacos")]
pub use crate::nacos::bench as nacos;

/// What a body told a watch.
#[derive(Debug, Default)]
pub struct Taken {
    /// Instances to put into the view; all of them if it was a whole list.
    pub upserts: Vec<Arc<Instance>>,
    /// Instances to take out of it.
    pub removals: Vec<InstanceKey>,
    /// Whether the watch tells the whole list.
    pub is_whole: bool,
}
