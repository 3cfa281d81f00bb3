//! What this client has written, and under which lease.
//!
//! Nacos has no leases, so which one a record hangs on is known here only. And its lists lag behind by up to a second,
//! also for the writer: for a while what was written here counts more than what a list says.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use registry_core::{InstanceKey, ServiceName, model::RecordVersion};
use tokio::{sync::RwLock, time::Instant};

use super::codec::{Address, Record};

/// How long a list may lag: Nacos rebuilds it 500 ms after a change.
const LAG: Duration = Duration::from_secs(2);

/// Shared by the leases of one registry.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    written: Mutex<Written>,
    leases: AtomicU64,
}

#[derive(Debug, Default)]
struct Written {
    records: HashMap<InstanceKey, Line>,
    /// Whose an address is; Nacos takes two records at one address for one, whatever their cluster.
    addresses: HashMap<(ServiceName, String, u16), InstanceKey>,
    /// Where writes are on their way, or may have arrived without an answer.
    tried: HashMap<InstanceKey, BTreeSet<Address>>,
}

/// The last that was written of one key.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) address: Address,
    pub(crate) version: RecordVersion,
    pub(crate) lease: u64,
    pub(crate) record: Arc<Record>,
    pub(crate) is_withdrawn: bool,
    /// Keys of an operator's edit that hide what was written.
    pub(crate) hidden_by: Option<Arc<[String]>>,
    /// The edit can't be undone by us.
    pub(crate) is_stuck: bool,
    /// It is to be removed, whatever comes of the try: nothing may keep it alive.
    is_leaving: bool,
    /// Held for reading by beats that register whom the server doesn't know; a removal takes it for writing, so that
    /// none is under way. A gate, not a guard of shared data. The same for all that is ever written of the key.
    pub(crate) gate: Arc<RwLock<()>>,
    at: Instant,
    /// When the last beat began that was answered, if by a refusal; a write is one.
    beaten: Instant,
}

impl Line {
    /// Whether no list can be trusted to show it yet.
    pub(crate) fn is_recent(&self) -> bool {
        self.at.elapsed() < LAG
    }

    fn beats(&self) -> bool {
        !self.is_withdrawn && !self.is_leaving
    }
}

