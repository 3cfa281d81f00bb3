//! From the body of an answer to what it changes.
//!
//! Of a first list everything is new: its entries are read as they are found, which also tells where they end. Of a later
//! one nearly nothing is, so that it is split, and only what has other bytes than before is read.

use std::{
    collections::{HashMap, HashSet},
    hash::BuildHasher,
    sync::Arc,
};

use foldhash::fast::RandomState;
use registry_core::{
    Instance, InstanceId, InstanceKey, ServiceName, Status,
    backend::{Relist, Relisted},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::entry::{Entry, Reading};
use crate::json::{self, Element, Elements};

/// One list that was taken in.
pub(super) struct Taken {
    pub(super) relisted: Relisted,
    /// Whether it had no entry at all, readable or not.
    pub(super) is_blank: bool,
    /// Which service at Consul it is of, if the body says so.
    pub(super) service: Option<String>,
}

/// Takes a body in; `None` if it is no list, and then nothing was learnt.
pub(super) fn take(relist: &mut Relist, reading: &Reading<'_>, body: &[u8]) -> Option<Taken> {
    // Checking UTF-8 once is faster than for each string.
    let taken =
        std::str::from_utf8(body).ok().and_then(|text| match json::trim_start(text).strip_prefix('[') {
            Some(entries) if relist.is_new() && !reading.is_prepared => take_first(relist, reading, entries),
            _ => take_next(relist, reading, text),
        });
    if taken.is_none() {
        relist.forget();
    }
    taken
}

fn take_first(relist: &mut Relist, reading: &Reading<'_>, entries: &str) -> Option<Taken> {
    let mut entries = Elements::<Entry<'_>>::new(entries);
    let relisted = relist.next(&mut entries, |element| match element {
        Element::Read(_, entry) => reading.instance(&entry),
        Element::Raw(raw) => reading.decode(raw),
    });
    if entries.after().is_none_or(|after| !json::trim_start(after).is_empty()) {
        // It knew nothing before.
        *relist = Relist::new();
        return None;
    }
    Some(Taken { relisted, is_blank: entries.met() == 0, service: None })
}

fn take_next(relist: &mut Relist, reading: &Reading<'_>, text: &str) -> Option<Taken> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Executed<'a> {
        #[serde(borrow)]
        nodes: Option<Vec<&'a RawValue>>,
        service: Option<String>,
    }
    let Executed { nodes, service } = match reading.is_prepared {
        true => serde_json::from_str(text).ok()?,
        false => Executed { nodes: serde_json::from_str(text).ok()?, service: None },
    };
    let entries = nodes.unwrap_or_default();
    let relisted = relist.next(entries.iter().map(|entry| entry.get()), |raw| reading.decode(raw));
    Some(Taken { relisted, is_blank: entries.is_empty(), service })
}

/// A key without its making.
type Name<'a> = (&'a ServiceName, &'a InstanceId);

fn name(instance: &Arc<Instance>) -> Name<'_> {
    (instance.service(), instance.id())
}

/// Where each key is first.
fn places(instances: &[Arc<Instance>]) -> HashMap<Name<'_>, usize, RandomState> {
    let mut places = HashMap::with_capacity_and_hasher(instances.len(), RandomState::default());
    for (at, instance) in instances.iter().enumerate() {
        places.entry(name(instance)).or_insert(at);
    }
    places
}

/// Whether each key is in a list once.
pub(super) fn is_distinct(list: &Relisted) -> bool {
    list.is_distinct
        || has_own_hashes(&list.instances)
        || places(&list.instances).len() == list.instances.len()
}

/// The same, as far as hashes tell, which is nearly always: a table of them is a quarter of one of keys.
fn has_own_hashes(instances: &[Arc<Instance>]) -> bool {
    let hashing = RandomState::default();
    let mut hashes = HashSet::with_capacity_and_hasher(instances.len(), RandomState::default());
    instances.iter().all(|instance| hashes.insert(hashing.hash_one(name(instance))))
}

/// Each key once: one instance may stand at two agents, after it has moved or while both are told of it.
pub(super) fn distinct(list: Relisted) -> (Vec<Arc<Instance>>, Vec<InstanceKey>) {
    if list.rejected.is_empty() && is_distinct(&list) {
        return (list.instances, list.rejected);
    }
    let places = places(&list.instances);
    let is_new = |key: &InstanceKey| !places.contains_key(&(&key.service, &key.id));
    let rejected = list.rejected.into_iter().filter(is_new).collect();
    if places.len() == list.instances.len() {
        drop(places);
        return (list.instances, rejected);
    }
    let mut best: Vec<Option<Arc<Instance>>> = vec![None; list.instances.len()];
    for instance in &list.instances {
        let held = &mut best[places[&name(instance)]];
        if held.as_ref().is_none_or(|held| rank(instance) > rank(held)) {
            *held = Some(Arc::clone(instance));
        }
    }
    (best.into_iter().flatten().collect(), rejected)
}

fn rank(instance: &Instance) -> (bool, u64, u64) {
    let version = instance.record_version();
    let (epoch, sequence) = version.map_or((0, 0), |version| (version.epoch, version.sequence));
    (instance.status() == Status::Serving, epoch, sequence)
}

#[cfg(test)]
mod tests;
