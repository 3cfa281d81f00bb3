//! From the body of an answer to what it changes.
//!
//! Of a first list everything is new: its entries are read as they are found, which also tells where they end. Of a later
//! one nearly nothing is, so that it is split, and only what has other bytes than before is read.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use registry_core::{
    Instance, InstanceId, InstanceKey, ServiceName, Status,
    backend::{Relist, Relisted},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::entry::{Entry, Reading};

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
        std::str::from_utf8(body).ok().and_then(|text| match text.trim_ascii_start().strip_prefix('[') {
            Some(entries) if relist.is_new() && !reading.is_prepared => take_first(relist, reading, entries),
            _ => take_next(relist, reading, text),
        });
    if taken.is_none() {
        relist.forget();
    }
    taken
}

fn take_first(relist: &mut Relist, reading: &Reading<'_>, entries: &str) -> Option<Taken> {
    let mut entries = Entries { rest: entries, met: 0, end: None };
    let relisted = relist.next(&mut entries, |item| match item {
        Item::Read(_, entry) => reading.instance(&entry),
        Item::Raw(raw) => reading.decode(raw),
    });
    if entries.end != Some(End::Closed) {
        // It knew nothing before.
        *relist = Relist::new();
        return None;
    }
    Some(Taken { relisted, is_blank: entries.met == 0, service: None })
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

/// The entries of an array, read one after the other.
struct Entries<'a> {
    /// What follows the last one, or the bracket.
    rest: &'a str,
    met: usize,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Malformed,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are the large one, and each is looked at once")]
enum Item<'a> {
    Read(&'a str, Entry<'a>),
    /// JSON, but no entry.
    Raw(&'a str),
}

impl AsRef<[u8]> for Item<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Read(raw, _) | Self::Raw(raw) => raw.as_bytes(),
        }
    }
}

impl<'a> Entries<'a> {
    /// The next element, or how the array ends.
    fn element(&mut self) -> Result<Item<'a>, End> {
        let rest = self.rest.trim_ascii_start();
        if let Some(after) = rest.strip_prefix(']') {
            return Err(if after.trim_ascii_start().is_empty() { End::Closed } else { End::Malformed });
        }
        let rest = match (self.met, rest.strip_prefix(',')) {
            (0, None) => rest,
            (1.., Some(next)) => next.trim_ascii_start(),
            _ => return Err(End::Malformed),
        };
        let (item, length) = read(rest).ok_or(End::Malformed)?;
        self.rest = &rest[length..];
        self.met += 1;
        Ok(item)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.end.is_some() {
            return None;
        }
        self.element().inspect_err(|end| self.end = Some(*end)).ok()
    }
}

/// The value that a text begins with, and its length.
fn read(text: &str) -> Option<(Item<'_>, usize)> {
    let mut entries = serde_json::Deserializer::from_str(text).into_iter::<Entry<'_>>();
    if let Some(Ok(entry)) = entries.next() {
        let length = entries.byte_offset();
        return Some((Item::Read(&text[..length], entry), length));
    }
    let raw = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().next()?.ok()?;
    Some((Item::Raw(raw.get()), raw.get().len()))
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

/// Whether a key is in a list twice.
pub(super) fn has_doubles(list: &Relisted) -> bool {
    places(&list.instances).len() < list.instances.len()
}

/// Each key once: one instance may stand at two agents, after it has moved or while both are told of it.
pub(super) fn distinct(list: Relisted) -> (Vec<Arc<Instance>>, Vec<InstanceKey>) {
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
