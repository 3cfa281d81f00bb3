//! A global allocator that counts the allocations of each thread, so that "allocates nothing" is a test.
//!
//! ```
//! use registry_bench_support::{CountingAllocator, allocations};
//!
//! #[global_allocator]
//! static ALLOCATOR: CountingAllocator = CountingAllocator;
//!
//! let (count, text) = allocations(|| String::from("one"));
//! assert_eq!((count, text.len()), (1, 3));
//! ```

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    // Const-initialised and without a destructor: reading it never allocates.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Forwards to the system's allocator and counts; make it the `#[global_allocator]`.
#[derive(Debug)]
pub struct CountingAllocator;

/// How many allocations this thread has made, reallocations included.
#[must_use]
pub fn allocated() -> u64 {
    COUNT.try_with(Cell::get).unwrap_or_default()
}

/// Runs `f`; how many allocations this thread made meanwhile, and what `f` returned. Always 0 unless
/// [`CountingAllocator`] is the global allocator.
pub fn allocations<R>(f: impl FnOnce() -> R) -> (u64, R) {
    let before = allocated();
    let result = f();
    (allocated() - before, result)
}

fn count() {
    // A thread that is ending has no counter any more, and nobody who would ask for it.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every method forwards its arguments unchanged to `System`, which upholds the contract; counting
// neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}