impl Journal {
    /// The number of a new lease.
    pub(crate) fn lease(&self) -> u64 {
        self.leases.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn line(&self, key: &InstanceKey) -> Option<Line> {
        self.lock().records.get(key).cloned()
    }

    /// What hangs on a lease, also what is to go.
    pub(crate) fn held_by(&self, lease: u64) -> Vec<InstanceKey> {
        let written = self.lock();
        let held = written.records.iter().filter(|(_, line)| line.lease == lease && !line.is_withdrawn);
        held.map(|(key, _)| key.clone()).collect()
    }

    /// What a lease has to keep alive, those first whose last beat is longest ago: where not all are answered in time,
    /// it shouldn't be the same that miss theirs again and again. One that was refused had its turn: before the others
    /// it would end each round, as a batch ends when a server asks for less.
    pub(crate) fn beating(&self, lease: u64) -> Vec<InstanceKey> {
        let written = self.lock();
        let beating = written.records.iter().filter(|(_, line)| line.lease == lease && line.beats());
        let mut beating: Vec<(Instant, InstanceKey)> =
            beating.map(|(key, line)| (line.beaten, key.clone())).collect();
        beating.sort_unstable();
        beating.into_iter().map(|(_, key)| key).collect()
    }

    /// Notes when a beat began that was answered.
    pub(crate) fn beaten(&self, key: &InstanceKey, at: Instant) {
        if let Some(line) = self.lock().records.get_mut(key) {
            line.beaten = line.beaten.max(at);
        }
    }

    /// The line of a key if the lease has to keep it alive, now.
    pub(crate) fn beat(&self, key: &InstanceKey, lease: u64) -> Option<Line> {
        self.line(key).filter(|line| line.lease == lease && line.beats())
    }

    /// Notes that a key is to go, before anything is done about it; with `lease` only if it still hangs on that.
    /// Returns whether it is to go.
    pub(crate) fn leave(&self, key: &InstanceKey, lease: Option<u64>) -> bool {
        let mut written = self.lock();
        let Some(line) = written.records.get_mut(key) else { return true };
        let goes = lease.is_none_or(|lease| line.lease == lease);
        line.is_leaving |= goes;
        goes
    }

    /// Notes that an operator's edit, of these keys, hides what was written.
    pub(crate) fn hides(&self, key: &InstanceKey, keys: &[String]) {
        if let Some(line) = self.lock().records.get_mut(key) {
            line.hidden_by = Some(keys.into());
        }
    }

    /// Notes that an edit can't be undone; returns whether that is news.
    pub(crate) fn sticks(&self, key: &InstanceKey) -> bool {
        let mut written = self.lock();
        let line = written.records.get_mut(key);
        line.is_some_and(|line| !std::mem::replace(&mut line.is_stuck, true))
    }

    /// Drops what was noted of a key that is somebody else's by now.
    pub(crate) fn forget(&self, key: &InstanceKey) {
        let mut written = self.lock();
        written.leave(key);
        written.records.remove(key);
        written.tried.remove(key);
    }

    /// Notes a write before it is made: whether it happened may never be told, and no list shows it at once.
    pub(crate) fn tries(&self, key: &InstanceKey, address: &Address) {
        self.lock().tried.entry(key.clone()).or_default().insert(address.clone());
    }

    /// Notes that a write that was tried didn't happen.
    pub(crate) fn refused(&self, key: &InstanceKey, address: &Address) {
        let mut written = self.lock();
        if let Some(tried) = written.tried.get_mut(key) {
            tried.remove(address);
            if tried.is_empty() {
                written.tried.remove(key);
            }
        }
    }

    /// Where a key may stand without being noted there, other keys' places left out.
    pub(crate) fn tried(&self, key: &InstanceKey) -> Vec<Address> {
        let written = self.lock();
        let is_free = |address: &&Address| {
            written.addresses.get(&place(&key.service, address)).is_none_or(|resident| resident == key)
        };
        written.tried.get(key).into_iter().flatten().filter(is_free).cloned().collect()
    }

    /// Who of us stands at an address.
    pub(crate) fn resident(&self, service: &ServiceName, address: &Address) -> Option<InstanceKey> {
        self.lock().addresses.get(&place(service, address)).cloned()
    }

    /// Notes a record that was written; returns the gate of its key.
    pub(crate) fn wrote(
        &self,
        key: &InstanceKey,
        address: Address,
        version: RecordVersion,
        lease: u64,
        record: Record,
    ) -> Arc<RwLock<()>> {
        let mut written = self.lock();
        written.leave(key);
        written.tried.remove(key);
        written.addresses.insert(place(&key.service, &address), key.clone());
        let last = written.records.get(key);
        let gate = last.map(|line| Arc::clone(&line.gate)).unwrap_or_default();
        let is_stuck = last.is_some_and(|line| line.is_stuck && line.address == address);
        let line = Line {
            address,
            version,
            lease,
            record: Arc::new(record),
            is_withdrawn: false,
            hidden_by: None,
            is_stuck,
            is_leaving: false,
            gate: Arc::clone(&gate),
            at: Instant::now(),
            beaten: Instant::now(),
        };
        written.records.insert(key.clone(), line);
        gate
    }

    pub(crate) fn withdrew(&self, key: &InstanceKey) {
        let mut written = self.lock();
        written.leave(key);
        written.tried.remove(key);
        // What lists show by now needs no note.
        written.records.retain(|_, line| !line.is_withdrawn || line.is_recent());
        if let Some(line) = written.records.get_mut(key) {
            line.is_withdrawn = true;
            line.at = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    /// Frees the address of a key, if it is still its own.
    fn leave(&mut self, key: &InstanceKey) {
        let Some(line) = self.records.get(key) else { return };
        let place = place(&key.service, &line.address);
        if self.addresses.get(&place) == Some(key) {
            self.addresses.remove(&place);
        }
    }
}

fn place(service: &ServiceName, address: &Address) -> (ServiceName, String, u16) {
    (service.clone(), address.ip.clone(), address.port)
}
