//! What this client has written, and under which lease.
//!
//! Nacos has no leases, so which one a record hangs on is known here only. And its lists lag behind by up to a second,
//! also for the writer: for a while what was written here counts more than what a list says.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use registry_core::{InstanceKey, ServiceName, model::RecordVersion};
use tokio::time::Instant;

use super::codec::Address;

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
}

/// The last that was written of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) address: Address,
    pub(crate) version: RecordVersion,
    pub(crate) lease: u64,
    pub(crate) is_withdrawn: bool,
    at: Instant,
}

impl Line {
    /// Whether no list can be trusted to show it yet.
    pub(crate) fn is_recent(&self) -> bool {
        self.at.elapsed() < LAG
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

    /// What hangs on a lease.
    pub(crate) fn held_by(&self, lease: u64) -> Vec<(InstanceKey, Line)> {
        let written = self.lock();
        let held = written.records.iter().filter(|(_, line)| line.lease == lease && !line.is_withdrawn);
        held.map(|(key, line)| (key.clone(), line.clone())).collect()
    }

    /// Who of us stands at an address.
    pub(crate) fn resident(&self, service: &ServiceName, address: &Address) -> Option<InstanceKey> {
        self.lock().addresses.get(&place(service, address)).cloned()
    }

    pub(crate) fn wrote(&self, key: &InstanceKey, address: Address, version: RecordVersion, lease: u64) {
        let mut written = self.lock();
        written.leave(key);
        written.addresses.insert(place(&key.service, &address), key.clone());
        let line = Line { address, version, lease, is_withdrawn: false, at: Instant::now() };
        written.records.insert(key.clone(), line);
    }

    pub(crate) fn withdrew(&self, key: &InstanceKey) {
        let mut written = self.lock();
        written.leave(key);
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
