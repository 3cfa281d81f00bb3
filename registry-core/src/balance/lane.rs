//! State per thread without thread-local allocation: each thread has a number, and with it a cell of its own
//! in every [`Lanes`].
//!
//! An atomic write to a line that another core writes too costs 60 to 120 ns, ten times an uncontended one;
//! two threads that share a counter do a third of what one does alone.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
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
    /// Apart from the number, which is read by every pick: what has a destructor is asked each time whether that has run.
    static HELD: Held = const { Held };
}

/// This thread's number; the lowest that no living thread has, or one of its own for what picks while the thread ends.
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

/// Numbers of threads: those that ended gave theirs back, so that who comes later counts where they did, as the owner of
/// that lane.
static NUMBERS: Mutex<Numbers> = Mutex::new(Numbers { next: 0, returned: BinaryHeap::new() });

struct Numbers {
    next: usize,
    /// The lowest first.
    returned: BinaryHeap<Reverse<usize>>,
}

impl Numbers {
    fn take(&mut self) -> usize {
        if let Some(Reverse(number)) = self.returned.pop() {
            return number;
        }
        self.next += 1;
        self.next - 1
    }
}

/// Gives the thread's number back when the thread ends.
struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        // What picks after this, in the destructor of something else, has a number of its own that isn't given back.
        let number = THREAD.replace(UNSET);
        if number != UNSET {
            numbers().returned.push(Reverse(number));
        }
    }
}

fn numbers() -> MutexGuard<'static, Numbers> {
    NUMBERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cold]
fn number_thread(thread: &Cell<usize>) -> usize {
    // Only has to be touched for its destructor to run.
    let is_held = HELD.try_with(|_| ()).is_ok();
    let mut numbers = numbers();
    let number = if is_held {
        numbers.take()
    } else {
        numbers.next += 1;
        numbers.next - 1
    };
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

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        collections::HashSet,
        sync::{Barrier, mpsc},
        thread,
    };

    use super::thread_number;

    #[test]
    fn threads_that_come_and_go_share_few_numbers_and_those_that_live_have_their_own() {
        let one_by_one: HashSet<_> = (0..500).map(|_| thread::spawn(thread_number).join().unwrap()).collect();
        assert!(one_by_one.len() < 250, "{} numbers for one thread at a time", one_by_one.len());
        let barrier = &Barrier::new(8);
        let numbers = thread::scope(|scope| {
            let together = (0..8).map(|_| {
                scope.spawn(move || {
                    barrier.wait();
                    let number = thread_number();
                    barrier.wait();
                    number
                })
            });
            let together: Vec<_> = together.collect();
            together.into_iter().map(|thread| thread.join().unwrap()).collect::<HashSet<_>>()
        });
        assert_eq!(numbers.len(), 8);
    }

    #[test]
    fn a_thread_that_has_given_its_number_back_doesn_t_use_it_again() {
        struct Last(RefCell<Option<mpsc::Sender<usize>>>);
        thread_local!(static LAST: Last = const { Last(RefCell::new(None)) });
        impl Drop for Last {
            fn drop(&mut self) {
                let told = self.0.take().unwrap();
                (0..2).for_each(|_| told.send(thread_number()).unwrap());
            }
        }
        // In either order of the two destructors; which of them is the later one is the platform's affair.
        let mut later = 0;
        for is_first in [true, false] {
            let (told, numbers) = mpsc::channel();
            let number = thread::spawn(move || {
                let hold = |told| LAST.with(|last| last.0.replace(Some(told)));
                if is_first {
                    hold(told.clone());
                }
                let number = thread_number();
                hold(told);
                number
            });
            let number = number.join().unwrap();
            let numbers: Vec<_> = numbers.iter().collect();
            assert_eq!(numbers[0], numbers[1]);
            later += u32::from(numbers[0] != number);
        }
        assert!(later > 0, "a number was used after it was given back");
    }
}
