//! The never-wipe rules: a set of instances that doesn't shrink carelessly.
//!
//! ```text
//!                 explicit removal (N3), announced removal, small implied removal
//!   present ───────────────────────────────────────────────────────────────────────► gone
//!      │ ▲                                                                             ▲
//!      │ └──── listed again ────┐                                                      │
//!      └── suspicious removal ► held ── end of hold, second opinion, passive failure ──┘
//!          (N3 burst, N4, N6)
//! ```
//!
//! A removal is *explicit* when the registry said that the record was deleted or expired, and *implied* when a list
//! merely lacks it. It was *announced* if the instance was last seen draining; announced removals are never held.

use std::{
    collections::{HashSet, VecDeque, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    config::{MAX_INSTANCES, ShrinkGuard},
    pending::Pending,
};
use crate::{
    Status, ViewEvent,
    backend::{Evidence, SourceId},
    disk::Stored,
    model::{Instance, InstanceKey, KeyMap},
    view::ViewChange,
};

/// Explicit removals this close together count as one burst.
const BURST_WINDOW: Duration = Duration::from_secs(2);
/// Fewer removals than this are never suspicious, unless they leave nothing.
const SUSPICIOUS: usize = 3;

/// The guarded set of one target.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    policy: ShrinkGuard,
    ttl: Duration,
    limit: usize,
    /// Everything served, held instances included.
    pub(super) view: KeyMap<Arc<Instance>>,
    pub(super) held: KeyMap<Held>,
    /// Recent unannounced explicit removals: when, and whether it was applied.
    pub(super) recent: VecDeque<(Instant, bool)>,
    pub(super) burst_until: Option<Instant>,
    /// End of the hold that follows a change of the registry's incarnation.
    pub(super) settling_until: Option<Instant>,
    source: Option<SourceId>,
    pub(super) revision: Option<u64>,
    rejected: HashSet<InstanceKey>,
    rejected_total: u64,
    /// Published instances by status.
    census: [usize; 4],
    pending: Pending,
}

/// One instance that is kept against the registry's word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// When its removal applies; `None` for never.
    pub(super) until: Option<Instant>,
    /// From when on a second opinion decides; `None` if none may.
    pub(super) confirm_from: Option<Instant>,
}

/// How an answer relates to what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// At least as new as the view, or not comparable.
    Current,
    /// Older than the view, within the same data.
    Older,
    /// Of other data than the view.
    Foreign,
}

