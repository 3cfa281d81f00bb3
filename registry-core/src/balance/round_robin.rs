//! One after the other, per thread.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Balancer, Draw, Lanes, Members, Picker};

/// Not yet started.
const START: usize = usize::MAX;

/// The next position of each thread, which outlives versions of the view.
#[derive(Debug)]
pub(super) struct RoundRobin(Arc<Next>);

#[derive(Debug)]
struct Next(Lanes<AtomicUsize>);

impl Default for RoundRobin {
    fn default() -> Self {
        Self(Arc::new(Next(Lanes::new(|| AtomicUsize::new(START)))))
    }
}

impl Balancer for RoundRobin {
    fn picker(&self, _: &Members) -> Arc<dyn Picker> {
        Arc::<Next>::clone(&self.0)
    }
}

impl Picker for Next {
    #[inline]
    fn pick(&self, draw: &Draw<'_>) -> usize {
        let len = draw.members().len();
        let next = self.0.mine();
        // Load and store, not an atomic addition: the lane is this thread's. Where threads share one, they
        // may choose the same instance at the same moment, which is harmless.
        let at = match next.load(Ordering::Relaxed) {
            at if at < len => at,
            at if at == len => 0,
            // At the start, and when the list got much shorter: many clients that begin at 0 would all hit
            // the same instance.
            _ => fastrand::usize(..len),
        };
        next.store(at + 1, Ordering::Relaxed);
        at
    }
}
