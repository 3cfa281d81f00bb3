//! What a request to an instance costs: the peak-sensitive moving average of its latency that Twitter's Finagle
//! introduced.
//!
//! A latency above the average replaces it at once; one below is blended in with the weight `1 − exp(−Δt/τ)`; and
//! without any the average decays by `exp(−Δt/τ)`, so that an instance that was slow is tried again.
//!
//! All decay by the same factor in the same time. So which of two is the cheaper never changes while neither is
//! written: with the *logarithm* of the average and when that was written, a pick compares two differences, and needs
//! neither the clock nor an exponential function. Both fit into one atomic.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::{Slot, slot_table::SlotTable};

/// Two costs that were written further apart than this, in ticks, count as equal: which one is the older is no longer
/// sure, and a tie gives either its turn. An hour, in which any usual average has decayed to nothing.
const APART: f32 = 3_600_000.0;
/// By how much a latency may be noted late, in ticks, as threads pass each other by. A cost that is newer by more is
/// from before the ticks wrapped.
const LATE: f32 = 60_000.0;

/// The averages of all instances, shared by all threads: a latency that one has seen, all know.
#[derive(Debug)]
pub(super) struct Costs {
    table: SlotTable<Cell>,
    /// What the logarithm of an average loses per tick.
    decay: f32,
    /// Of the cost that is assumed before any is known.
    seed: f32,
    /// Logarithms of how many share an instance, for one request and few others.
    crowds: [f32; CROWD],
}

/// For how many requests in flight and one their logarithm is kept ready.
const CROWD: usize = 32;

#[derive(Debug, Default)]
struct Cell {
    /// Whose the cost is.
    generation: AtomicU32,
    /// A [`Cost`]; 0 before there is any.
    cost: AtomicU64,
}

/// An average as it was when it was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    /// Base 2, of nanoseconds.
    log: f32,
    tick: Tick,
}

/// Milliseconds since the balancer was made, from 1 as 0 is for "never". They wrap after 49 days, and what wasn't
/// written for half as long looks newer than it is; see [`APART`] and [`LATE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(u32);

impl Tick {
    pub(super) fn after(elapsed: Duration) -> Self {
        let millis = elapsed.as_secs().wrapping_mul(1_000).wrapping_add(elapsed.subsec_millis().into());
        Self((millis as u32).wrapping_add(1))
    }

    /// Ticks since an earlier one; negative if that is a later one.
    #[inline]
    fn since(self, earlier: Self) -> f32 {
        (self.0.wrapping_sub(earlier.0) as i32) as f32
    }
}

impl Cost {
    fn new(log: f32, tick: Tick) -> Self {
        Self { log, tick }
    }

    #[inline]
    fn from_bits(bits: u64) -> Self {
        Self::new(f32::from_bits((bits >> 32) as u32), Tick(bits as u32))
    }

    fn to_bits(self) -> u64 {
        u64::from(self.log.to_bits()) << 32 | u64::from(self.tick.0)
    }
}

impl Costs {
    /// Decays by a factor of e in `decay`; unknown ones cost `seed`.
    pub(super) fn new(decay: Duration, seed: Duration) -> Self {
        let ticks = decay.max(Duration::from_millis(1)).as_secs_f32() * 1e3;
        Self {
            table: SlotTable::default(),
            decay: std::f32::consts::LOG2_E / ticks,
            seed: log(seed),
            crowds: std::array::from_fn(|others| (others as f32 + 1.0).log2()),
        }
    }

    /// Makes room for the indexes below `slots`; what is known stays.
    pub(super) fn reserve(&self, slots: usize) {
        self.table.reserve(slots);
    }

    /// What a request to this instance costs, as far as is known. An instance that is seen for the first time gets the
    /// seed, from `now`, which decays too.
    #[inline]
    pub(super) fn of(&self, slot: Slot, now: impl Fn() -> Tick) -> Cost {
        let Some(cell) = self.table.get(slot.index) else { return Cost::new(self.seed, now()) };
        let cost = cell.cost.load(Ordering::Acquire);
        if cost != 0 && cell.generation.load(Ordering::Acquire) == slot.generation {
            return Cost::from_bits(cost);
        }
        self.renew(cell, slot, now())
    }

    /// By how many times, as a logarithm of base 2, one costs more than another. The same at any time.
    #[inline]
    pub(super) fn compare(&self, one: Cost, other: Cost) -> f32 {
        // Of two that nothing is known of none is better, whichever was seen first.
        if one.log == self.seed && other.log == self.seed {
            return 0.0;
        }
        let ticks = one.tick.since(other.tick);
        if ticks.abs() > APART {
            return 0.0;
        }
        // The one that was written later has decayed less since.
        one.log - other.log + ticks * self.decay
    }