impl Guard {
    pub(super) fn new(policy: ShrinkGuard, ttl: Duration) -> Self {
        Self {
            policy,
            ttl,
            limit: MAX_INSTANCES,
            view: KeyMap::default(),
            held: KeyMap::default(),
            recent: VecDeque::new(),
            burst_until: None,
            settling_until: None,
            source: None,
            revision: None,
            rejected: HashSet::new(),
            rejected_total: 0,
            census: [0; 4],
            pending: Pending::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    // === where an answer stands (N6, N9) ===

    pub(super) fn standing(&self, evidence: &Evidence) -> Standing {
        if let (Some(known), Some(told)) = (&self.source, &evidence.source)
            && known != told
        {
            return Standing::Foreign;
        }
        match (self.revision, evidence.revision) {
            (Some(known), Some(told)) if told < known => Standing::Older,
            _ => Standing::Current,
        }
    }

    /// Whether revisions can tell an older answer from a newer one.
    pub(super) fn is_comparable(&self, evidence: &Evidence) -> bool {
        self.revision.is_some() && evidence.revision.is_some()
    }

    /// Notes how far the view has come.
    pub(super) fn advance(&mut self, evidence: &Evidence) {
        if evidence.source.is_some() {
            self.source.clone_from(&evidence.source);
        }
        self.revision = self.revision.max(evidence.revision);
    }

    /// The registry's data started anew (N6): its revisions count from here, and for two times to live whatever a
    /// list lacks is held, as others are still registering again.
    pub(super) fn begin_incarnation(&mut self, evidence: &Evidence, now: Instant) {
        self.revision = None;
        self.recent.clear();
        self.settling_until = Some(now + 2 * self.ttl);
        self.advance(evidence);
    }

    // === what a registry says ===

    /// A whole list: what it lacks is implied to be gone (N4, N6, N7). Keys in `rejected` are there, unreadable.
    pub(super) fn list(&mut self, instances: &[Arc<Instance>], rejected: &[InstanceKey], now: Instant) {
        if self.view.is_empty() && self.rejected.is_empty() && self.pending.before.is_empty() {
            self.fill(instances);
        } else {
            self.drop_absent(instances, rejected, now);
            for instance in instances {
                self.upsert(instance);
            }
        }
        self.reject(rejected);
    }

    /// Takes in a first list, which can lack nothing and of which nothing was known: that need not be asked for each
    /// instance of many.
    fn fill(&mut self, instances: &[Arc<Instance>]) {
        let (room, over) = instances.split_at(instances.len().min(self.limit));
        self.view.reserve(room.len());
        self.pending.first.reserve(room.len());
        for instance in room {
            match self.view.entry(instance.key()) {
                Entry::Vacant(place) => {
                    place.insert(Arc::clone(instance));
                    self.pending.first.push(Arc::clone(instance));
                }
                Entry::Occupied(_) => self.upsert(instance),
            }
        }
        for instance in over {
            self.upsert(instance);
        }
    }

    /// Removes or holds what a list lacks.
    fn drop_absent(&mut self, instances: &[Arc<Instance>], rejected: &[InstanceKey], now: Instant) {
        let from = self.view.len();
        let mut present: foldhash::HashSet<InstanceKey> =
            instances.iter().map(|instance| instance.key()).collect();
        present.extend(rejected.iter().cloned());
        self.rejected.retain(|key| present.contains(key));

        let absent = self.view.iter().filter(|(key, _)| !present.contains(key));
        let (announced, missing): (Vec<_>, Vec<_>) =
            absent.map(|(key, instance)| (key.clone(), is_announced(instance))).partition(|(_, a)| *a);
        for (key, _) in announced {
            self.drop_key(&key);
        }
        let left = instances.len() + rejected.iter().filter(|key| self.view.contains_key(key)).count();
        let hold = self.hold_for_list(missing.len(), self.view.len(), left, now);
        let held_before = self.held.len();
        for (key, _) in missing {
            match hold {
                _ if self.held.contains_key(&key) => {}
                Some(held) => self.hold(key, held),
                None => self.drop_key(&key),
            }
        }
        if self.held.len() > held_before {
            self.tell_shrink(from, left);
        }
    }

    /// A second opinion that was asked for at `asked`: what it lacks as well is gone (N5).
    pub(super) fn confirm(
        &mut self,
        instances: &[Arc<Instance>],
        rejected: &[InstanceKey],
        asked: Instant,
        now: Instant,
    ) {
        let on_trial: Vec<InstanceKey> = self
            .held
            .iter()
            .filter(|(_, held)| held.confirm_from.is_some_and(|from| from <= asked))
            .map(|(key, _)| key.clone())
            .collect();
        self.list(instances, rejected, now);
        for key in on_trial {
            self.drop_held(&key);
        }
    }

    pub(super) fn upsert(&mut self, instance: &Arc<Instance>) {
        let key = instance.key();
        let known = self.view.get(&key);
        if known.is_none() && self.view.len() >= self.limit {
            return self.reject(&[key]);
        }
        let is_known = known.is_some_and(|known| known.is_same_record(instance));
        self.rejected.remove(&key);
        self.release(&key);
        if is_known {
            return;
        }
        // Taken out first: a map keeps the key it has, and with it the texts of a record that is gone.
        let before = self.view.remove(&key);
        self.view.insert(key.clone(), Arc::clone(instance));
        self.pending.note(key, before);
    }

    /// The registry said that the record is gone (N3).
    pub(super) fn remove(&mut self, key: &InstanceKey, now: Instant) {
        self.rejected.remove(key);
        let Some(instance) = self.view.get(key) else { return };
        if is_announced(instance) || self.policy == ShrinkGuard::Off {
            return self.drop_key(key);
        }
        while self.recent.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= BURST_WINDOW) {
            self.recent.pop_front();
        }
        let removals = self.recent.len() + 1;
        let had = self.view.len() + self.recent.iter().filter(|(_, applied)| *applied).count();
        let ongoing = self.burst_until.is_some_and(|until| now < until);
        let burst = ongoing || (removals >= SUSPICIOUS && removals * 2 > had);
        self.recent.push_back((now, !burst));
        if !burst {
            return self.drop_key(key);
        }
        self.burst_until = Some(now + BURST_WINDOW);
        if !self.held.contains_key(key) {
            self.hold(key.clone(), self.held_from(now));
        }
        if !ongoing {
            self.tell_shrink(self.view.len(), self.view.len() - self.held.len());
        }
    }

    /// Records that are there but can't be taken: their previous version stays (N2).
    pub(super) fn reject(&mut self, keys: &[InstanceKey]) {
        for key in keys {
            self.release(key);
            // A poll repeats the same bad record for ever; it counts once. The cap bounds what a registry can make
            // us remember.
            if self.rejected.len() < self.limit && self.rejected.insert(key.clone()) {
                self.rejected_total += 1;
                self.pending.rejected.push(key.clone());
            }
        }
    }

    /// A caller was refused by this instance: if the registry doubts it as well, it is gone (N5).
    pub(super) fn fail(&mut self, key: &InstanceKey) {
        self.drop_held(key);
    }

    /// Ends the holds that are over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.pending.next_end.is_none_or(|end| end > now) {
            return;
        }
        let is_over = |held: &Held| held.until.is_some_and(|until| until <= now);
        let over: Vec<InstanceKey> =
            self.held.iter().filter(|(_, held)| is_over(held)).map(|(key, _)| key.clone()).collect();
        for key in over {
            self.drop_held(&key);
        }
    }

    // === what is asked ===

    /// When the next hold ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.pending.next_end
    }

    /// From when on a second opinion is of use.
    pub(super) fn next_confirm(&self) -> Option<Instant> {
        self.pending.next_confirm
    }

    pub(super) fn source(&self) -> Option<&SourceId> {
        self.source.as_ref()
    }

    pub(super) fn revision(&self) -> Option<u64> {
        self.revision
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn rejected(&self) -> u64 {
        self.rejected_total
    }

    /// How many published instances have each status, in the order of [`Status`].
    pub(super) fn census(&self) -> [usize; 4] {
        self.census
    }

    pub(super) fn instances(&self) -> impl ExactSizeIterator<Item = &Arc<Instance>> {
        self.view.values()
    }

    /// A view that was saved: taken as it is, as nothing else is known.
    pub(super) fn restore(&mut self, stored: &Stored) {
        self.source.clone_from(&stored.source);
        self.revision = stored.revision;
        for instance in &stored.instances {
            self.upsert(instance);
        }
    }

    /// A change that changes nothing but says where the view stands.
    pub(super) fn nothing(&self) -> ViewChange {
        ViewChange {
            suspects: self.pending.suspects.clone(),
            revision: self.revision,
            ..ViewChange::default()
        }
    }

    /// Everything, as one change from nothing.
    pub(super) fn everything(&self) -> ViewChange {
        ViewChange { upserts: self.view.values().cloned().collect(), ..self.nothing() }
    }

    /// The difference to what was published before, if there is any.
    pub(super) fn take_change(&mut self) -> Option<ViewChange> {
        let suspects_changed = self.pending.suspects_changed;
        self.refresh_holds();
        let mut change = self.nothing();
        change.upserts = std::mem::take(&mut self.pending.first);
        change.upserts.iter().for_each(|new| self.census[new.status() as usize] += 1);
        change.upserts.reserve(self.pending.before.len());
        // Not drained: the room that a long list needed would stay for ever, and be searched at every step.
        for (key, before) in std::mem::take(&mut self.pending.before) {
            let after = self.view.get(&key);
            // Added first, so that no number is ever below what it counts.
            after.iter().for_each(|after| self.census[after.status() as usize] += 1);
            before.iter().for_each(|before| self.census[before.status() as usize] -= 1);
            match (before, after) {
                (Some(before), Some(after)) if before.is_same_record(after) => {}
                (_, Some(after)) => change.upserts.push(Arc::clone(after)),
                (Some(_), None) => change.removals.push(key),
                (None, None) => {}
            }
        }
        let is_changed = suspects_changed || !change.upserts.is_empty() || !change.removals.is_empty();
        is_changed.then_some(change)
    }

    pub(super) fn take_events(&mut self) -> Vec<ViewEvent> {
        self.pending.take_events()
    }

    // === holding ===

    /// How to hold what a list lacks, or `None` if it is to be believed.
    fn hold_for_list(&self, missing: usize, total: usize, left: usize, now: Instant) -> Option<Held> {
        if self.policy == ShrinkGuard::Off || missing == 0 {
            return None;
        }
        let suspicious = left == 0 || (missing >= SUSPICIOUS && missing * 2 > total);
        if suspicious {
            return Some(self.held_from(now));
        }
        let until = self.settling(now)?;
        Some(Held { until: Some(until), confirm_from: None })
    }

    fn held_from(&self, now: Instant) -> Held {
        match self.policy {
            ShrinkGuard::Off | ShrinkGuard::KeepLast => Held { until: None, confirm_from: None },
            // While others still register again, a second opinion would only repeat the first.
            ShrinkGuard::Hold(hold) => Held {
                until: Some(now + hold).max(self.settling(now)),
                confirm_from: Some(now + hold / 2).max(self.settling(now)),
            },
        }
    }

    fn settling(&self, now: Instant) -> Option<Instant> {
        self.settling_until.filter(|until| now < *until)
    }

    fn hold(&mut self, key: InstanceKey, held: Held) {
        self.held.insert(key, held);
        self.pending.suspects_changed = true;
    }

    fn release(&mut self, key: &InstanceKey) {
        self.pending.suspects_changed |= self.held.remove(key).is_some();
    }

    fn drop_held(&mut self, key: &InstanceKey) {
        if self.held.contains_key(key) {
            self.drop_key(key);
            self.pending.removed_from_hold += 1;
        }
    }

    fn drop_key(&mut self, key: &InstanceKey) {
        self.release(key);
        if let Some(before) = self.view.remove(key) {
            self.pending.note(key.clone(), Some(before));
        }
    }

    fn tell_shrink(&mut self, from: usize, to: usize) {
        self.pending.events.push(ViewEvent::SuspiciousShrink { from, to, held: self.held.len() });
    }

    /// Recomputes what depends on all holds, once per change rather than once per key.
    fn refresh_holds(&mut self) {
        if std::mem::take(&mut self.pending.suspects_changed) {
            self.pending.suspects =
                (!self.held.is_empty()).then(|| Arc::new(self.held.keys().cloned().collect()));
            self.pending.next_end = self.held.values().filter_map(|held| held.until).min();
            self.pending.next_confirm = self.held.values().filter_map(|held| held.confirm_from).min();
        }
    }
}

fn is_announced(instance: &Instance) -> bool {
    instance.status() == Status::Draining
}
