//! What only a story itself knows: removals by others, attempts, renewals, and calls that were waited for.

use std::time::Duration;

use registry_core::{Error, InstanceKey};

use super::{History, observation::Observation};

impl History {
    /// Somebody else has removed this record, or is about to.
    pub fn gone(&self, key: &InstanceKey, why: &str) {
        self.record(Observation::Gone { key: key.clone(), why: why.into() });
    }

    /// A call of `client` arrives at the registry.
    pub fn attempt(&self, client: &str) {
        self.record(Observation::Attempt { client: client.into() });
    }

    /// A renewal of `client` ends that was sent at `sent`.
    pub fn renewal(&self, client: &str, sent: Duration, ok: bool) {
        self.record(Observation::Renewal { client: client.into(), sent, ok });
    }

    /// Waits for a call of the public API and notes how it ended.
    ///
    /// # Errors
    ///
    /// The call's own.
    ///
    /// # Cancel safety
    ///
    /// As the call; nothing is noted of one that is dropped.
    pub async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let begin = self.now();
        let result = call.await;
        let (took, outcome) = (self.now() - begin, result.as_ref().map(drop).map_err(Error::clone));
        self.record(Observation::Call { what: what.into(), took, outcome });
        result
    }
}
