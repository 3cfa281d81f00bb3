//! All the same.

use std::cell::Cell;

use fastrand::Rng;

/// A thread's own source of random numbers, to be kept where the pick looks anyway: the one that `fastrand` keeps per
/// thread is a second look-up.
#[derive(Debug)]
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    /// Dice that throw the same in each thread until they are [`shaken`](Self::shake).
    pub(crate) const fn still() -> Self {
        Self(Cell::new(0))
    }

    /// Dice that always throw the same for one number.
    pub(super) const fn of(number: u64) -> Self {
        Self(Cell::new(number))
    }

    /// Dice for one pick.
    pub(crate) fn fresh() -> Self {
        let dice = Self::still();
        dice.shake();
        dice
    }

    /// Makes what comes next unforeseeable.
    pub(crate) fn shake(&self) {
        self.0.set(fastrand::u64(..));
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
        let mut rng = Rng::with_seed(self.0.get());
        let thrown = with(&mut rng);
        self.0.set(rng.get_seed());
        thrown
    }
}
