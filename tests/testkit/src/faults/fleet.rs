//! What is under test: somebody's way to register and to discover.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use registry_core::{
    Deregistration, Error, Instance, InstanceId, InstanceKey, OnDuplicate, OnMissing, Phase, Start, Update,
};

use super::{History, observation::View};

/// One process that registers and discovers, connected to one registry. What it is asked for and what it tells goes
/// into the history it was opened with.
#[async_trait]
pub trait Fleet: Send + Sync {
    /// Its name in the history.
    fn name(&self) -> &Arc<str>;

    /// Keeps an instance registered until it is deregistered or the fleet is closed.
    ///
    /// # Errors
    ///
    /// What kept it from being registered.
    async fn register(&self, instance: Instance, policy: Policy) -> Result<(), Error>;

    /// Replaces what is published of a registered instance, as soon as the registry can be reached.
    ///
    /// # Errors
    ///
    /// If it isn't registered.
    async fn update(&self, instance: Instance) -> Result<(), Error>;

    /// Withdraws an instance and says what that achieved; `None` if it isn't registered.
    async fn deregister(&self, key: &InstanceKey) -> Option<Deregistration>;

    /// What it claims of a registration now; `None` if it isn't registered.
    fn phase(&self, key: &InstanceKey) -> Option<Phase>;

    /// The epoch of a registration, raised at each loss, if it counts any.
    fn epoch(&self, key: &InstanceKey) -> Option<u64> {
        let _ = key;
        None
    }

    /// Everything it keeps registered.
    fn keys(&self) -> Vec<InstanceKey>;

    /// Finds a service.
    ///
    /// # Errors
    ///
    /// What kept it from being found.
    async fn discover(&self, reader: &str, service: &str) -> Result<Arc<dyn Reader>, Error>;

    /// Withdraws everything and ends its tasks.
    async fn close(&self);
}

/// How an instance is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// What becomes of somebody else's record under the same id.
    pub on_duplicate: OnDuplicate,
    /// What to do when an operator deletes the record.
    pub on_missing: OnMissing,
    /// What to do while the registry is away.
    pub start: Start,
}

impl Policy {
    /// With another answer to a duplicate.
    #[must_use]
    pub fn on_duplicate(mut self, on_duplicate: OnDuplicate) -> Self {
        self.on_duplicate = on_duplicate;
        self
    }

    /// With another answer to a deletion.
    #[must_use]
    pub fn on_missing(mut self, on_missing: OnMissing) -> Self {
        self.on_missing = on_missing;
        self
    }

    /// With another start.
    #[must_use]
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }
}

/// A live view of one service.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Its name in the history.
    fn name(&self) -> &Arc<str>;

    /// What it shows now.
    fn view(&self) -> View;

    /// Picks an instance, without waiting.
    ///
    /// # Errors
    ///
    /// If there is none.
    fn pick(&self) -> Result<InstanceId, Error>;

    /// The next step of its changes, from a first one that has everything as added; `None` at the end, or from the
    /// start if it has no such stream.
    async fn changed(&self) -> Option<Update>;
}

/// Opens fleets, all of one kind.
pub trait FleetFactory: Send + Sync {
    /// What kind, for reports.
    fn kind(&self) -> &'static str;

    /// A fleet called `name`, connected by the URL `url`, whose options (`ttl`, `audit`, …) are the facade's.
    fn open<'a>(
        &'a self,
        name: &'a str,
        url: &'a str,
        history: &'a History,
    ) -> BoxFuture<'a, Result<Arc<dyn Fleet>, Error>>;
}
