//! What a balancer knows of each instance, by slot.

use std::{iter, sync::OnceLock};

/// Entries of the first further segment, as a power of two.
const FIRST: u32 = 5;
/// Each is as long as all before it, so that they have room for every `u32`.
const SEGMENTS: usize = 33 - FIRST as usize;
/// Bytes in which processors fetch, a pair of cache lines.
const LINES: usize = 128;

/// A table that grows and whose entries never move: so whoever reads or counts in one needs no lock, and nothing
/// that was counted is lost when it grows. It never shrinks, as slots are reused.
#[derive(Debug)]
pub(super) struct SlotTable<T> {
    /// As long as was asked for at first, and a quarter more: usually all there ever is, and found at once.
    base: OnceLock<Segment<T>>,
    /// What came later.
    further: [OnceLock<Segment<T>>; SEGMENTS],
}

/// Begins with a margin of entries that nobody uses, and has as many more than were asked for, which are used last: so
/// those that were asked for share no line with another table. A plain slice, as an entry is then found in fewer steps than among aligned blocks.
type Segment<T> = Box<[T]>;

/// The entries that there was room for at first.
#[derive(Debug)]
pub(super) struct Base<'a, T>(&'a [T]);

impl<T> Clone for Base<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Base<'_, T> {}

impl<'a, T> Base<'a, T> {
    #[inline(always)]
    pub(super) fn get(self, index: u32) -> Option<&'a T> {
        self.0.get(index as usize + margin::<T>())
    }
}

impl<T> Default for SlotTable<T> {
    fn default() -> Self {
        Self { base: OnceLock::new(), further: [const { OnceLock::new() }; SEGMENTS] }
    }
}

impl<T: Default> SlotTable<T> {
    /// Makes room for the indexes below `slots`. Allocates; may be called by any thread.
    pub(super) fn reserve(&self, slots: usize) {
        if slots == 0 {
            return;
        }
        let base = self.base.get_or_init(|| segment(slots + slots / 4)).len() - margin::<T>();
        let Some(last) = slots.checked_sub(base + 1) else { return };
        let (last, _) = place(u32::try_from(last).expect("slots are counted in 32 bits"));
        for (number, further) in self.further.iter().enumerate().take(last + 1) {
            further.get_or_init(|| segment(1 << (FIRST as usize + number.saturating_sub(1))));
        }
    }

    /// The entry of an index that there is room for.
    #[inline(always)]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        match self.near(index) {
            Some(entry) => Some(entry),
            None => self.get_further(index),
        }
    }

    /// The entry of an index, if it is one of those that there was room for at first.
    #[inline(always)]
    pub(super) fn near(&self, index: u32) -> Option<&T> {
        self.base()?.get(index)
    }

    /// Those that there was room for at first, to look more than one up.
    #[inline(always)]
    pub(super) fn base(&self) -> Option<Base<'_, T>> {
        self.base.get().map(|base| Base(base))
    }

    #[cold]
    #[inline(never)]
    fn get_further(&self, index: u32) -> Option<&T> {
        let near = self.base.get()?.len() - margin::<T>();
        let (segment, at) = place(index.checked_sub(u32::try_from(near).ok()?)?);
        self.further[segment].get()?.get(at + margin::<T>())
    }
}

fn segment<T: Default>(len: usize) -> Segment<T> {
    iter::repeat_with(T::default).take(len + 2 * margin::<T>()).collect()
}

/// The entries that a pair of cache lines has room for.
const fn margin<T>() -> usize {
    LINES.div_ceil(size_of::<T>())
}

/// Segment and place within it: 0..32, 32..64, 64..128, 128..256 and so on.
fn place(index: u32) -> (usize, usize) {
    let width = u32::BITS - (index >> FIRST).leading_zeros();
    let start = if width == 0 { 0 } else { 1 << (FIRST + width - 1) };
    (width as usize, (index - start) as usize)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        ptr,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own_and_keeps_it_when_the_table_grows() {
        let table = SlotTable::<AtomicUsize>::default();
        assert!(table.get(0).is_none());
        table.reserve(0);
        assert!(table.get(0).is_none());
        table.reserve(40);
        let before = ptr::from_ref(table.get(39).unwrap());
        table.get(39).unwrap().store(7, Ordering::Relaxed);
        table.reserve(5_000);
        table.reserve(3);
        assert_eq!(ptr::from_ref(table.get(39).unwrap()), before);
        assert_eq!(table.get(39).unwrap().load(Ordering::Relaxed), 7);
        let places: HashSet<_> = (0..5_000).map(|index| ptr::from_ref(table.get(index).unwrap())).collect();
        assert_eq!(places.len(), 5_000);
    }

    #[test]
    fn places_fill_segments_without_gaps() {
        let (mut segment, mut next) = (0, 0);
        for index in 0..100_000 {
            let found = place(index);
            if found.0 != segment {
                assert_eq!(
                    (found, next),
                    ((segment + 1, 0), 1 << (FIRST as usize + segment.saturating_sub(1)))
                );
                (segment, next) = (segment + 1, 0);
            }
            assert_eq!(found, (segment, next));
            next += 1;
        }
        assert!(place(u32::MAX).0 < SEGMENTS);
    }
}
