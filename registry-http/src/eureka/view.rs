//! What one watch has in view: its part of the replica, each record decoded once, each instance under a key of its own.
//!
//! An id is unique within an application, but a vip address may have several applications, and a foreign record may
//! have an id that one of ours has. Of those who would have one key, ours keeps it, else the first by application and
//! id; the others are called `{instance id}@{application}`. Who is called what changes only when such a neighbour comes
//! or goes; then everything is told anew.
//!
//! Who can't be read any more keeps the key under which its last good version was told, whoever comes; who never could
//! takes none from anybody.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    iter,
    sync::Arc,
};

use foldhash::fast::RandomState;
use registry_core::{
    Instance, InstanceId, InstanceKey,
    backend::{Change, Event, Recall},
};

use super::{
    codec::{self, Reading},
    discovery::Wanted,
    replica::{self, Record, Replica},
};

/// All that a target has, each key once.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) rejected: Vec<InstanceKey>,
    /// Keys that were told for instances which now have another.
    pub(crate) renamed: Vec<InstanceKey>,
    /// What changed since the last list, if all else is as it was told then: each has the key of the one it replaces.
    changed: Option<Vec<Arc<Instance>>>,
}

pub(crate) struct View {
    wanted: Wanted,
    known: Recall<Seen>,
    holders: Holders,
    /// Whether deltas came since the last list.
    is_touched: bool,
    /// Whether all of the last list was told, and by their own keys, to those who will be told of the next.
    is_plain: bool,
    /// What those are called who can't have their own id, by application and id; `None` for those left out.
    called: HashMap<Place, Option<InstanceKey>>,
}

type Place = (Arc<str>, Arc<str>);

/// A record, and what it is to whoever asked.
#[derive(Clone)]
struct Seen {
    record: Arc<Record>,
    sight: Sight,
}

#[derive(Clone)]
enum Sight {
    Instance(Arc<Instance>),
    Other,
    Malformed(Option<InstanceKey>),
}

impl Seen {
    fn of(wanted: &Wanted, record: &Arc<Record>) -> Self {
        let sight = match wanted.see(record) {
            Reading::Instance(instance) => Sight::Instance(instance),
            Reading::Other => Sight::Other,
            Reading::Malformed(key, error) => {
                tracing::debug!(?key, error = format!("{error:#}"), "skipped a record");
                Sight::Malformed(key)
            }
        };
        Self { record: Arc::clone(record), sight }
    }

    /// The instance, if it stands where another did and has its key.
    fn replaces(&self, old: &Self) -> Option<&Arc<Instance>> {
        let (Sight::Instance(new), Sight::Instance(was)) = (&self.sight, &old.sight) else { return None };
        let is_its_place = self.record.is_at_the_place_of(&old.record);
        Some(new).filter(|new| is_its_place && new.id() == was.id() && new.service() == was.service())
    }

    /// The key that it has unless somebody else has it.
    fn key(&self) -> Option<InstanceKey> {
        match &self.sight {
            Sight::Instance(instance) => Some(instance.key()),
            Sight::Other => None,
            Sight::Malformed(key) => key.clone(),
        }
    }
}

/// Whose records have which id.
#[derive(Default)]
struct Holders {
    by_id: HashMap<InstanceId, Held, RandomState>,
    /// Ids that several have.
    clashes: usize,
    /// The keys by which those were told who can't be read any more; each is held by its key's id.
    kept: HashMap<Place, InstanceKey>,
}

/// Who has an id: mostly one.
struct Held {
    first: Holder,
    others: Vec<Holder>,
}

impl Held {
    fn len(&self) -> usize {
        1 + self.others.len()
    }

    fn iter(&self) -> impl Iterator<Item = &Holder> {
        iter::once(&self.first).chain(&self.others)
    }

    /// The one that is at a record's place.
    fn at_the_place_of(&mut self, record: &Record) -> Option<&mut Holder> {
        let mut all = iter::once(&mut self.first).chain(&mut self.others);
        all.find(|held| held.record.is_at_the_place_of(record))
    }

    /// Forgets the one at a record's place; how many are left.
    fn leave(&mut self, record: &Record) -> usize {
        self.others.retain(|held| !held.record.is_at_the_place_of(record));
        if !self.first.record.is_at_the_place_of(record) {
            return self.len();
        }
        let left = self.others.len();
        if left > 0 {
            self.first = self.others.remove(0);
        }
        left
    }
}

