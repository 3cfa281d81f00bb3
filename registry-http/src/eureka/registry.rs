//! Granting leases.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use registry_core::{Clock, Error, InstanceKey, Lease, Registry, backend::Grant};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{api::Api, codec::lease_seconds, lease::EurekaLease, names::Names};
use crate::http::invalid;

/// The last timestamp there is: Java reads it as a long.
const LAST: u64 = i64::MAX.unsigned_abs();

/// Publishing in Eureka, which has no leases but one per instance: those that are granted here are virtual.
#[derive(Debug)]
pub(crate) struct EurekaRegistry {
    api: Arc<Api>,
    names: Arc<Names>,
    ledger: Arc<Ledger>,
    leases: AtomicU64,
}

/// Publications that are on their way at once, of all leases of a client.
const PUBLICATIONS: usize = 64;

/// Which lease holds which instance, of all leases of a client. An instance is held by the one that published it last.
#[derive(Debug)]
pub(crate) struct Ledger {
    stamps: Stamps,
    holdings: Mutex<HashMap<InstanceKey, Holding>>,
    /// The core hands over all batches at once.
    publications: Semaphore,
}

/// What a lease holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) lease: u64,
    /// Of the registration that the server has taken.
    pub(crate) dirty: u64,
    pub(crate) status: &'static str,
    /// Not while it is being withdrawn.
    pub(crate) beats: bool,
}

/// `lastDirtyTimestamp`s: the wall clock's, but each larger than the one before, wherever the clock is set.
#[derive(Debug)]
struct Stamps {
    clock: Arc<dyn Clock>,
    last: AtomicU64,
}

impl EurekaRegistry {
    pub(crate) fn new(api: Arc<Api>, names: Arc<Names>, clock: Arc<dyn Clock>) -> Self {
        let stamps = Stamps { clock, last: AtomicU64::new(0) };
        let ledger = Arc::new(Ledger::new(stamps));
        Self { api, names, ledger, leases: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Registry for EurekaRegistry {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        // Java reads it as an int, and doubles it in ms.
        let seconds = lease_seconds(grant.ttl);
        if seconds == 0 || seconds > 1_000_000_000 {
            let error = invalid("the time to live must be 1 s to 1,000,000,000 s");
            return Err(error.with_context(super::NAME, "grant"));
        }
        let id = self.leases.fetch_add(1, Ordering::Relaxed);
        let (api, names, ledger) = (&self.api, &self.names, &self.ledger);
        let lease = EurekaLease::new(
            Arc::clone(api),
            Arc::clone(names),
            Arc::clone(ledger),
            id,
            grant.incarnation,
            seconds,
        );
        Ok(Arc::new(lease))
    }
}

impl Ledger {
    fn new(stamps: Stamps) -> Self {
        Self { stamps, holdings: Mutex::default(), publications: Semaphore::new(PUBLICATIONS) }
    }

    /// Waits until a publication may begin; it may last as long as the permit is held.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.publications.acquire().await.ok()
    }

    /// A timestamp for a registration of `key`, where `existing` stands: larger than both that and our last for this key,
    /// as far as there are any. A server keeps the record that it has if the new one's is smaller, without a word.
    pub(crate) fn stamp(&self, key: &InstanceKey, existing: Option<u64>) -> u64 {
        let ours = self.holdings().get(key).map(|held| held.dirty);
        let theirs = existing.filter(|existing| *existing <= LAST);
        let above = ours.max(theirs).map_or(0, |before| before.saturating_add(1));
        // The last is as good as itself.
        self.stamps.next().max(above).min(LAST)
    }

    pub(crate) fn hold(&self, key: InstanceKey, holding: Holding) {
        self.holdings().insert(key, holding);
    }

    /// What `lease` holds under this key.
    pub(crate) fn held(&self, lease: u64, key: &InstanceKey) -> Option<Holding> {
        self.holdings().get(key).filter(|holding| holding.lease == lease).copied()
    }

    /// All that `lease` holds.
    pub(crate) fn all(&self, lease: u64) -> Vec<(InstanceKey, Holding)> {
        let holdings = self.holdings();
        holdings
            .iter()
            .filter(|(_, held)| held.lease == lease)
            .map(|(key, held)| (key.clone(), *held))
            .collect()
    }

    /// Ends the beats of an instance, whichever lease holds it.
    pub(crate) fn still(&self, key: &InstanceKey) {
        if let Some(holding) = self.holdings().get_mut(key) {
            holding.beats = false;
        }
    }

    /// Forgets an instance, if `lease` still holds it or nobody is asked for.
    pub(crate) fn forget(&self, lease: Option<u64>, key: &InstanceKey) {
        let mut holdings = self.holdings();
        if holdings.get(key).is_some_and(|held| lease.is_none_or(|lease| held.lease == lease)) {
            holdings.remove(key);
        }
    }

    /// Forgets all that `lease` holds.
    pub(crate) fn forget_all(&self, lease: u64) {
        self.holdings().retain(|_, holding| holding.lease != lease);
    }

    fn holdings(&self) -> MutexGuard<'_, HashMap<InstanceKey, Holding>> {
        self.holdings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamps {
    fn next(&self) -> u64 {
        let now = u64::try_from(self.clock.wall().as_millis()).unwrap_or(LAST);
        let after = |last: u64| now.max(last.saturating_add(1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        last.map_or(now, after)
    }
}

#[cfg(test)]
mod tests {
    use registry_core::{InstanceId, ManualClock, ServiceName};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timestamps_grow_though_the_clock_is_set_back_and_a_server_is_ahead() {
        let clock = Arc::new(ManualClock::new());
        let stamps = Stamps { clock: Arc::clone(&clock) as Arc<dyn Clock>, last: AtomicU64::new(0) };
        let ledger = Ledger::new(stamps);
        let key =
            |id: &str| InstanceKey::new(ServiceName::new("orders").unwrap(), InstanceId::new(id).unwrap());
        let (a, b) = (key("a"), key("b"));
        let first = ledger.stamp(&a, None);
        assert_eq!(u128::from(first), clock.wall().as_millis());
        assert_eq!(ledger.stamp(&a, None), first + 1);
        clock.step(-60_000);
        assert_eq!(ledger.stamp(&a, None), first + 2);
        let ahead = ledger.stamp(&a, Some(first + 500));
        assert_eq!(ahead, first + 501);
        ledger.hold(a.clone(), Holding { lease: 1, dirty: ahead, status: "UP", beats: true });
        assert_eq!(ledger.stamp(&a, None), first + 502, "though a copy of the server lacks it");
        assert_eq!(ledger.stamp(&b, None), first + 5, "a server's clock counts for what it has");
        clock.step(120_000);
        assert_eq!(ledger.stamp(&a, None), first + 60_000);
    }
}