    /// What requests in flight add to the cost of one more: the logarithm of all of them.
    #[inline]
    pub(super) fn crowd(&self, in_flight: u32) -> f32 {
        let ready = self.crowds.get(in_flight as usize);
        ready.copied().unwrap_or_else(|| (in_flight as f32 + 1.0).log2())
    }

    /// Gives the cell to an instance that is new there.
    #[cold]
    fn renew(&self, cell: &Cell, slot: Slot, now: Tick) -> Cost {
        let seed = Cost::new(self.seed, now);
        let known = cell.generation.load(Ordering::Acquire);
        let (acquire, relaxed) = (Ordering::AcqRel, Ordering::Relaxed);
        if known == slot.generation {
            // Whoever was faster wrote the same, or knows better.
            let _ = cell.cost.compare_exchange(0, seed.to_bits(), acquire, relaxed);
        } else if slot.generation.wrapping_sub(known) as i32 > 0
            && cell.generation.compare_exchange(known, slot.generation, acquire, relaxed).is_ok()
        {
            // After the generation: see `note`.
            cell.cost.store(seed.to_bits(), Ordering::Release);
        }
        // A pick from an earlier version of the view, whose instance is gone, changes nothing.
        seed
    }

    /// Takes a latency into the average of this instance, if it is still there.
    pub(super) fn note(&self, slot: Slot, latency: Duration, now: Tick) {
        let Some(cell) = self.table.get(slot.index) else { return };
        let sample = log(latency);
        loop {
            // First the cost, then whose it is: if that changes in between, the cost does too, before anybody can
            // note one of the new instance, and what is written here would be overwritten or refused.
            let bits = cell.cost.load(Ordering::Acquire);
            if bits == 0 || cell.generation.load(Ordering::Acquire) != slot.generation {
                return;
            }
            let Some(cost) = self.blend(Cost::from_bits(bits), sample, now) else { return };
            let written =
                cell.cost.compare_exchange(bits, cost.to_bits(), Ordering::AcqRel, Ordering::Relaxed);
            if written.is_ok() {
                return;
            }
        }
    }

    /// The average after one more sample; `None` if it stays. That it stays for samples of one tick that aren't above
    /// it is why a busy instance is written to once a millisecond, and not with every request.
    fn blend(&self, last: Cost, sample: f32, now: Tick) -> Option<Cost> {
        let ticks = now.since(last.tick);
        if ticks < -LATE {
            return Some(Cost::new(sample, now));
        }
        if ticks <= 0.0 {
            // Or another thread noted a later one meanwhile.
            return (sample > last.log).then(|| Cost::new(sample, last.tick));
        }
        let decayed = last.log - ticks * self.decay;
        if sample >= decayed {
            return Some(Cost::new(sample, now));
        }
        // log2(2^decayed + share · 2^sample), of which the first is the larger: one power less.
        let share = 1.0 - (-ticks * self.decay).exp2();
        Some(Cost::new(decayed + (1.0 + share * (sample - decayed).exp2()).log2(), now))
    }
}

