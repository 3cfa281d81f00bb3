//! The writer's side of a view: files instances, and hands out snapshots.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Contents, Member, Members, Pool, Slot, Snapshot, TAKING,
    members::List,
    warmth::Warmth,
    zone::{ENOUGH, Share, Zone},
};
use crate::model::{Instance, InstanceKey, KeyMap, Status, Weight};

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
    /// `None` if zones don't count.
    zone: Option<Zone>,
    /// `None` if all are warm from the start.
    warmth: Option<Warmth>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    pool: Pool,
    list: List,
    at: usize,
}

impl Place {
    fn is_suspect(self) -> bool {
        self.list == List::Suspect
    }
}

impl Store {
    pub(crate) fn new(zone: Option<&str>, slow_start: Option<Duration>) -> Self {
        Self { zone: zone.map(Zone::new), warmth: slow_start.map(Warmth::new), ..Self::default() }
    }

    /// Makes room for `more` instances at once.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.index.reserve(more);
    }

    /// Adds or replaces an instance; whether that changed anything. One that begins to serve warms up from `now` on; from
    /// nothing on if it may have served before.
    pub(crate) fn upsert(&mut self, instance: &Arc<Instance>, now: Option<Instant>) -> bool {
        let key = instance.key();
        // A key shares its texts with its record: the new one's takes the place of the old one's.
        let Some((known, place)) = self.index.remove_entry(&key) else {
            let suspect = self.suspects.as_ref().is_some_and(|suspects| suspects.contains(&key));
            let member = Member { instance: Arc::clone(instance), slot: self.slots.take() };
            self.warm(None, &key, instance, now);
            self.file(key, self.pool_of(instance), suspect, member);
            self.rezone();
            return true;
        };
        let old = self.member(place).clone();
        if old.instance.is_same_record(instance) {
            self.index.insert(known, place);
            return false;
        }
        let is_same_life = is_same_life(&old.instance, instance);
        let slot = if is_same_life { old.slot } else { self.slots.renew(old.slot) };
        let member = Member { instance: Arc::clone(instance), slot };
        let pool = match self.pool_of(instance) {
            Pool::Serving | Pool::Far if place.pool == Pool::Ejected && is_same_life => Pool::Ejected,
            pool => pool,
        };
        self.warm(Some(&old.instance), &key, instance, now);
        if place.pool == pool && place.list == self.list_of(&key, pool, place.is_suspect()) {
            self.uncount(pool, &old.instance);
            self.count(pool, instance);
            self.pools[pool as usize].set(place.list, place.at, member);
            self.index.insert(key, place);
        } else {
            self.unfile(&key, place);
            self.file(key, pool, place.is_suspect(), member);
        }
        self.rezone();
        true
    }

    /// Removes an instance; whether it was there.
    pub(crate) fn remove(&mut self, key: &InstanceKey) -> bool {
        let Some(place) = self.index.get(key).copied() else { return false };
        let member = self.unfile(key, place);
        self.slots.release(member.slot);
        if let Some(warmth) = &mut self.warmth {
            warmth.forget(key);
        }
        self.rezone();
        true
    }

    /// Takes in who is warm by now; whether anybody is.
    pub(crate) fn cool(&mut self, now: Instant) -> bool {
        let Some(warmth) = &mut self.warmth else { return false };
        let warm = warmth.cool(now);
        for key in &warm {
            if let Some(place) = self.index.get(key).copied() {
                self.move_to(key, place, place.pool, place.is_suspect());
            }
        }
        !warm.is_empty()
    }

    /// When [`cool`](Self::cool) has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.warmth.as_ref()?.deadline()
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
            moved |= self.refile(key, stays);
        }
        if apart && let Some(ejected) = self.ejected.clone() {
            for key in &*ejected {
                moved |= self.refile(key, true);
            }
        }
        self.rezone();
        moved || !same_set
    }

    /// Sets who fails though it isn't ejected; whether the near ones take another part of the requests for that.
    pub(crate) fn fail<'a>(&mut self, failing: impl Iterator<Item = &'a InstanceKey>) -> bool {
        let Some(zone) = &self.zone else { return false };
        let is_near = |key: &&InstanceKey| {
            let place =
                self.index.get(*key).filter(|place| place.pool == Pool::Serving && !place.is_suspect());
            place.is_some_and(|place| zone.is_near(&self.member(*place).instance))
        };
        let failing = failing.filter(is_near).count();
        let before = self.spill();
        if let Some(zone) = &mut self.zone {
            zone.failing = failing;
        }
        self.spill() != before
    }

    /// What the near ones take, if that isn't everything, and there are others.
    fn spill(&self) -> Option<Share> {
        let (near, far) = (&self.pools[Pool::Serving as usize], self.len(Pool::Far));
        let zone = self.zone.as_ref().filter(|_| near.count() > 0 && far > 0)?;
        zone.share((near.count() - near.suspects.len()).saturating_sub(zone.failing))
    }

    /// The slot of an instance that takes requests, or would if it weren't ejected.
    pub(crate) fn serving_slot(&self, key: &InstanceKey) -> Option<Slot> {
        self.serving_member(key).map(|member| member.slot)
    }

    /// An instance that takes requests, or would if it weren't ejected.
    pub(crate) fn serving_member(&self, key: &InstanceKey) -> Option<&Member> {
        let place = self.index.get(key).copied()?;
        TAKING.contains(&place.pool).then(|| self.member(place))
    }

    /// How many instances take requests, or would if they weren't ejected.
    pub(crate) fn taking(&self) -> usize {
        TAKING.into_iter().map(|pool| self.len(pool)).sum()
    }

    /// How many instances there are in a pool.
    pub(crate) fn len(&self, pool: Pool) -> usize {
        self.pools[pool as usize].count()
    }

    /// The present state as a snapshot.
    pub(crate) fn snapshot(&self, version: u64, revision: Option<u64>) -> Snapshot {
        let mut pools = self.pools.clone();
        for (pool, weights) in pools.iter_mut().zip(&self.weights) {
            pool.finish(weights.len() <= 1, self.slots.used());
        }
        let first = Pool::ALL.into_iter().find(|pool| !pools[*pool as usize].is_empty());
        let active = first.unwrap_or(Pool::Serving);
        let spill = self.spill();
        let warms_for = self.warmth.as_ref().map(Warmth::window);
        let (suspects, ejected) = (self.suspects.clone(), self.ejected.clone());
        Snapshot(Arc::new(Contents { version, revision, pools, active, spill, warms_for, suspects, ejected }))
    }

    /// Moves an instance between those that are picked and those that are ejected; whether it was in the other list.
    fn refile(&mut self, key: &InstanceKey, out: bool) -> bool {
        let place = self.index.get(key).copied();
        let other = |place: &Place| TAKING.contains(&place.pool) && (place.pool == Pool::Ejected) != out;
        let Some(place) = place.filter(other) else { return false };
        let to = if out { Pool::Ejected } else { self.pool_of(&self.member(place).instance) };
        self.move_to(key, place, to, place.is_suspect());
        true
    }

    fn mark(&mut self, key: &InstanceKey, suspect: bool) {
        if let Some(place) = self.index.get(key).copied()
            && place.is_suspect() != suspect
        {
            self.move_to(key, place, place.pool, suspect);
        }
    }

    /// Notes when an instance began to serve: as it appeared, or after it said that it was starting. A process that was
    /// started anew begins again; one that was registered anew doesn't.
    fn warm(
        &mut self,
        old: Option<&Arc<Instance>>,
        key: &InstanceKey,
        new: &Arc<Instance>,
        now: Option<Instant>,
    ) {
        let (Some(warmth), Some(now)) = (&mut self.warmth, now) else { return };
        let is_new = old.is_none_or(|old| old.status() == Status::Starting || !is_same_process(old, new));
        if is_new && new.status() == Status::Serving {
            warmth.begin(key, now);
        }
    }

    /// Keeps near and far apart if there are enough to choose from. Takes time in proportion to their number only when
    /// that begins or ends, hence when there are few.
    fn rezone(&mut self) {
        let enough = self.zone.is_some() && self.taking() >= ENOUGH;
        let Some(zone) = self.zone.as_mut().filter(|zone| zone.split != enough) else { return };
        zone.split = enough;
        for pool in [Pool::Serving, Pool::Far] {
            let instances: Vec<_> = self.pools[pool as usize].members().map(|m| m.instance.key()).collect();
            for key in instances {
                let place = *self.index.get(&key).expect("whoever is filed is in the index");
                let to = self.pool_of(&self.member(place).instance);
                if to != place.pool {
                    self.move_to(&key, place, to, place.is_suspect());
                }
            }
        }
    }

    /// Where an instance belongs, if it isn't ejected.
    fn pool_of(&self, instance: &Instance) -> Pool {
        match (Pool::of(instance), &self.zone) {
            (Pool::Serving, Some(zone)) => zone.pool(instance),
            (pool, _) => pool,
        }
    }

    /// The list of its pool that an instance belongs to.
    fn list_of(&self, key: &InstanceKey, pool: Pool, suspect: bool) -> List {
        let since = || self.warmth.as_ref().and_then(|warmth| warmth.since(key));
        match pool {
            _ if suspect => List::Suspect,
            Pool::Serving | Pool::Far => since().map_or(List::Trusted, List::Warming),
            _ => List::Trusted,
        }
    }

    fn member(&self, place: Place) -> &Member {
        self.pools[place.pool as usize].at(place.list, place.at).expect("the index points at entries")
    }

    fn move_to(&mut self, key: &InstanceKey, from: Place, to: Pool, suspect: bool) {
        let member = self.unfile(key, from);
        // By the record's own key, whose texts it shares.
        self.file(member.instance.key(), to, suspect, member);
    }

    fn file(&mut self, key: InstanceKey, pool: Pool, suspect: bool, member: Member) {
        self.count(pool, &member.instance);
        let list = self.list_of(&key, pool, suspect);
        let at = self.pools[pool as usize].push(list, member);
        self.index.insert(key, Place { pool, list, at });
    }

    fn unfile(&mut self, key: &InstanceKey, place: Place) -> Member {
        self.index.remove(key);
        let pool = &mut self.pools[place.pool as usize];
        let member = pool.swap_remove(place.list, place.at).expect("the index points at entries");
        let moved = pool.at(place.list, place.at).map(|moved| moved.instance.key());
        if let Some(moved) = moved.and_then(|moved| self.index.get_mut(&moved)) {
            moved.at = place.at;
        }
        self.uncount(place.pool, &member.instance);
        member
    }

    fn count(&mut self, pool: Pool, instance: &Instance) {
        *self.weights[pool as usize].entry(instance.weight()).or_default() += 1;
        if let Some(zone) = &mut self.zone {
            zone.filed(pool, instance);
        }
    }

    fn uncount(&mut self, pool: Pool, instance: &Instance) {
        let weights = &mut self.weights[pool as usize];
        if let Some(count) = weights.get_mut(&instance.weight()) {
            *count -= 1;
            if *count == 0 {
                weights.remove(&instance.weight());
            }
        }
        if let Some(zone) = &mut self.zone {
            zone.unfiled(pool, instance);
        }
    }
}

/// Whether both were published by one process, at one address.
fn is_same_process(old: &Instance, new: &Instance) -> bool {
    let process = |instance: &Instance| instance.record_version().map(|v| v.incarnation);
    old.endpoints() == new.endpoints() && process(old) == process(new)
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
