//! What the benchmarks and the allocation tests share.
//!
//! A [`Case`] is one thing to measure; [`Rounds`] runs several, interleaved, and compares them; a [`Bound`] says what
//! they may cost and prints the verdict. Absolute times move with the machine, so that bounds are ratios to a case
//! of the same round. [`CountingAllocator`] makes "allocates nothing" a test, [`WeighingAllocator`] weighs what is kept.

mod bound;
mod case;
mod count;
mod machine;
mod rounds;
mod ruler;
mod weigh;

pub use self::{
    bound::{Bound, conclude},
    case::Case,
    count::{CountingAllocator, allocated, allocations},
    machine::{Watch, on_thread, quantile},
    rounds::Rounds,
    ruler::any,
    weigh::{WeighingAllocator, Weight, weigh},
};
