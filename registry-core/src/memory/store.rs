//! The data under one lock: leases and records.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    call::FaultState,
    history::{Commit, Fact},
    session::{Session, SessionId},
};
use crate::{
    Error, ErrorKind,
    backend::{Listing, OnDuplicate, Outcome, Presence, Publish, SourceId},
    model::{Incarnation, Instance, InstanceId, InstanceKey, ServiceName},
};

pub(super) type LeaseId = u64;

pub(super) struct State {
    pub(super) source: SourceId,
    pub(super) revision: u64,
    pub(super) leases: HashMap<LeaseId, LeaseState>,
    pub(super) history: VecDeque<Commit>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) last_session: SessionId,
    pub(super) faults: FaultState,
    /// Raised when every open watch loses its connection.
    pub(super) connection: u64,
    /// Raised by every change of data or faults, to wake the watches.
    pub(super) version: u64,
    records: BTreeMap<ServiceName, BTreeMap<InstanceId, Record>>,
    /// The leases by the instant they end.
    expiry: BTreeSet<(Instant, LeaseId)>,
    last_lease: LeaseId,
    /// Cursors below this revision can't be honoured any more.
    pub(super) compacted: u64,
}

pub(super) struct LeaseState {
    ttl: Duration,
    ends: Instant,
    keys: BTreeSet<InstanceKey>,
}

struct Record {
    /// `None` if what stands there can't be decoded.
    instance: Option<Arc<Instance>>,
    lease: Option<LeaseId>,
}

