//! Successes, counted without a lock.
//!
//! Each thread counts in a lane of its own, by the index of the slot; the lanes are summed up once an interval. There
//! is room for an instance from the first failure on that any of its view has, so a service where nothing fails costs
//! neither memory nor time. Tables grow by segments that double and never move, so that a reader needs no lock.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use crate::{
    balance::{Lanes, Slot},
    snapshot::Snapshot,
};

/// Entries of the first segment; each further one doubles what there is.
const FIRST: usize = 64;
/// Enough segments for 2^32 entries.
const SEGMENTS: usize = 27;

/// A table that grows in place.
#[derive(Debug)]
struct Segments<T>([OnceLock<Box<[T]>>; SEGMENTS]);

impl<T: Default> Segments<T> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }

    fn get(&self, index: u32) -> Option<&T> {
        let (segment, at) = place(index as usize);
        self.0[segment].get()?.get(at)
    }

    /// Makes room for the indices below `len`.
    fn grow(&self, len: usize) {
        let Some(last) = len.checked_sub(1) else { return };
        for segment in 0..=place(last).0 {
            let len = if segment == 0 { FIRST } else { FIRST << (segment - 1) };
            self.0[segment].get_or_init(|| std::iter::repeat_with(T::default).take(len).collect());
        }
    }
}

/// Segment, and position in it: 0..64, 64..128, 128..256, …
fn place(index: usize) -> (usize, usize) {
    match (index / FIRST).checked_ilog2() {
        None => (0, index),
        Some(log) => (log as usize + 1, index - (FIRST << log)),
    }
}

/// The successes of one view's instances. Empty until the first failure.
#[derive(Debug, Default)]
pub(super) struct Tally(OnceLock<Tables>);

#[derive(Debug)]
struct Tables {
    /// What each slot's successes mean to the machine: 0 nothing, else whom it heeds.
    heeded: Segments<AtomicU64>,
    lanes: Lanes<Segments<AtomicU32>>,
}

/// What a tally read at the end of the interval before.
#[derive(Debug, Default)]
pub(super) struct Read(Vec<(u32, u32)>);

impl Tally {
    /// Counts a success; whether the machine has to be told of it.
    #[inline]
    pub(super) fn count(&self, slot: Slot) -> bool {
        let Some(tables) = self.0.get() else { return false };
        let Some(heeded) = tables.heeded.get(slot.index) else { return false };
        if let Some(count) = tables.lanes.mine().get(slot.index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        heeded.load(Ordering::Relaxed) == mark(slot)
    }

    /// Makes room for the indices below `len`.
    pub(super) fn grow(&self, len: usize) {
        let tables =
            self.0.get_or_init(|| Tables { heeded: Segments::new(), lanes: Lanes::new(Segments::new) });
        tables.heeded.grow(len);
        tables.lanes.iter().for_each(|lane| lane.grow(len));
    }

    /// Sets whose successes at an index the machine has to be told.
    pub(super) fn heed(&self, index: u32, slot: Option<Slot>) {
        if let Some(heeded) = self.0.get().and_then(|tables| tables.heeded.get(index)) {
            heeded.store(slot.map_or(0, mark), Ordering::Relaxed);
        }
    }

    /// The successes since the last time of each instance that takes requests and was there the last time too.
    /// Takes time in proportion to all instances.
    pub(super) fn read(&self, snapshot: &Snapshot, read: &mut Read) -> Vec<(Slot, u32)> {
        let Some(tables) = self.0.get() else { return Vec::new() };
        let successes = |slot: Slot| {
            let sum = |lane: &Segments<AtomicU32>| {
                lane.get(slot.index).map_or(0, |count| count.load(Ordering::Relaxed))
            };
            let sum = tables.lanes.iter().map(sum).fold(0, u32::wrapping_add);
            let at = slot.index as usize;
            if read.0.len() <= at {
                read.0.resize(at + 1, (0, 0));
            }
            let (before, generation) = std::mem::replace(&mut read.0[at], (sum, slot.generation));
            (generation == slot.generation).then(|| (slot, sum.wrapping_sub(before)))
        };
        snapshot.serving_slots().filter_map(successes).collect()
    }
}

/// The generation too, and never 0.
fn mark(slot: Slot) -> u64 {
    u64::from(slot.generation) << 1 | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_cover_every_index_once_and_in_order() {
        let mut last = (0, 0);
        for index in 1..10_000 {
            let (segment, at) = place(index);
            assert!((segment, at) == (last.0, last.1 + 1) || (segment, at) == (last.0 + 1, 0), "{index}");
            last = (segment, at);
        }
        assert!(place(u32::MAX as usize).0 < SEGMENTS);
        let table: Segments<AtomicU32> = Segments::new();
        for len in [0, 1, 64, 65, 1_000] {
            table.grow(len);
            assert!(len == 0 || table.get(len as u32 - 1).is_some());
        }
        assert!(table.get(1_024).is_none());
    }
}
