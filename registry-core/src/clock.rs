//! Wall time, for the two things monotonic time can't tell: that the process was suspended, and how old a file is.
//!
//! Timers and deadlines use [`tokio::time`] only, which tests pause. On Linux that clock stands still while the
//! machine is suspended; comparing it with the wall clock shows the gap.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

/// A source of wall time that tests replace.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Time since the Unix epoch. May jump; is only ever compared, never used as a deadline.
    fn wall(&self) -> Duration;
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// A shared system clock.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_types, reason = "this is the one place that reads the wall clock")]
    fn wall(&self) -> Duration {
        std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

/// A wall clock that moves with tokio's clock, plus an offset that tests set: paused time stays consistent, and a
/// suspend or a clock step is one call.
#[derive(Debug)]
pub struct ManualClock {
    origin: tokio::time::Instant,
    offset_millis: std::sync::atomic::AtomicI64,
}

impl ManualClock {
    /// A clock that reads one million seconds now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: tokio::time::Instant::now(), offset_millis: 0.into() }
    }

    /// Steps the wall clock by `millis` without the monotonic clock noticing, as a suspend or an operator does.
    pub fn step(&self, millis: i64) {
        self.offset_millis.fetch_add(millis, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Duration {
        let base = Duration::from_secs(1_000_000_000) + self.origin.elapsed();
        let offset = self.offset_millis.load(std::sync::atomic::Ordering::SeqCst);
        let by = Duration::from_millis(offset.unsigned_abs());
        if offset >= 0 { base + by } else { base.saturating_sub(by) }
    }
}
