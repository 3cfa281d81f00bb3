//! All the same.

use std::cell::Cell;

use fastrand::Rng;

use super::lane::thread_number;

/// A thread's own source of random numbers and its number, to be kept where the pick looks anyway: what `fastrand` and
/// [`Lanes`](super::Lanes) keep per thread is another look-up each.
#[derive(Debug)]
pub(crate) struct Dice {
    state: Cell<u64>,
    thread: Cell<usize>,
}

impl Dice {
    /// Dice that throw the same in each thread until they are [`shaken`](Self::shake).
    pub(crate) const fn still() -> Self {
        Self { state: Cell::new(0), thread: Cell::new(0) }
    }

    /// Dice that always throw the same for one number.
    pub(super) const fn of(number: u64) -> Self {
        Self { state: Cell::new(number), thread: Cell::new(0) }
    }

    /// Dice for one pick.
    pub(crate) fn fresh() -> Self {
        let dice = Self::still();
        dice.shake();
        dice
    }

    /// Makes what comes next unforeseeable, and this thread's.
    pub(crate) fn shake(&self) {
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
        self.throw(|rng| rng.u64(..))
    }

    /// A position below `len`, which isn't 0; uniform.
    #[inline(always)]
    pub(super) fn below(&self, len: usize) -> usize {
        self.throw(|rng| rng.usize(..len))
    }

    #[inline(always)]
    fn throw<T>(&self, with: impl FnOnce(&mut Rng) -> T) -> T {
        let mut rng = Rng::with_seed(self.state.get());
        let thrown = with(&mut rng);
        self.state.set(rng.get_seed());
        thrown
    }
}
