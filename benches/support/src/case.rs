//! One thing to measure.
#![expect(clippy::disallowed_types, reason = "a benchmark measures the time that passes")]

use std::{fmt, hint::black_box, time::Instant};

use crate::allocated;

/// Length of one run, in nanoseconds.
const RUN: f64 = 12e6;

/// A case's run: iteration count in; (ns per op, allocations per op) out.
type Run = Box<dyn Fn(u64) -> (f64, f64) + Send + Sync>;

/// One operation, how often it is repeated per run, and what the runs took.
///
/// The loop is compiled for the operation and sits behind one `dyn` call. The sum of the results goes through one
/// `black_box` after the loop, as one per operation is itself a cost.
pub struct Case {
    name: &'static str,
    run: Run,
    iterations: u64,
}

impl Case {
    /// A case of a name and an operation on what all threads share. Runs it for a moment to find out how many
    /// iterations take 12 ms.
    pub fn new<S: Send + Sync + 'static>(
        name: &'static str,
        shared: S,
        op: impl Fn(&S) -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self::with_local(name, shared, |_| (), move |shared, ()| op(shared))
    }

    /// As [`new`](Self::new), with something that is made once per run and thread.
    pub fn with_local<S: Send + Sync + 'static, L>(
        name: &'static str,
        shared: S,
        local: impl Fn(&S) -> L + Send + Sync + 'static,
        op: impl Fn(&S, &mut L) -> u64 + Send + Sync + 'static,
    ) -> Self {
        let run: Run = Box::new(move |iterations| {
            let (mut local, mut sum) = (local(&shared), 0_u64);
            for _ in 0..iterations / 50 + 1 {
                sum = sum.wrapping_add(op(&shared, &mut local));
            }
            let (before, start) = (allocated(), Instant::now());
            for _ in 0..iterations {
                sum = sum.wrapping_add(op(&shared, &mut local));
            }
            let (elapsed, allocations) = (start.elapsed().as_nanos(), allocated() - before);
            black_box(sum);
            (elapsed as f64 / iterations as f64, allocations as f64 / iterations as f64)
        });
        let mut iterations = 1;
        // Operations take from a nanosecond to many milliseconds.
        while iterations < 200_000 && run(iterations).0 * iterations as f64 * 50.0 < RUN {
            iterations *= 4;
        }
        let iterations = (RUN / run(iterations).0).max(1.0) as u64;
        Self { name, run, iterations }
    }

    /// Its name, which is its heading in tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// One run on this thread: ns and allocations per operation.
    #[must_use]
    pub fn run(&self) -> (f64, f64) {
        (self.run)(self.iterations)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
