//! A global allocator that weighs what a thread keeps.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ops::Sub,
};

thread_local! {
    static KEPT: Cell<Weight> = const { Cell::new(Weight { requested: 0, taken: 0 }) };
}

/// Bytes a thread has allocated and not freed. Negative if it freed what others allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// What was asked for.
    pub requested: i64,
    /// What glibc's allocator takes for that on a 64-bit machine: 8 bytes more, rounded up to 16, at least 32. By
    /// rule and not by asking, so that the figure is the same on every system.
    pub taken: i64,
}

/// Forwards to the system's allocator and weighs; make it the `#[global_allocator]`.
#[derive(Debug)]
pub struct WeighingAllocator;

/// Runs `f`; what the thread kept of it, and what `f` returned. Always 0 unless [`WeighingAllocator`] is the global
/// allocator.
pub fn weigh<R>(f: impl FnOnce() -> R) -> (Weight, R) {
    let before = kept();
    let result = f();
    (kept() - before, result)
}

fn kept() -> Weight {
    KEPT.with(Cell::get)
}

impl Sub for Weight {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { requested: self.requested - other.requested, taken: self.taken - other.taken }
    }
}

fn add(size: usize, sign: i64) {
    let taken = ((size + 8 + 15) & !15).max(32);
    // A thread that is ending has no scales any more, and nobody who would ask for them.
    let _ = KEPT.try_with(|kept| {
        let Weight { requested, taken: all } = kept.get();
        kept.set(Weight { requested: requested + sign * size as i64, taken: all + sign * taken as i64 });
    });
}

// SAFETY: every method forwards its arguments unchanged to `System`, which upholds the contract; weighing
// neither allocates nor unwinds.
unsafe impl GlobalAlloc for WeighingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size(), 1);
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size(), 1);
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(layout.size(), -1);
        add(size, 1);
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        add(layout.size(), -1);
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}
