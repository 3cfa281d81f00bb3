//! Requests in flight, by slot and thread.
//!
//! A counter that all threads share would be the one line that every pick writes; two threads that do so get less
//! done than one. So each thread counts for itself and compares what it counted: the view that a worker of Envoy
//! has. With many threads and few requests per instance that view tells little, and the choice becomes random.
//!
//! The first thread that counts in a lane owns it, and has counters of its own there which it only loads and stores.
//! A second set is for everybody else: threads that have no lane to themselves, and those that end what another
//! one began. A count is the sum of both.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{
    Lanes, Slot, Ticket,
    lane::{lane_number, thread_number},
    slot_table::{Base, SlotTable},
};

/// How many requests each thread has begun and not ended, by slot. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct InFlight(Lanes<Counts>);

/// The counts of one lane.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// One more than the owner's number, so that 0 is nobody.
    owner: AtomicUsize,
    table: SlotTable<Count>,
}

/// Of one slot.
#[derive(Debug, Default)]
pub(super) struct Count {
    own: Part,
    others: Part,
}

/// Where a thread counts the requests to one instance in the lane that it owns, for the time of one pick.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter<'a> {
    own: &'a Part,
    slot: Slot,
}

/// A request that is counted.
#[derive(Debug)]
pub(crate) struct Metered<'a>(Meter<'a>);

/// A generation in the upper half; in the lower, how much higher or lower the requests in flight to that one's
/// instance are.
#[derive(Debug, Default)]
struct Part(AtomicU64);

impl Default for InFlight {
    fn default() -> Self {
        Self(Lanes::new(Counts::default))
    }
}

impl InFlight {
    /// Makes room for the indexes below `slots`; picks see what they counted before.
    pub(super) fn reserve(&self, slots: usize) {
        self.0.iter().for_each(|lane| lane.table.reserve(slots));
    }

    /// What this thread counts.
    #[inline]
    pub(super) fn mine(&self) -> &Counts {
        self.0.mine()
    }

    /// What this thread counts in a lane that it owns already.
    #[inline(always)]
    pub(super) fn owned(&self) -> Option<&Counts> {
        let (thread, _, lane) = self.0.numbered();
        let is_owner = lane.owner.load(Ordering::Relaxed) == thread + 1;
        if is_owner { Some(lane) } else { None }
    }

    /// Counts a request; where it was counted.
    #[inline]
    pub(super) fn begin(&self, slot: Slot) -> usize {
        let (thread, at, lane) = self.0.numbered();
        if let Some(count) = lane.get(slot) {
            count.add(slot, 1, lane.is_owned_by(thread));
        }
        at
    }

    /// Takes a request back where it was counted, which may be another thread's place.
    #[inline]
    pub(super) fn end(&self, slot: Slot, at: usize) {
        let thread = thread_number();
        if let Some(lane) = self.0.get(at)
            && lane.owner.load(Ordering::Relaxed) == thread + 1
            && let Some(count) = lane.near(slot)
        {
            count.own.add_alone(slot, -1);
        } else {
            self.end_elsewhere(slot, at);
        }
    }

    /// What another thread began, and what is far out in the table.
    #[inline(never)]
    fn end_elsewhere(&self, slot: Slot, at: usize) {
        let Some(lane) = self.0.get(at) else { return };
        let is_owner = lane.owner.load(Ordering::Relaxed) == thread_number() + 1;
        if let Some(count) = lane.get(slot) {
            count.add(slot, -1, is_owner);
        }
    }
}

impl Counts {
    /// How many are in flight to this instance.
    #[inline]
    pub(super) fn of(&self, slot: Slot) -> u32 {
        self.get(slot).map_or(0, |count| count.of(slot))
    }

    /// Where the requests to an instance are counted, if there is room for it.
    #[inline(always)]
    pub(super) fn get(&self, slot: Slot) -> Option<&Count> {
        self.table.get(slot.index)
    }

