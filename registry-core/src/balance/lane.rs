//! State per thread without thread-local allocation: each thread has a number, and with it a cell of its own
//! in every [`Lanes`].
//!
//! An atomic write to a line that another core writes too costs 60 to 120 ns, ten times an uncontended one;
//! two threads that share a counter do a third of what one does alone.

use std::{
    cell::Cell,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// How many lanes there are: a power of two, twice the cores, 4 to 64. More threads than that share.
static COUNT: LazyLock<usize> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(4, usize::from);
    (2 * cores).next_power_of_two().clamp(4, MOST)
});

/// Most lanes.
const MOST: usize = 64;

const UNSET: usize = usize::MAX;

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(UNSET) };
}

/// This thread's number; threads count up from 0 in the order of their first pick.
#[inline]
pub(super) fn thread_number() -> usize {
    THREAD.with(|thread| match thread.get() {
        UNSET => number_thread(thread),
        number => number,
    })
}

/// A number of this thread's lane, by which other threads [get](Lanes::get) it.
#[inline(always)]
pub(super) fn lane_number() -> usize {
    thread_number() & (MOST - 1)
}

#[cold]
fn number_thread(thread: &Cell<usize>) -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Wrapping at half the range keeps `UNSET` free.
    let number = NEXT.fetch_add(1, Ordering::Relaxed) & (usize::MAX >> 1);
    thread.set(number);
    number
}

/// One `T` per lane. Clones share them, without a hop more.
#[derive(Debug)]
pub(crate) struct Lanes<T>(Arc<[Padded<T>]>);

impl<T> Clone for Lanes<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Alone on its cache lines; two, as processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T> Lanes<T> {
    pub(crate) fn new(make: impl FnMut() -> T) -> Self {
        Self(std::iter::repeat_with(make).take(*COUNT).map(Padded).collect())
    }

    /// The cells of all threads.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }

    /// The cell of this thread.
    #[inline]
    pub(crate) fn mine(&self) -> &T {
        self.numbered().2
    }

    /// The cell of the thread with this number, this thread's own.
    #[inline]
    pub(super) fn of(&self, thread: usize) -> &T {
        &self.0[thread & (self.0.len() - 1)].0
    }

    /// This thread's number, its cell, and between them the number by which another thread [gets](Self::get) that.
    #[inline]
    pub(crate) fn numbered(&self) -> (usize, usize, &T) {
        let thread = thread_number();
        // The length is a power of two.
        let at = thread & (self.0.len() - 1);
        (thread, at, &self.0[at].0)
    }

    /// The cell of a number; numbers are below 64, and as many as are apart by the number of lanes mean the same.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        if at >= MOST {
            return None;
        }
        self.0.get(at & (self.0.len() - 1)).map(|cell| &cell.0)
    }
}
