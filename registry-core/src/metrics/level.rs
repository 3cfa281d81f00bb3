//! One share in a gauge.

#[cfg(feature = "metrics")]
use std::sync::{Mutex, PoisonError};

use super::{Metric, emit::Labels};

/// What one object adds to a gauge; taken back when it is dropped. So two views of one service add up, and what is
/// gone leaves nothing behind.
#[derive(Default)]
pub(crate) struct Level(#[cfg(feature = "metrics")] Mutex<Option<(metrics::Gauge, f64)>>);

impl Level {
    /// Adds this much under these labels, instead of what it added before.
    pub(super) fn set(&self, metric: &'static Metric, labels: &Labels<'_>, value: usize) {
        #[cfg(feature = "metrics")]
        {
            let gauge = metrics::gauge!(metric.name, super::emit::to_labels(labels));
            let value = value as f64;
            gauge.increment(value);
            self.replace(Some((gauge, value)));
        }
        #[cfg(not(feature = "metrics"))]
        let _ = (self, metric, labels, value);
    }

    /// Adds nothing any more.
    pub(crate) fn clear(&self) {
        #[cfg(feature = "metrics")]
        self.replace(None);
    }

    #[cfg(feature = "metrics")]
    fn replace(&self, new: Option<(metrics::Gauge, f64)>) {
        let mut share = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((gauge, value)) = std::mem::replace(&mut *share, new) {
            gauge.decrement(value);
        }
    }
}

#[cfg(feature = "metrics")]
impl Drop for Level {
    fn drop(&mut self) {
        self.clear();
    }
}

impl std::fmt::Debug for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Level")
    }
}
