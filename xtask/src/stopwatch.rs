//! How long a step took.
#![expect(
    clippy::disallowed_types,
    reason = "steps are processes: there is no tokio here and no clock to pause"
)]

use std::time::{Duration, Instant};

/// Started when created.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts measuring.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