/// Of at least a nanosecond.
fn log(latency: Duration) -> f32 {
    // Not `as_secs_f32`, which divides.
    (latency.as_secs() as f32 * 1e9 + latency.subsec_nanos() as f32).max(1.0).log2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot { index: 0, generation: 0 };

    fn costs() -> Costs {
        let costs = Costs::new(Duration::from_secs(10), Duration::from_millis(30));
        costs.reserve(4);
        costs
    }

    fn at(millis: u64) -> Tick {
        Tick::after(Duration::from_millis(millis))
    }

    /// In milliseconds, at a time.
    fn value(costs: &Costs, slot: Slot, now: u64) -> f32 {
        let reference = Cost::new(log(Duration::from_millis(1)), at(now));
        costs.compare(costs.of(slot, || at(now)), reference).exp2()
    }

    fn note(costs: &Costs, millis: u64, now: u64) {
        costs.note(SLOT, Duration::from_millis(millis), at(now));
    }

    #[track_caller]
    fn assert_near(value: f32, expected: f32) {
        assert!((value / expected - 1.0).abs() < 1e-3, "{value} is not {expected}");
    }

    #[test]
    fn an_unknown_instance_costs_the_seed_which_decays() {
        let costs = costs();
        assert_near(value(&costs, SLOT, 0), 30.0);
        assert_near(value(&costs, SLOT, 10_000), 30.0 / std::f32::consts::E);
    }

    #[test]
    fn two_of_which_nothing_is_known_cost_the_same_whichever_was_seen_first() {
        let costs = costs();
        let (one, other) = (SLOT, Slot { index: 1, ..SLOT });
        let compare = |now| costs.compare(costs.of(one, || at(now)), costs.of(other, || at(now + 9_000)));
        assert_eq!(compare(0), 0.0);
        costs.note(other, Duration::from_millis(500), at(10_000));
        assert!(compare(0) < 0.0);
    }

    #[test]
    fn a_higher_latency_replaces_the_average_and_a_lower_one_is_blended_in() {
        let costs = costs();
        value(&costs, SLOT, 0);
        note(&costs, 200, 1_000);
        assert_near(value(&costs, SLOT, 1_000), 200.0);
        // What the definition says: 200 e^-0.3 + 10 (1 - e^-0.3).
        note(&costs, 10, 4_000);
        assert_near(value(&costs, SLOT, 4_000), 200.0 * (-0.3_f32).exp() + 10.0 * (1.0 - (-0.3_f32).exp()));
        // Within one tick only a higher one counts.
        note(&costs, 10, 4_000);
        note(&costs, 500, 4_000);
        note(&costs, 400, 3_000);
        assert_near(value(&costs, SLOT, 4_000), 500.0);
    }

    #[test]
    fn a_steady_latency_is_the_average_however_often_it_is_noted() {
        for every in [1, 7, 1_000] {
            let costs = costs();
            value(&costs, SLOT, 0);
            (0..100_000).step_by(every).for_each(|now| note(&costs, 20, now as u64));
            let average = value(&costs, SLOT, 100_000);
            assert!((17.9..20.1).contains(&average), "{average}");
        }
    }

    #[test]
    fn a_late_latency_of_an_instance_that_left_does_not_touch_its_successor() {
        let costs = costs();
        let successor = Slot { generation: 1, ..SLOT };
        value(&costs, SLOT, 0);
        assert_near(value(&costs, successor, 1_000), 30.0);
        note(&costs, 5_000, 1_000);
        assert_near(value(&costs, successor, 1_000), 30.0);
        // Nor does a pick from the version before.
        assert_near(value(&costs, SLOT, 9_000), 30.0);
        costs.note(successor, Duration::from_millis(70), at(9_000));
        assert_near(value(&costs, successor, 9_000), 70.0);
    }

    #[test]
    fn odd_figures_give_a_number() {
        for (decay, seed) in [(Duration::ZERO, Duration::ZERO), (Duration::MAX, Duration::MAX)] {
            let costs = Costs::new(decay, seed);
            costs.reserve(1);
            for (latency, now) in [(0, 0), (u64::MAX, 1), (0, 2), (5, 40_000_000), (0, u64::MAX), (1, 0)] {
                note(&costs, latency, now);
                assert!(costs.compare(costs.of(SLOT, || at(now)), Cost::new(0.0, at(now))).is_finite());
            }
            assert!(costs.of(Slot { index: 40, generation: 0 }, || at(1)).log.is_finite());
        }
    }

    #[test]
    fn ticks_wrap() {
        let costs = costs();
        let before = Tick(u32::MAX - 500);
        costs.of(SLOT, || before);
        costs.note(SLOT, Duration::from_millis(100), before);
        costs.note(SLOT, Duration::from_millis(100), Tick(500));
        let cost = costs.of(SLOT, || Tick(500));
        assert_eq!(cost.tick, Tick(500));
        assert_near(cost.log, log(Duration::from_millis(100)));
    }

    #[test]
    fn after_weeks_without_a_request_the_next_latency_counts() {
        const DAY: u64 = 86_400_000;
        // Before and after half of the ticks, and once they wrap.
        for days in [1, 24, 25, 40, 49, 60] {
            let costs = costs();
            let other = Slot { index: 1, ..SLOT };
            value(&costs, SLOT, 0);
            note(&costs, 5_000, 0);
            costs.of(other, || at(0));
            costs.note(other, Duration::from_secs(5), at(0));
            note(&costs, 20, days * DAY);
            assert_near(value(&costs, SLOT, days * DAY), 20.0);
            // Whoever was idle has its turn: either the cheaper one, or as good as any.
            let dearer = costs.compare(costs.of(other, || at(0)), costs.of(SLOT, || at(0)));
            assert!(dearer <= 0.0, "{dearer} after {days} days");
            let spared = costs.compare(costs.of(SLOT, || at(0)), costs.of(other, || at(0)));
            assert_eq!(spared, -dearer, "after {days} days");
        }
    }
}
