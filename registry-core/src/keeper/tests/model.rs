//! A registry as a value: leases with expiry, records with an owner, and faults on command.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::super::input::{Call, LeaseNo, Reply};
use crate::{
    Error, ErrorKind, OnDuplicate,
    backend::{Lifetime, Outcome, Presence, Proof, Publish, Renewal},
    model::{Incarnation, Instance, InstanceKey, RecordVersion},
};

/// Which life's which lease.
pub(super) type LeaseId = (usize, LeaseNo);

/// What is wrong with the registry.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(super) enum Fault {
    None,
    /// Every call fails at once, without effect.
    Down,
    /// Nothing is ever answered; what becomes of the requests is told.
    Hang(Landing),
    /// Every call is refused with this kind.
    Refusing(ErrorKind),
    /// Every call is refused, and the registry says how long to wait.
    Throttled(Option<Duration>),
}

/// What becomes of a request that is never answered.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
pub(super) enum Landing {
    Never,
    AtOnce,
    After(Duration),
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) lease: LeaseId,
    pub(super) version: RecordVersion,
    pub(super) content: Arc<Instance>,
    /// Where beats are the record's own.
    pub(super) expires: Option<Duration>,
    /// When it landed after its writer had given up.
    pub(super) late: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) fault: Fault,
    /// One way.
    pub(super) latency: Duration,
    pub(super) proof: Proof,
    pub(super) lifetime: Lifetime,
    /// What a renewal says, if not what the grant said.
    pub(super) renewed_ttl: Option<Duration>,
    pub(super) renew_after: Option<Duration>,
    pub(super) records: BTreeMap<InstanceKey, Stored>,
    pub(super) leases: BTreeMap<LeaseId, Option<Duration>>,
    /// What a lease's handle remembers of its publications.
    pub(super) published: BTreeMap<LeaseId, BTreeSet<InstanceKey>>,
    /// Records that are refused, and how.
    pub(super) refuse: BTreeMap<InstanceKey, ErrorKind>,
    /// Whether reads are refused, and how.
    pub(super) refuse_reads: Option<ErrorKind>,
    /// Instances of which no read tells anything.
    pub(super) untold: BTreeSet<InstanceKey>,
    /// Whether withdrawals are refused, and how.
    pub(super) refuse_withdrawals: Option<ErrorKind>,
    /// Instances whose beats aren't answered.
    pub(super) mute: BTreeSet<InstanceKey>,
    /// Instances that the registry's own check calls dead.
    pub(super) failing: BTreeSet<InstanceKey>,
    /// Whether leases stand still, as without a quorum.
    pub(super) stands_still: bool,
    /// Whether anything vanished by hand.
    pub(super) touched: bool,
    /// Each change of owner.
    pub(super) owners: Vec<(Duration, InstanceKey, Option<Incarnation>)>,
    /// Each arrival: when, what.
    pub(super) arrivals: Vec<(Duration, &'static str)>,
    /// Each record that was ever written: when, under which key.
    pub(super) writes: Vec<(Duration, InstanceKey)>,
}