struct Holder {
    record: Arc<Record>,
    is_kept: bool,
    is_ours: bool,
}

impl Holders {
    /// Notes a record; whether it shares its id.
    fn enter(&mut self, seen: &Seen) -> bool {
        let Sight::Instance(instance) = &seen.sight else { return false };
        let is_ours = instance.record_version().is_some();
        let holder = Holder { record: Arc::clone(&seen.record), is_kept: false, is_ours };
        self.hold(instance.id(), holder)
    }

    /// Notes a record that can't be read any more, by the key that it was told under; whether it shares its id.
    fn keep(&mut self, record: &Arc<Record>, key: InstanceKey) -> bool {
        let holder = Holder { record: Arc::clone(record), is_kept: true, is_ours: false };
        let shares = self.hold(&key.id, holder);
        self.kept.insert(place(record), key);
        shares
    }

    fn hold(&mut self, id: &InstanceId, holder: Holder) -> bool {
        let held = match self.by_id.entry(id.clone()) {
            Entry::Vacant(free) => {
                free.insert(Held { first: holder, others: Vec::new() });
                return false;
            }
            Entry::Occupied(held) => held.into_mut(),
        };
        match held.at_the_place_of(&holder.record) {
            Some(was) => *was = holder,
            None => {
                held.others.push(holder);
                self.clashes += usize::from(held.len() == 2);
            }
        }
        held.len() > 1
    }

    /// Forgets a record; whether others have its id.
    fn leave(&mut self, seen: &Seen) -> bool {
        let kept = self.kept.remove(&place(&seen.record));
        let id = match (&kept, &seen.sight) {
            (Some(key), _) => &key.id,
            (None, Sight::Instance(instance)) => instance.id(),
            (None, _) => return false,
        };
        let Some(held) = self.by_id.get_mut(id) else { return false };
        let before = held.len();
        let left = held.leave(&seen.record);
        self.clashes -= usize::from(before == 2 && left == 1);
        if left == 0 {
            self.by_id.remove(id);
        }
        left > 0
    }

    /// Whether a record has this id, or what it was before.
    fn has(&self, id: &InstanceId, record: &Record) -> bool {
        self.by_id.get(id).is_some_and(|held| held.iter().any(|h| h.record.is_at_the_place_of(record)))
    }

    /// Those who have to be called otherwise.
    fn losers(&self) -> impl Iterator<Item = &Arc<Record>> {
        let rank = |holder: &Holder| {
            let record = &holder.record;
            (!holder.is_kept, !holder.is_ours, Arc::clone(&record.app), Arc::clone(&record.id))
        };
        let clashing = self.by_id.values().filter(|held| held.len() > 1);
        clashing.flat_map(move |held| {
            let keeps = held.iter().min_by_key(|holder| rank(holder)).map(|holder| &holder.record);
            let losers = held.iter().map(|holder| &holder.record);
            losers.filter(move |record| keeps.is_none_or(|keeps| !Arc::ptr_eq(keeps, record)))
        })
    }
}