impl Record {
    fn incarnation(&self) -> Option<Incarnation> {
        self.instance.as_ref()?.record_version().map(|version| version.incarnation)
    }
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            source: new_source(),
            revision: 0,
            leases: HashMap::new(),
            history: VecDeque::new(),
            sessions: BTreeMap::new(),
            last_session: 0,
            faults: FaultState::default(),
            connection: 0,
            version: 0,
            records: BTreeMap::new(),
            expiry: BTreeSet::new(),
            last_lease: 0,
            compacted: 0,
        }
    }

    // === leases ===

    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        self.last_lease += 1;
        let ends = ends(ttl, now);
        self.expiry.insert((ends, self.last_lease));
        self.leases.insert(self.last_lease, LeaseState { ttl, ends, keys: BTreeSet::new() });
        self.version += 1;
        self.last_lease
    }

    pub(super) fn renew(&mut self, id: LeaseId, now: Instant) -> Result<(), Error> {
        let Some(lease) = self.leases.get_mut(&id) else { return Err(lease_lost()) };
        self.expiry.remove(&(lease.ends, id));
        lease.ends = ends(lease.ttl, now);
        self.expiry.insert((lease.ends, id));
        self.version += 1;
        Ok(())
    }

    /// Ends a lease, if there is one, and removes what still hangs on it in one revision.
    pub(super) fn end_lease(&mut self, id: LeaseId, now: Instant) {
        let Some(lease) = self.leases.remove(&id) else { return };
        self.expiry.remove(&(lease.ends, id));
        self.version += 1;
        let gone = lease.keys.into_iter().filter(|key| self.take(key).is_some()).map(Fact::Gone).collect();
        self.commit(gone, now);
    }

    /// Forgets a lease while its records stay, with nothing to end them.
    pub(super) fn orphan_lease(&mut self, id: LeaseId) {
        let Some(lease) = self.leases.remove(&id) else { return };
        self.expiry.remove(&(lease.ends, id));
        self.version += 1;
        for key in &lease.keys {
            if let Some(record) = self.records.get_mut(&key.service).and_then(|ids| ids.get_mut(&key.id)) {
                record.lease = None;
            }
        }
    }

    /// All leases, oldest first.
    pub(super) fn lease_ids(&self) -> BTreeSet<LeaseId> {
        self.leases.keys().copied().collect()
    }

    /// Ends every lease whose time has come, in the order of their ends.
    pub(super) fn sweep(&mut self, now: Instant) {
        while let Some((ends, id)) = self.expiry.first().copied()
            && ends <= now
        {
            self.end_lease(id, now);
        }
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiry.first().map(|(ends, _)| *ends)
    }

    // === records ===

    pub(super) fn publish(
        &mut self,
        lease: LeaseId,
        incarnation: Incarnation,
        records: &[Publish],
        now: Instant,
    ) -> Vec<Outcome> {
        if !self.leases.contains_key(&lease) {
            return vec![Err(lease_lost()); records.len()];
        }
        if self.faults.lose_publishes {
            return vec![Ok(()); records.len()];
        }
        let mut facts = Vec::new();
        let outcomes = records
            .iter()
            .map(|record| {
                self.admit(incarnation, record)?;
                let instance = (*record.instance).clone().with_record_version(Some(record.version));
                let instance = Arc::new(instance);
                self.put(&instance.key(), Some(Arc::clone(&instance)), Some(lease));
                facts.push(Fact::Put(instance));
                Ok(())
            })
            .collect();
        self.commit(facts, now);
        outcomes
    }

    fn admit(&self, incarnation: Incarnation, publish: &Publish) -> Result<(), Error> {
        let key = publish.instance.key();
        if publish.version.incarnation != incarnation {
            let why = format!("the record of {key} names another incarnation than its lease");
            return Err(Error::invalid(why));
        }
        if self.faults.rejected.contains(&key) {
            return Err(Error::invalid(format!("the registry refuses the record of {key}")));
        }
        match self.record(&key) {
            Some(record)
                if record.incarnation() != Some(incarnation)
                    && publish.on_duplicate == OnDuplicate::Reject =>
            {
                let why = format!("another client holds the record of {key}");
                Err(Error::new(ErrorKind::Conflict, why))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn withdraw(&mut self, incarnation: Incarnation, instances: &[Arc<Instance>], now: Instant) {
        let mut facts = Vec::new();
        for key in instances.iter().map(|instance| instance.key()) {
            if self.record(&key).is_some_and(|record| record.incarnation() == Some(incarnation)) {
                self.take(&key);
                facts.push(Fact::Gone(key));
            }
        }
        self.commit(facts, now);
    }

    pub(super) fn inspect(
        &self,
        lease: LeaseId,
        incarnation: Incarnation,
        keys: &[InstanceKey],
    ) -> Vec<Presence> {
        let judge = |key: &InstanceKey| {
            let Some(record) = self.record(key) else { return Presence::Missing };
            match record.instance.as_ref().and_then(|instance| instance.record_version()) {
                Some(version) if version.incarnation == incarnation => {
                    if record.lease == Some(lease) {
                        Presence::Ours { version }
                    } else {
                        Presence::Missing
                    }
                }
                _ => Presence::Foreign,
            }
        };
        keys.iter().map(judge).collect()
    }

    /// Writes a record past all leases and checks; `None` writes something that can't be decoded, and keeps the
    /// lease of what stood there.
    pub(super) fn force(&mut self, key: InstanceKey, instance: Option<Arc<Instance>>, now: Instant) {
        let lease = if instance.is_some() { None } else { self.record(&key).and_then(|record| record.lease) };
        self.put(&key, instance.clone(), lease);
        self.commit(vec![instance.map_or(Fact::Garbage(key), Fact::Put)], now);
    }

    /// Deletes a record past all checks.
    pub(super) fn delete(&mut self, key: InstanceKey, now: Instant) -> bool {
        let there = self.take(&key).is_some();
        if there {
            self.commit(vec![Fact::Gone(key)], now);
        }
        there
    }

    fn record(&self, key: &InstanceKey) -> Option<&Record> {
        self.records.get(&key.service)?.get(&key.id)
    }

    fn put(&mut self, key: &InstanceKey, instance: Option<Arc<Instance>>, lease: Option<LeaseId>) {
        self.take(key);
        if let Some(lease) = lease.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.insert(key.clone());
        }
        let ids = self.records.entry(key.service.clone()).or_default();
        ids.insert(key.id.clone(), Record { instance, lease });
    }

    fn take(&mut self, key: &InstanceKey) -> Option<Record> {
        let ids = self.records.get_mut(&key.service)?;
        let record = ids.remove(&key.id)?;
        if ids.is_empty() {
            self.records.remove(&key.service);
        }
        if let Some(lease) = record.lease.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.remove(key);
        }
        Some(record)
    }

    // === reading ===

    /// What really stands there: the instances sorted by id, and the keys that can't be decoded.
    pub(super) fn listing(&self, service: &ServiceName) -> (Vec<Arc<Instance>>, Vec<InstanceKey>) {
        let mut instances = Vec::new();
        let mut rejected = Vec::new();
        for (id, record) in self.records.get(service).into_iter().flatten() {
            match &record.instance {
                Some(instance) => instances.push(Arc::clone(instance)),
                None => rejected.push(InstanceKey::new(service.clone(), id.clone())),
            }
        }
        (instances, rejected)
    }

    /// What a look is answered, which a fault may have shortened.
    pub(super) fn lookup(&self, service: &ServiceName) -> Listing {
        let (mut instances, rejected) = self.listing(service);
        if let Some(keep) = self.faults.shortened.get(service) {
            instances.truncate(*keep);
        }
        let mut listing = Listing::new(instances, self.evidence(self.revision));
        listing.rejected = rejected;
        listing
    }

    pub(super) fn services(&self) -> Vec<ServiceName> {
        self.records.keys().cloned().collect()
    }

    // === crashes ===

    /// Breaks the connection of every open watch.
    pub(super) fn disconnect(&mut self) {
        self.connection += 1;
        self.version += 1;
    }

    /// A restart with the data: as a new leader does, leases start their time over.
    pub(super) fn restart(&mut self, now: Instant) {
        self.disconnect();
        self.expiry.clear();
        for (id, lease) in &mut self.leases {
            lease.ends = ends(lease.ttl, now);
            self.expiry.insert((lease.ends, *id));
        }
    }

    /// A restart without the data.
    pub(super) fn lose_data(&mut self) {
        self.disconnect();
        self.source = new_source();
        self.revision = 0;
        self.compacted = 0;
        self.history.clear();
        self.records.clear();
        self.leases.clear();
        self.expiry.clear();
    }
}

fn ends(ttl: Duration, now: Instant) -> Instant {
    // A century stands for "never" where the sum would overflow.
    now.checked_add(ttl).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400))
}

fn new_source() -> SourceId {
    SourceId::new(Incarnation::generate().to_string())
}

fn lease_lost() -> Error {
    Error::new(ErrorKind::LeaseLost, "the registry doesn't know the lease")
}