impl Model {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            fault: Fault::None,
            latency: Duration::from_millis(2),
            proof: Proof::Session,
            lifetime: Lifetime::Leased { ttl },
            renewed_ttl: None,
            renew_after: None,
            records: BTreeMap::new(),
            leases: BTreeMap::new(),
            published: BTreeMap::new(),
            refuse: BTreeMap::new(),
            refuse_reads: None,
            untold: BTreeSet::new(),
            refuse_withdrawals: None,
            mute: BTreeSet::new(),
            failing: BTreeSet::new(),
            stands_still: false,
            touched: false,
            owners: Vec::new(),
            arrivals: Vec::new(),
            writes: Vec::new(),
        }
    }

    pub(super) fn ttl(&self) -> Option<Duration> {
        match (self.renewed_ttl, self.lifetime) {
            (Some(ttl), _) | (None, Lifetime::Leased { ttl }) => Some(ttl),
            _ => None,
        }
    }

    pub(super) fn count(&self, what: &str) -> usize {
        self.arrivals.iter().filter(|(_, name)| *name == what).count()
    }

    pub(super) fn leases(&self) -> usize {
        self.leases.len()
    }

    /// When the next lease or record expires.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        let records = self.records.values().filter_map(|r| r.expires);
        self.leases.values().flatten().copied().chain(records).min()
    }

    /// The registry lost its data.
    pub(super) fn wipe(&mut self, now: Duration) {
        self.touched = true;
        self.leases.clear();
        self.published.clear();
        for key in std::mem::take(&mut self.records).into_keys() {
            self.owners.push((now, key, None));
        }
    }

    /// The registry denies all leases from now on, and drops what hung on them.
    pub(super) fn revoke_all(&mut self, now: Duration) {
        self.wipe(now);
    }

    /// An operator deletes a record.
    pub(super) fn delete(&mut self, key: &InstanceKey, now: Duration) {
        self.touched = true;
        self.remove(key, now);
    }

    fn remove(&mut self, key: &InstanceKey, now: Duration) {
        if self.records.remove(key).is_some() {
            self.owners.push((now, key.clone(), None));
        }
    }

    /// Somebody else writes the record.
    pub(super) fn usurp(&mut self, instance: &Arc<Instance>, now: Duration) {
        let version = RecordVersion { incarnation: Incarnation::from_bits(99), epoch: 1, sequence: 1 };
        self.leases.insert((99, 1), None);
        self.store((99, 1), version, instance, now, false);
    }

    /// A new leader: leases run again, each for its full time.
    pub(super) fn runs_again(&mut self, now: Duration) {
        self.stands_still = false;
        let until = self.ttl().map(|ttl| now + ttl);
        self.leases.values_mut().for_each(|expires| *expires = until);
    }

    /// Lets leases and records expire.
    pub(super) fn advance(&mut self, now: Duration) {
        if self.stands_still {
            return;
        }
        self.leases.retain(|_, expires| expires.is_none_or(|at| at > now));
        let gone: Vec<_> = (self.records.iter())
            .filter(|(_, r)| !self.leases.contains_key(&r.lease) || r.expires.is_some_and(|at| at <= now))
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().for_each(|key| self.remove(key, now));
    }

    /// Carries a request out; `late` if nobody waits for it any more.
    pub(super) fn handle(
        &mut self,
        life: usize,
        incarnation: Incarnation,
        call: &Call,
        now: Duration,
        late: bool,
    ) -> Reply {
        self.advance(now);
        match call {
            Call::Grant { lease } => {
                let expires = match (self.lifetime, self.proof) {
                    (Lifetime::Leased { ttl }, Proof::Session) => Some(now + ttl),
                    _ => None,
                };
                self.leases.insert((life, *lease), expires);
                Reply::Granted(Ok(self.lifetime))
            }
            Call::Publish { lease, records } => {
                let id = (life, *lease);
                Reply::Published(records.iter().map(|record| self.publish(id, record, now, late)).collect())
            }
            Call::Withdraw { .. } if self.refuse_withdrawals.is_some() => {
                let kind = self.refuse_withdrawals.unwrap_or(ErrorKind::Unavailable);
                Self::refusal(call, &Error::new(kind, "refused"))
            }
            Call::Withdraw { instances, .. } => {
                for key in instances.iter().map(|instance| instance.key()) {
                    if self.records.get(&key).is_some_and(|r| r.version.incarnation == incarnation) {
                        self.remove(&key, now);
                    }
                    self.published.values_mut().for_each(|keys| {
                        keys.remove(&key);
                    });
                }
                Reply::Withdrawn(vec![Ok(()); instances.len()])
            }
            Call::Renew { lease } => Reply::Renewed(self.renew((life, *lease), now)),
            Call::Inspect { .. } if self.refuse_reads.is_some() => {
                let kind = self.refuse_reads.unwrap_or(ErrorKind::Unavailable);
                Self::refusal(call, &Error::new(kind, "refused"))
            }
            Call::Inspect { lease, keys } => {
                let presence = |key: &InstanceKey| match self.records.get(key) {
                    _ if self.untold.contains(key) => Presence::Unknown,
                    None => Presence::Missing,
                    Some(r) if r.version.incarnation != incarnation => Presence::Foreign,
                    Some(r) if r.lease == (life, *lease) && self.failing.contains(key) => Presence::Failing,
                    Some(r) if r.lease == (life, *lease) => Presence::Ours { version: r.version },
                    Some(_) => Presence::Missing,
                };
                Reply::Inspected(Ok(keys.iter().map(presence).collect()))
            }
            Call::Revoke { lease } => {
                self.leases.remove(&(life, *lease));
                self.published.remove(&(life, *lease));
                self.advance(now);
                Reply::Revoked(Ok(()))
            }
        }
    }

    fn publish(&mut self, lease: LeaseId, record: &Publish, now: Duration, late: bool) -> Outcome {
        let key = record.instance.key();
        if !self.leases.contains_key(&lease) {
            return Err(Error::new(ErrorKind::LeaseLost, "unknown lease"));
        }
        if let Some(kind) = self.refuse.get(&key) {
            return Err(Error::new(*kind, "refused"));
        }
        let rival =
            self.records.get(&key).is_some_and(|r| r.version.incarnation != record.version.incarnation);
        if rival && record.on_duplicate == OnDuplicate::Reject {
            return Err(Error::new(ErrorKind::Conflict, "somebody else's"));
        }
        self.store(lease, record.version, &record.instance, now, late);
        match self.failing.contains(&key) {
            true => Err(Error::new(ErrorKind::Unavailable, "its check fails")),
            false => Ok(()),
        }
    }

    fn store(
        &mut self,
        lease: LeaseId,
        version: RecordVersion,
        instance: &Arc<Instance>,
        now: Duration,
        late: bool,
    ) {
        let key = instance.key();
        let expires = self.ttl().filter(|_| self.proof == Proof::Heartbeat).map(|ttl| now + ttl);
        let stored =
            Stored { lease, version, content: Arc::clone(instance), expires, late: late.then_some(now) };
        let before = self.records.insert(key.clone(), stored).map(|r| r.version.incarnation);
        if before != Some(version.incarnation) {
            self.owners.push((now, key.clone(), Some(version.incarnation)));
        }
        self.published.entry(lease).or_default().insert(key.clone());
        self.writes.push((now, key));
    }

    fn renew(&mut self, lease: LeaseId, now: Duration) -> Result<Renewal, Error> {
        let ttl = self.ttl();
        let Some(expires) = self.leases.get_mut(&lease) else {
            return Err(Error::new(ErrorKind::LeaseLost, "unknown lease"));
        };
        let mut renewal = Renewal { ttl, renew_after: self.renew_after, ..Renewal::default() };
        if self.proof == Proof::Session {
            *expires = ttl.map(|ttl| now + ttl);
            return Ok(renewal);
        }
        let keys = self.published.get(&lease).cloned().unwrap_or_default();
        for key in keys {
            match self.records.get_mut(&key).filter(|r| r.lease == lease) {
                _ if self.mute.contains(&key) => renewal.missed.push(key),
                Some(record) => record.expires = ttl.map(|ttl| now + ttl),
                None => renewal.lost.push(key),
            }
        }
        Ok(renewal)
    }

    /// What a call is answered while the registry refuses everything.
    pub(super) fn refusal(call: &Call, error: &Error) -> Reply {
        match call {
            Call::Grant { .. } => Reply::Granted(Err(error.clone())),
            Call::Publish { records, .. } => Reply::Published(vec![Err(error.clone()); records.len()]),
            Call::Withdraw { instances, .. } => Reply::Withdrawn(vec![Err(error.clone()); instances.len()]),
            Call::Renew { .. } => Reply::Renewed(Err(error.clone())),
            Call::Inspect { .. } => Reply::Inspected(Err(error.clone())),
            Call::Revoke { .. } => Reply::Revoked(Err(error.clone())),
        }
    }

    pub(super) fn name(call: &Call) -> &'static str {
        match call {
            Call::Grant { .. } => "grant",
            Call::Publish { .. } => "publish",
            Call::Withdraw { .. } => "withdraw",
            Call::Renew { .. } => "renew",
            Call::Inspect { .. } => "inspect",
            Call::Revoke { .. } => "revoke",
        }
    }
}