impl View {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            known: Recall::new(),
            holders: Holders::default(),
            is_touched: false,
            is_plain: false,
            called: HashMap::new(),
        }
    }

    /// Takes a whole list: what it has of the target. Records that were in the last one are not decoded again.
    pub(crate) fn list(&mut self, all: &Replica) -> Found {
        let is_touched = std::mem::take(&mut self.is_touched);
        let was_plain = std::mem::take(&mut self.is_plain);
        let (mut fresh, mut malformed) = (Vec::new(), Vec::new());
        let mut found = Found::default();
        let lost = self.pass(all, |seen, is_new| {
            match &seen.sight {
                Sight::Instance(instance) => found.instances.push(Arc::clone(instance)),
                Sight::Other => {}
                Sight::Malformed(_) => malformed.push(seen.clone()),
            }
            if is_new || is_touched {
                fresh.push(seen.clone());
            }
        });
        let kept: Vec<_> =
            malformed.iter().filter_map(|seen| Some((&seen.record, self.last(seen)?))).collect();
        let kept_before = self.holders.kept.clone();
        let had_kept = !kept_before.is_empty();
        if is_touched {
            self.holders = Holders::default();
        }
        for seen in &lost {
            self.holders.leave(seen);
        }
        for (record, key) in kept {
            self.holders.keep(record, key);
        }
        self.holders.by_id.reserve(fresh.len().saturating_sub(self.holders.by_id.len()));
        for seen in &fresh {
            self.holders.enter(seen);
        }
        if self.holders.clashes > 0 || !self.called.is_empty() || !kept_before.is_empty() {
            found = self.distinct(all, kept_before);
        }
        found.rejected.extend(malformed.iter().filter_map(|seen| self.told(seen)));
        self.is_plain =
            malformed.is_empty() && !had_kept && found.renamed.is_empty() && self.called.is_empty();
        if self.is_plain && was_plain && !is_touched && !fresh.is_empty() && fresh.len() == lost.len() {
            let replaced = lost.iter().zip(&fresh).map(|(old, new)| new.replaces(old).map(Arc::clone));
            found.changed = replaced.collect();
        }
        found
    }

    /// Tells what became of some records.
    pub(crate) fn apply(&mut self, changes: &[replica::Change], all: &Replica, event: &mut Event) {
        self.is_touched = true;
        let (mut told, mut rejected, mut is_tangled) = (Vec::new(), Vec::new(), false);
        for change in changes {
            match change {
                replica::Change::Put { new, old } => {
                    let old = old.as_ref().map(|old| Seen::of(&self.wanted, old));
                    let was = old.as_ref().and_then(|old| self.told(old));
                    let was_read = old.as_ref().is_some_and(|old| self.is_read(old));
                    let new = Seen::of(&self.wanted, new);
                    is_tangled |= old.is_some_and(|old| self.holders.leave(&old));
                    is_tangled |= self.holders.enter(&new);
                    let is = match &new.sight {
                        Sight::Instance(instance) => {
                            told.push(Change::Upsert(Arc::clone(instance)));
                            Some(instance.key())
                        }
                        Sight::Other => None,
                        // Unreadable is not gone.
                        Sight::Malformed(_) => {
                            if let Some(was) = was.clone().filter(|_| was_read) {
                                is_tangled |= self.holders.keep(&new.record, was);
                            }
                            let is = self.told(&new).or_else(|| was.clone());
                            rejected.extend(is.clone());
                            is
                        }
                    };
                    told.extend(was.filter(|was| Some(was) != is.as_ref()).map(Change::Remove));
                }
                replica::Change::Gone(record) => {
                    let (key, shares) = self.depart(record);
                    is_tangled |= shares;
                    told.extend(key.map(Change::Remove));
                }
            }
        }
        if !is_tangled {
            event.changes.extend(told);
            event.rejected.extend(rejected);
            return;
        }
        // Whoever has a neighbour may be called otherwise now.
        let found = self.list(all);
        let here = found.instances.iter().map(|instance| instance.id());
        let others = found.renamed.iter().chain(self.holders.kept.values()).map(|key| &key.id);
        let here: HashSet<&InstanceId> = here.chain(others).collect();
        let is_gone = |key: &InstanceKey| !here.contains(&key.id);
        let removals =
            told.into_iter().filter(|change| matches!(change, Change::Remove(key) if is_gone(key)));
        event.changes.extend(removals);
        found.tell(event);
    }

    /// Has the next list told whole, whatever was told before: to readers it is another registry's.
    pub(crate) fn begin_anew(&mut self) {
        self.is_plain = false;
    }

    /// Tells a whole list, after what is known to have gone.
    pub(crate) fn reset(&mut self, gone: &[replica::Change], all: &Replica, event: &mut Event) {
        for change in gone {
            if let replica::Change::Gone(record) = change {
                event.changes.extend(self.depart(record).0.map(Change::Remove));
            }
        }
        self.list(all).tell(event);
    }

    /// Forgets a record; the key that it was told under, and whether others have its id.
    fn depart(&mut self, record: &Arc<Record>) -> (Option<InstanceKey>, bool) {
        self.is_touched = true;
        let seen = Seen::of(&self.wanted, record);
        let key = self.told(&seen);
        (key, self.holders.leave(&seen))
    }

    /// The key by which readers have it, as far as they can.
    fn told(&self, seen: &Seen) -> Option<InstanceKey> {
        let place = place(&seen.record);
        if let Some(key) = self.holders.kept.get(&place) {
            return Some(key.clone());
        }
        if let Some(key) = self.called.get(&place) {
            return key.clone();
        }
        let is_another_s = |key: &InstanceKey| {
            matches!(seen.sight, Sight::Malformed(_)) && self.holders.by_id.contains_key(&key.id)
        };
        seen.key().filter(|key| !is_another_s(key))
    }

    /// Whether it can be read, or could.
    fn is_read(&self, seen: &Seen) -> bool {
        matches!(seen.sight, Sight::Instance(_)) || self.holders.kept.contains_key(&place(&seen.record))
    }

    /// The key by which something malformed was told while it could be read.
    fn last(&self, seen: &Seen) -> Option<InstanceKey> {
        let place = place(&seen.record);
        if let Some(key) = self.holders.kept.get(&place) {
            return Some(key.clone());
        }
        let key = seen.key().filter(|key| self.holders.has(&key.id, &seen.record))?;
        self.called.get(&place).cloned().unwrap_or(Some(key))
    }

    /// One look at each record; what only the last list had.
    fn pass(&mut self, all: &Replica, each: impl FnMut(&Seen, bool)) -> Vec<Seen> {
        let Self { wanted, known, .. } = self;
        // What is remembered is held, so that no other can be at its address.
        let address = |record: &&Arc<Record>| Arc::as_ptr(record).addr() as u64;
        // At once, as then it is known how many there are.
        let records: Vec<_> = wanted.records(all).collect();
        known.next(records, |_, record| address(record), |record| Seen::of(wanted, record), each)
    }

    /// A second look, at which those who share an id get one of their own.
    fn distinct(&mut self, all: &Replica, kept_before: HashMap<Place, InstanceKey>) -> Found {
        let before = std::mem::take(&mut self.called);
        for record in self.holders.losers() {
            let id = InstanceId::foreign(format!("{}@{}", record.id, record.app)).ok();
            let id = id.filter(|id| !self.holders.by_id.contains_key(id));
            match &id {
                Some(id) => {
                    tracing::debug!(%id, "calls an instance by its application too, as another has its id");
                }
                None => tracing::warn!(
                    id = &*record.id,
                    app = &*record.app,
                    "left an instance out: another has its id, and there is no other to call it by"
                ),
            }
            let key = id.map(|id| InstanceKey::new(self.wanted.service().clone(), id));
            self.called.insert(place(record), key);
        }
        let called = std::mem::take(&mut self.called);
        let mut found = Found::default();
        self.pass(all, |seen, _| {
            let Sight::Instance(instance) = &seen.sight else { return };
            match called.get(&place(&seen.record)) {
                Some(Some(key)) => match codec::called(instance, &key.service, &key.id) {
                    Ok(instance) => found.instances.push(Arc::new(instance)),
                    Err(error) => {
                        tracing::warn!(%key, error = format!("{error:#}"), "left an instance out");
                        found.rejected.push(key.clone());
                    }
                },
                Some(None) => {}
                None => found.instances.push(Arc::clone(instance)),
            }
        });
        let ids: HashSet<&InstanceId> = found.instances.iter().map(|instance| instance.id()).collect();
        let kept_before = kept_before.into_iter().filter(|(_, key)| !ids.contains(&key.id));
        let before = before.into_iter().filter_map(|(place, key)| Some((place, key?))).chain(kept_before);
        let renamed = before.filter(|(place, key)| {
            let is_here = all.has(&place.0, &place.1) && !self.holders.kept.contains_key(place);
            is_here && called.get(place).and_then(Option::as_ref) != Some(key)
        });
        found.renamed = renamed.map(|(_, key)| key).collect();
        self.called = called;
        found
    }
}

fn place(record: &Arc<Record>) -> Place {
    (Arc::clone(&record.app), Arc::clone(&record.id))
}

impl Found {
    fn tell(self, event: &mut Event) {
        if let Some(changed) = self.changed {
            event.changes.extend(changed.into_iter().map(Change::Upsert));
            return;
        }
        event.changes.extend(self.renamed.into_iter().map(Change::Remove));
        event.changes.push(Change::Reset(self.instances));
        event.rejected.extend(self.rejected);
    }
}

#[cfg(test)]
mod tests;
