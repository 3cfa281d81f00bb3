//! When a view is saved: a second after a change, every ten minutes anyway, not for a minute after a failure.

use std::time::Duration;

use tokio::time::Instant;

/// Changes this close together are saved once.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// A cache that saves only changes may never exist (nacos#13336).
const REWRITE: Duration = Duration::from_secs(600);
/// How long a failed write disables saving: a full disk isn't hammered.
const DISABLED: Duration = Duration::from_secs(60);

/// The timing of one view's file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SaveSchedule {
    changed: Option<Instant>,
    rewrite_at: Option<Instant>,
    disabled_until: Option<Instant>,
    running: bool,
}

impl SaveSchedule {
    /// Notes that the view changed.
    pub(crate) fn change(&mut self, now: Instant) {
        self.changed.get_or_insert(now);
    }

    /// When to save next; `None` while a save runs, or if there was nothing to save yet.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.running {
            return None;
        }
        let changed = self.changed.map(|at| at + DEBOUNCE);
        let due = match (changed, self.rewrite_at) {
            (Some(changed), Some(rewrite)) => changed.min(rewrite),
            (changed, rewrite) => changed.or(rewrite)?,
        };
        Some(self.disabled_until.map_or(due, |until| until.max(due)))
    }

    /// Notes that a save of everything known has begun.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.running = true;
        self.changed = None;
        self.rewrite_at = Some(now + REWRITE);
    }

    /// Notes how the save ended. A failed one is repeated once saving is enabled again.
    pub(crate) fn end(&mut self, saved: bool, now: Instant) {
        self.running = false;
        self.disabled_until = (!saved).then(|| now + DISABLED);
        if !saved {
            self.change(now);
        }
    }

    /// Puts a regular rewrite off, as there is nothing new to say.
    pub(crate) fn skip(&mut self, now: Instant) {
        self.rewrite_at = Some(now + REWRITE);
    }

    /// Whether something changed that isn't known to be on disk.
    pub(crate) fn is_dirty(&self) -> bool {
        self.changed.is_some() || self.running
    }
}
