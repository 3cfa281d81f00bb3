//! One after the other, per thread.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Dice, Lanes};

/// Not yet started.
const START: usize = usize::MAX;

/// The next position of each thread, which outlives versions of the view. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct RoundRobin(Lanes<AtomicUsize>);

impl Default for RoundRobin {
    fn default() -> Self {
        Self(Lanes::new(|| AtomicUsize::new(START)))
    }
}

impl RoundRobin {
    /// The position whose turn it is on this thread, of `len`.
    #[inline]
    pub(super) fn next(&self, len: usize, dice: &Dice) -> usize {
        let next = self.0.of(dice.thread());
        // Load and store, not an atomic addition: the lane is this thread's. Where threads share one, they
        // may choose the same instance at the same moment, which is harmless.
        let at = match next.load(Ordering::Relaxed) {
            at if at < len => at,
            at if at == len => 0,
            // At the start, and when the list got much shorter: many clients that begin at 0 would all hit
            // the same instance.
            _ => dice.below(len),
        };
        next.store(at + 1, Ordering::Relaxed);
        at
    }
}
