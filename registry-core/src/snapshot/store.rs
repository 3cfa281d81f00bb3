//! The writer's side of a view: files instances, and hands out snapshots.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::{Member, Members, Pool, Slot, Snapshot, chunks::Chunks};
use crate::model::{Instance, InstanceKey, KeyMap, Weight};

/// Every instance of one view, filed by pool. Each operation takes constant time, but for
/// [`suspect`](Self::suspect).
#[derive(Debug, Default)]
pub(crate) struct Store {
    index: KeyMap<Place>,
    pools: [Members; Pool::COUNT],
    /// How often each weight occurs in a pool, to know at once whether all are equal.
    weights: [BTreeMap<Weight, usize>; Pool::COUNT],
    suspects: Option<Arc<HashSet<InstanceKey>>>,
    ejected: Option<Arc<HashSet<InstanceKey>>>,
    slots: Slots,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    pool: Pool,
    suspect: bool,
    at: usize,
}

impl Store {
    /// Makes room for `more` instances at once.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.index.reserve(more);
    }

    /// Adds or replaces an instance; whether that changed anything.
    pub(crate) fn upsert(&mut self, instance: &Arc<Instance>) -> bool {
        let key = instance.key();
        // A key shares its texts with its record: the new one's takes the place of the old one's.
        let Some((known, place)) = self.index.remove_entry(&key) else {
            let suspect = self.suspects.as_ref().is_some_and(|suspects| suspects.contains(&key));
            let member = Member { instance: Arc::clone(instance), slot: self.slots.take() };
            self.file(key, Pool::of(instance), suspect, member);
            return true;
        };
        let old = self.list(place).get(place.at).expect("the index points at entries").clone();
        if old.instance.is_same_record(instance) {
            self.index.insert(known, place);
            return false;
        }
        let is_same_life = is_same_life(&old.instance, instance);
        let slot = if is_same_life { old.slot } else { self.slots.renew(old.slot) };
        let member = Member { instance: Arc::clone(instance), slot };
        let pool = match Pool::of(instance) {
            Pool::Serving if place.pool == Pool::Ejected && is_same_life => Pool::Ejected,
            pool => pool,
        };
        if place.pool == pool {
            self.count(place.pool, old.instance.weight(), instance.weight());
            self.list(place).set(place.at, member);
            self.index.insert(key, place);
        } else {
            self.unfile(&key, place);
            self.file(key, pool, place.suspect, member);
        }
        true
    }

    /// Removes an instance; whether it was there.
    pub(crate) fn remove(&mut self, key: &InstanceKey) -> bool {
        let Some(place) = self.index.get(key).copied() else { return false };
        let member = self.unfile(key, place);
        self.slots.release(member.slot);
        true
    }

    /// Sets which instances are suspect, all others being trusted; whether that changed anything. Takes time
    /// in proportion to both sets, unless it is the very set of before.
    pub(crate) fn suspect(&mut self, suspects: Option<&Arc<HashSet<InstanceKey>>>) -> bool {
        let new = suspects.filter(|suspects| !suspects.is_empty());
        let old = self.suspects.take();
        self.suspects = new.cloned();
        match (&old, new) {
            (None, None) => return false,
            (Some(old), Some(new)) if Arc::ptr_eq(old, new) || old == new => return false,
            _ => {}
        }
        for key in old.iter().flat_map(|old| old.iter()) {
            self.mark(key, new.is_some_and(|new| new.contains(key)));
        }
        for key in new.iter().flat_map(|new| new.iter()) {
            self.mark(key, true);
        }
        true
    }

    /// Sets which instances are ejected, all others not, and whether they are kept apart from those that are picked;
    /// whether that changed anything. All of them must serve. Takes time in proportion to both sets.
    pub(crate) fn eject(&mut self, ejected: HashSet<InstanceKey>, apart: bool) -> bool {
        let old = self.ejected.take();
        let same_set = old.as_deref().map_or(ejected.is_empty(), |old| *old == ejected);
        let new = if same_set { old.clone() } else { Some(Arc::new(ejected)) };
        self.ejected = new.filter(|ejected| !ejected.is_empty());
        let mut moved = false;
        for key in old.iter().flat_map(|old| old.iter()) {
            let stays = apart && self.ejected.as_ref().is_some_and(|ejected| ejected.contains(key));
            moved |= self.refile(key, if stays { Pool::Ejected } else { Pool::Serving });
        }
        if apart && let Some(ejected) = self.ejected.clone() {
            for key in &*ejected {
                moved |= self.refile(key, Pool::Ejected);
            }
        }
        moved || !same_set
    }

    /// The slot of an instance that takes requests, or would if it weren't ejected.
    pub(crate) fn serving_slot(&mut self, key: &InstanceKey) -> Option<Slot> {
        let place = self.index.get(key).copied()?;
        let serves = matches!(place.pool, Pool::Serving | Pool::Ejected);
        serves.then(|| self.list(place).get(place.at).expect("the index points at entries").slot)
    }

    /// How many instances there are in a pool.
    pub(crate) fn len(&self, pool: Pool) -> usize {
        self.pools[pool as usize].len()
    }

    /// Moves an instance between those that are picked and those that are ejected; whether it was in the other list.
    fn refile(&mut self, key: &InstanceKey, to: Pool) -> bool {
        let place = self.index.get(key).copied();
        let other = |place: &Place| place.pool != to && matches!(place.pool, Pool::Serving | Pool::Ejected);
        let Some(place) = place.filter(other) else { return false };
        let member = self.unfile(key, place);
        self.file(member.instance.key(), to, place.suspect, member);
        true
    }

    /// The present state as a snapshot.
    pub(crate) fn snapshot(&self, version: u64, revision: Option<u64>) -> Snapshot {
        let mut pools = self.pools.clone();
        for (pool, weights) in pools.iter_mut().zip(&self.weights) {
            pool.equal = weights.len() <= 1;
            pool.slots = self.slots.used();
        }
        Snapshot::new(version, revision, pools, self.suspects.clone(), self.ejected.clone())
    }

    fn mark(&mut self, key: &InstanceKey, suspect: bool) {
        if let Some(place) = self.index.get(key).copied()
            && place.suspect != suspect
        {
            let member = self.unfile(key, place);
            self.file(key.clone(), place.pool, suspect, member);
        }
    }

    fn file(&mut self, key: InstanceKey, pool: Pool, suspect: bool, member: Member) {
        *self.weights[pool as usize].entry(member.instance.weight()).or_default() += 1;
        let mut place = Place { pool, suspect, at: 0 };
        let list = self.list(place);
        place.at = list.len();
        list.push(member);
        self.index.insert(key, place);
    }

    fn unfile(&mut self, key: &InstanceKey, place: Place) -> Member {
        self.index.remove(key);
        let list = self.list(place);
        let member = list.swap_remove(place.at).expect("the index points at entries");
        let moved = list.get(place.at).map(|moved| moved.instance.key());
        if let Some(moved) = moved.and_then(|moved| self.index.get_mut(&moved)) {
            moved.at = place.at;
        }
        self.uncount(place.pool, member.instance.weight());
        member
    }

    fn list(&mut self, place: Place) -> &mut Chunks<Member> {
        let pool = &mut self.pools[place.pool as usize];
        if place.suspect { &mut pool.suspects } else { &mut pool.trusted }
    }

    fn count(&mut self, pool: Pool, old: Weight, new: Weight) {
        *self.weights[pool as usize].entry(new).or_default() += 1;
        self.uncount(pool, old);
    }

    fn uncount(&mut self, pool: Pool, weight: Weight) {
        let weights = &mut self.weights[pool as usize];
        if let Some(count) = weights.get_mut(&weight) {
            *count -= 1;
            if *count == 0 {
                weights.remove(&weight);
            }
        }
    }
}

/// Whether what a balancer learnt of `old` holds for `new`: same address, and published by the same life
/// since the same loss.
fn is_same_life(old: &Instance, new: &Instance) -> bool {
    let life = |instance: &Instance| instance.record_version().map(|v| (v.incarnation, v.epoch));
    old.endpoints() == new.endpoints() && life(old) == life(new)
}

/// Gives out slots: dense, reused under a higher generation.
#[derive(Debug, Default)]
struct Slots {
    generations: Vec<u32>,
    free: Vec<u32>,
}

impl Slots {
    fn take(&mut self) -> Slot {
        if let Some(index) = self.free.pop() {
            return self.renew(Slot { index, generation: 0 });
        }
        let index = self.used();
        self.generations.push(0);
        Slot { index, generation: 0 }
    }

    fn renew(&mut self, slot: Slot) -> Slot {
        let generation = &mut self.generations[slot.index as usize];
        *generation = generation.wrapping_add(1);
        Slot { index: slot.index, generation: *generation }
    }

    fn release(&mut self, slot: Slot) {
        self.free.push(slot.index);
    }

    fn used(&self) -> u32 {
        u32::try_from(self.generations.len()).expect("fewer than 2^32 instances fit into memory")
    }
}
