//! Who is a member, for tables that are built for a set of instances, whatever their order.

use std::{collections::HashMap, sync::Arc};

use super::{Members, hashing::hash_of_instance};
use crate::snapshot::{Leaf, Member};

/// In a list of positions: not among those that are picked.
const ABSENT: u32 = u32::MAX;

/// The members of the last version, by slot index.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// With the position of each one's first, unless they are passed over; what is still the same needn't be looked
    /// through.
    runs: Vec<(Option<usize>, Leaf<Member>)>,
    entries: Vec<Option<Entry>>,
    places: Vec<u32>,
}

/// What a table is built of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) slot: u32,
    pub(super) hash: u64,
    pub(super) weight: u32,
}

/// How two versions differ for a table. An instance whose weight changed, or whose place another one has, is in both.
#[derive(Debug, Default)]
pub(super) struct Moves {
    pub(super) gone: Vec<Entry>,
    pub(super) come: Vec<Entry>,
}

impl Moves {
    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.come.is_empty()
    }
}

/// The position of each slot in one version.
#[derive(Clone, Debug)]
pub(super) struct Places(Arc<[u32]>);

impl Places {
    /// Where the instance of a slot is now; `None` if it isn't picked.
    #[inline]
    pub(super) fn of(&self, slot: u32) -> Option<usize> {
        match self.0.get(slot as usize) {
            None | Some(&ABSENT) => None,
            Some(at) => Some(*at as usize),
        }
    }
}

impl Roster {
    /// Takes in a version: those that are picked, and those that are passed over for a while, which keep what they
    /// have in a table. Looks at the runs that changed; a copy of the list of places is all that grows with the number
    /// of members.
    pub(super) fn follow(&mut self, members: &Members, passed_over: Option<&Members>) -> (Moves, Places) {
        let passed_over =
            passed_over.into_iter().flat_map(|members| members.runs()).map(|(_, leaf)| (None, leaf));
        let runs = members.runs().map(|(start, leaf)| (Some(start), leaf)).chain(passed_over);
        let runs: Vec<_> = runs.map(|(start, leaf)| (start, Arc::clone(leaf))).collect();
        let old = std::mem::replace(&mut self.runs, runs);
        self.entries.resize(members.slots().max(self.entries.len()), None);
        self.places.resize(self.entries.len(), ABSENT);
        let is_kept = |at: usize| {
            matches!((old.get(at), self.runs.get(at)),
            (Some(old), Some(new)) if old.0 == new.0 && Arc::ptr_eq(&old.1, &new.1))
        };
        let kept: Vec<bool> = (0..old.len().max(self.runs.len())).map(is_kept).collect();

        let mut before = HashMap::new();
        for (_, (_, leaf)) in old.iter().enumerate().filter(|(at, _)| !kept[*at]) {
            for member in leaf.iter().flatten() {
                let index = member.slot.index as usize;
                before.extend(self.entries[index].take().map(|entry| (entry.slot, entry)));
                self.places[index] = ABSENT;
            }
        }
        let mut moves = Moves::default();
        for (_, (start, leaf)) in self.runs.iter().enumerate().filter(|(at, _)| !kept[*at]) {
            for (at, member) in leaf.iter().flatten().enumerate() {
                let slot = member.slot.index;
                let entry = Entry {
                    slot,
                    hash: hash_of_instance(&member.instance),
                    weight: member.instance.weight().get(),
                };
                self.entries[slot as usize] = Some(entry);
                let place = start.and_then(|start| u32::try_from(start + at).ok());
                self.places[slot as usize] = place.unwrap_or(ABSENT);
                match before.remove(&slot) {
                    Some(same) if same == entry => {}
                    other => {
                        moves.gone.extend(other);
                        moves.come.push(entry);
                    }
                }
            }
        }
        moves.gone.extend(before.into_values());
        (moves, Places(self.places.as_slice().into()))
    }

    /// All members, in an order that depends on nothing but themselves: all clients build the same table.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self.entries.iter().flatten().copied().collect();
        entries.sort_unstable_by_key(|entry| (entry.hash, entry.weight));
        entries
    }
}

/// The weight that counts as one share: the median of those above 0. At least half of the members then have a share
/// or more, and one that comes or goes rarely changes it. `None` if all are 0, which count as equal.
pub(super) fn unit(entries: &[Entry]) -> Option<u32> {
    let mut weights: Vec<u32> =
        entries.iter().map(|entry| entry.weight).filter(|weight| *weight > 0).collect();
    let middle = weights.len() / 2;
    (!weights.is_empty()).then(|| *weights.select_nth_unstable(middle).1)
}

impl Entry {
    /// Its weight, where one share is `unit`.
    pub(super) fn shares(&self, unit: Option<u32>) -> (u64, u64) {
        unit.map_or((1, 1), |unit| (self.weight.into(), unit.into()))
    }
}
