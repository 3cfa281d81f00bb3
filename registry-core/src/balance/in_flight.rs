//! Requests in flight, by slot and thread.
//!
//! A counter that all threads share would be the one line that every pick writes; two threads that do so get less
//! done than one. So each thread counts for itself and compares what it counted: the view that a worker of Envoy
//! has. With many threads and few requests per instance that view tells little, and the choice becomes random.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Lanes, Slot, slot_table::SlotTable};

/// How many requests each thread has begun and not ended, by slot.
#[derive(Debug)]
pub(super) struct InFlight(Lanes<SlotTable<Count>>);

/// The counts of one thread. A few threads may share them.
pub(super) type Counts = SlotTable<Count>;

/// A generation in the upper half, how many requests to that one's instance in the lower.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Default for InFlight {
    fn default() -> Self {
        Self(Lanes::new(SlotTable::default))
    }
}

impl InFlight {
    /// Makes room for the indexes below `slots`; picks see what they counted before.
    pub(super) fn reserve(&self, slots: usize) {
        self.0.iter().for_each(|lane| lane.reserve(slots));
    }

    /// What this thread counts.
    #[inline]
    pub(super) fn mine(&self) -> &Counts {
        self.0.mine()
    }

    /// Counts a request; where it was counted. Another generation than the last begins at 0, unless it is an older
    /// one, of which a pick from an earlier version still knows: that isn't counted.
    #[inline]
    pub(super) fn begin(&self, slot: Slot) -> usize {
        let (at, lane) = self.0.mine_at();
        if let Some(count) = lane.get(slot.index) {
            count.change(|last| {
                let known = Slot { generation: (last >> 32) as u32, ..slot };
                match slot.generation.wrapping_sub(known.generation) as i32 {
                    0 if last as u32 == u32::MAX => None,
                    0 => Some(last + 1),
                    1.. => Some(u64::from(slot.generation) << 32 | 1),
                    _ => None,
                }
            });
        }
        at
    }

    /// Takes a request back where it was counted, which may be another thread's place.
    #[inline]
    pub(super) fn end(&self, slot: Slot, at: usize) {
        if let Some(count) = self.0.get(at).and_then(|lane| lane.get(slot.index)) {
            count
                .change(|last| (last as u32 > 0 && (last >> 32) as u32 == slot.generation).then(|| last - 1));
        }
    }
}

#[cfg(test)]
impl InFlight {
    /// Of all threads.
    pub(super) fn total(&self, slot: Slot) -> u64 {
        self.0.iter().map(|lane| u64::from(lane.of(slot))).sum()
    }
}

impl SlotTable<Count> {
    /// How many are in flight to this instance.
    #[inline]
    pub(super) fn of(&self, slot: Slot) -> u32 {
        let count = self.get(slot.index).map_or(0, |count| count.0.load(Ordering::Relaxed));
        if (count >> 32) as u32 == slot.generation { count as u32 } else { 0 }
    }
}

impl Count {
    /// A count is only a count: nothing else is published with it.
    #[inline]
    fn change(&self, to: impl FnMut(u64) -> Option<u64>) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(index: u32, generation: u32) -> Slot {
        Slot { index, generation }
    }

    #[test]
    fn another_generation_begins_anew_and_the_end_of_an_older_one_takes_nothing_from_it() {
        let in_flight = InFlight::default();
        in_flight.reserve(10);
        let at = in_flight.begin(slot(3, 0));
        in_flight.begin(slot(3, 0));
        assert_eq!(in_flight.mine().of(slot(3, 0)), 2);
        assert_eq!(in_flight.mine().of(slot(3, 1)), 0);
        in_flight.begin(slot(3, 1));
        in_flight.end(slot(3, 0), at);
        in_flight.end(slot(3, 0), at);
        assert_eq!(in_flight.mine().of(slot(3, 1)), 1);
        // A pick from an earlier version of the view.
        in_flight.begin(slot(3, 0));
        assert_eq!(in_flight.mine().of(slot(3, 1)), 1);
        in_flight.end(slot(3, 1), at);
        in_flight.end(slot(3, 1), at);
        assert_eq!(in_flight.mine().of(slot(3, 1)), 0);
    }

    #[test]
    fn generations_may_wrap_and_an_index_without_room_is_not_counted() {
        let in_flight = InFlight::default();
        in_flight.reserve(1);
        for generation in [1 << 30, 1 << 31, 3 << 30, u32::MAX, 0] {
            in_flight.begin(slot(0, generation));
        }
        assert_eq!(in_flight.mine().of(slot(0, 0)), 1);
        let at = in_flight.begin(slot(5_000, 0));
        in_flight.end(slot(5_000, 0), at);
        in_flight.end(slot(0, 0), usize::MAX);
        assert_eq!(in_flight.mine().of(slot(5_000, 0)), 0);
    }

    #[test]
    fn what_is_counted_stays_when_the_table_grows() {
        let in_flight = InFlight::default();
        in_flight.reserve(1);
        let at = in_flight.begin(slot(0, 0));
        in_flight.reserve(10_000);
        in_flight.begin(slot(9_999, 0));
        assert_eq!((in_flight.mine().of(slot(0, 0)), in_flight.mine().of(slot(9_999, 0))), (1, 1));
        in_flight.end(slot(0, 0), at);
        assert_eq!(in_flight.mine().of(slot(0, 0)), 0);
    }
}
