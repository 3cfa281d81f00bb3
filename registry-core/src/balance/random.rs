//! All the same.

use std::cell::Cell;

use fastrand::Rng;

use super::lane::thread_number;

/// A thread's own source of random numbers and its number, to be kept where the pick looks anyway: what `fastrand` and
/// [`Lanes`](super::Lanes) keep per thread is another look-up each.
#[derive(Debug)]
pub(crate) struct Dice {
    /// What is thrown next. A throw begins with a read that way, and what it takes to make the one after is done while the
    /// processor waits for memory.
    next: Cell<u64>,
    state: Cell<u64>,
    thread: Cell<usize>,
}

impl Dice {
    /// Dice that throw the same in each thread until they are [`shaken`](Self::shake).
    pub(crate) const fn still() -> Self {
        Self { next: Cell::new(0), state: Cell::new(0), thread: Cell::new(0) }
    }

    /// Dice that always throw the same for one number.
    pub(super) fn of(number: u64) -> Self {
        let dice = Self::still();
        dice.state.set(number);
        dice.bits();
        dice
    }

    /// Dice for one pick.
    pub(crate) fn fresh() -> Self {
        let dice = Self::still();
        dice.shake();
        dice
    }

    /// Makes what comes next unforeseeable, and this thread's.
    pub(crate) fn shake(&self) {
        self.next.set(fastrand::u64(..));
        self.state.set(fastrand::u64(..));
        self.thread.set(thread_number());
    }

    /// The number of the thread that shook them.
    #[inline(always)]
    pub(super) fn thread(&self) -> usize {
        self.thread.get()
    }

    /// 64 random bits.
    #[inline(always)]
    pub(super) fn bits(&self) -> u64 {
        let mut rng = Rng::with_seed(self.state.get());
        let thrown = self.next.replace(rng.u64(..));
        self.state.set(rng.get_seed());
        thrown
    }

    /// A position below `len`, which isn't 0. Each is as likely, to within `len` / 2^64.
    #[inline(always)]
    pub(super) fn below(&self, len: usize) -> usize {
        ((u128::from(self.bits()) * len as u128) >> 64) as usize
    }
}
