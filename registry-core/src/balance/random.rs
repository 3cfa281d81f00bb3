//! All the same.

use std::sync::Arc;

use super::{Balancer, Draw, Members, Picker};

/// Uniform choice.
#[derive(Debug)]
pub(super) struct Random;

impl Balancer for Random {
    fn picker(&self, _: &Members) -> Arc<dyn Picker> {
        Arc::new(Self)
    }
}

impl Picker for Random {
    #[inline]
    fn pick(&self, draw: &Draw<'_>) -> usize {
        fastrand::usize(..draw.members().len())
    }
}