    /// Where all those are for which there was room from the start.
    #[inline(always)]
    pub(super) fn base(&self) -> Option<Base<'_, Count>> {
        self.table.base()
    }

    /// As [`get`](Self::get), if there was room from the start.
    #[inline(always)]
    pub(super) fn near(&self, slot: Slot) -> Option<&Count> {
        self.table.near(slot.index)
    }

    /// Whether the thread of this number, whose lane it is, owns it. It does from then on if nobody did.
    #[inline(always)]
    fn is_owned_by(&self, thread: usize) -> bool {
        match self.owner.load(Ordering::Relaxed) {
            0 => self.claim(thread),
            owner => owner == thread + 1,
        }
    }

    #[cold]
    #[inline(never)]
    fn claim(&self, thread: usize) -> bool {
        self.owner.compare_exchange(0, thread + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl<'a> Meter<'a> {
    /// Where this thread counts, for whoever takes the request back later.
    #[inline(always)]
    pub(crate) fn ticket() -> Ticket {
        Ticket(lane_number() as u64)
    }

    /// Counts a request until what it gives back is dropped.
    #[inline(always)]
    pub(crate) fn begun(self) -> Metered<'a> {
        self.begin();
        Metered(self)
    }

    /// Counts a request.
    #[inline(always)]
    pub(crate) fn begin(self) {
        self.own.add_alone(self.slot, 1);
    }
}

impl Drop for Metered<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.own.add_alone(self.0.slot, -1);
    }
}

impl Count {
    /// How many are in flight.
    #[inline(always)]
    pub(super) fn of(&self, slot: Slot) -> u32 {
        // Below 0 for a moment, when one part is read before a beginning and the other after the end.
        self.own.of(slot).wrapping_add(self.others.of(slot)).max(0) as u32
    }

    /// To count in it, for the owner of the lane that it was found in.
    #[inline(always)]
    pub(super) fn meter(&self, slot: Slot) -> Meter<'_> {
        Meter { own: &self.own, slot }
    }

    #[inline]
    fn add(&self, slot: Slot, more: i32, is_owner: bool) {
        if is_owner { self.own.add_alone(slot, more) } else { self.others.add(slot, more) }
    }
}

// A count is only a count: nothing else is published with it.
impl Part {
    #[inline(always)]
    fn of(&self, slot: Slot) -> i32 {
        let last = self.0.load(Ordering::Relaxed);
        if (last >> 32) as u32 == slot.generation { last as i32 } else { 0 }
    }

    /// For the only thread that writes here.
    #[inline(always)]
    fn add_alone(&self, slot: Slot, more: i32) {
        if let Some(next) = next(self.0.load(Ordering::Relaxed), slot, more) {
            self.0.store(next, Ordering::Relaxed);
        }
    }

    #[inline(never)]
    fn add(&self, slot: Slot, more: i32) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| next(last, slot, more));
    }
}

/// Another generation than the last begins at 0, unless it is an older one, of which a pick from an earlier version
/// still knows: that isn't counted. So nothing of one instance is ever counted for another.
#[inline]
fn next(last: u64, slot: Slot, more: i32) -> Option<u64> {
    let generation = (last >> 32) as u32;
    let count = match slot.generation.wrapping_sub(generation) as i32 {
        0 => (last as i32).wrapping_add(more),
        1.. => more,
        _ => return None,
    };
    Some(u64::from(slot.generation) << 32 | u64::from(count as u32))
}

#[cfg(test)]
impl InFlight {
    /// Of all threads.
    pub(super) fn total(&self, slot: Slot) -> u64 {
        self.0.iter().map(|lane| u64::from(lane.of(slot))).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

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
        // From another thread.
        thread::scope(|scope| scope.spawn(|| in_flight.end(slot(3, 1), at)).join().unwrap());
        assert_eq!(in_flight.mine().of(slot(3, 1)), 0);
    }

    #[test]
    fn threads_that_share_a_lane_count_together() {
        let in_flight = InFlight::default();
        in_flight.reserve(1);
        // More threads than there are lanes, all at once.
        const THREADS: usize = 130;
        let barrier = Barrier::new(THREADS);
        let count = || {
            barrier.wait();
            for _ in 0..1_000 {
                in_flight.end(slot(0, 0), in_flight.begin(slot(0, 0)));
            }
            let begun = [(); 3].map(|()| in_flight.begin(slot(0, 0)));
            // None of them ends, and gives its number to another one, before all have counted.
            barrier.wait();
            begun
        };
        let lanes: Vec<usize> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(count)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(in_flight.total(slot(0, 0)), 390);
        lanes.into_iter().for_each(|at| in_flight.end(slot(0, 0), at));
        assert_eq!(in_flight.total(slot(0, 0)), 0);
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
