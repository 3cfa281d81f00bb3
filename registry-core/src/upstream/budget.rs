//! How many retries an upstream may add to its traffic.
//!
//! When all instances are slow, retries multiply the load that made them slow. So retries are at most a fifth
//! of the calls of the last 10 s, and 3 per second besides, so that rare calls may be retried at all
//! (Finagle's `RetryBudget` has the same shape).

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// Length of the window, in seconds.
const WINDOW: usize = 10;
/// One retry per this many calls.
const CALLS_PER_RETRY: u64 = 5;
/// Retries per second that need no calls.
const FLOOR: u64 = 3;

/// The retry budget of one upstream.
#[derive(Debug)]
pub(super) struct Budget(Mutex<Option<Window>>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Counts a call, which earns a share of a retry.
    pub(super) fn earn(&self, now: Instant) {
        self.with(now, |second| second.calls += 1);
    }

    /// Takes one retry; whether there was one.
    pub(super) fn spend(&self, now: Instant) -> bool {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = window.get_or_insert_with(|| Window::new(now));
        window.advance(now);
        let sum = |what: fn(&Second) -> u64| window.seconds.iter().map(what).sum::<u64>();
        let allowed = sum(|s| s.calls) / CALLS_PER_RETRY + FLOOR * WINDOW as u64;
        let granted = sum(|s| s.retries) < allowed;
        if granted {
            window.current().retries += 1;
        }
        granted
    }

    /// Gives back a retry that was not made.
    pub(super) fn refund(&self, now: Instant) {
        self.with(now, |second| second.retries = second.retries.saturating_sub(1));
    }

    fn with(&self, now: Instant, change: impl FnOnce(&mut Second)) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window = window.get_or_insert_with(|| Window::new(now));
        window.advance(now);
        change(window.current());
    }
}

#[derive(Debug)]
struct Window {
    start: Instant,
    /// Seconds since `start`.
    at: u64,
    seconds: [Second; WINDOW],
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    calls: u64,
    retries: u64,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { start: now, at: 0, seconds: [Second::default(); WINDOW] }
    }

    fn advance(&mut self, now: Instant) {
        let at = now.saturating_duration_since(self.start).as_secs();
        for _ in 0..at.saturating_sub(self.at).min(WINDOW as u64) {
            self.seconds.rotate_right(1);
            self.seconds[0] = Second::default();
        }
        self.at = self.at.max(at);
    }

    fn current(&mut self) -> &mut Second {
        &mut self.seconds[0]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spend_all(budget: &Budget) -> usize {
        (0..10_000).take_while(|_| budget.spend(Instant::now())).count()
    }

    #[tokio::test(start_paused = true)]
    async fn retries_are_a_fifth_of_the_calls_plus_the_floor() {
        let budget = Budget::new();
        assert_eq!(spend_all(&budget), 30);
        (0..1_000).for_each(|_| budget.earn(Instant::now()));
        assert_eq!(spend_all(&budget), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_that_was_not_made_can_be_made_later() {
        let budget = Budget::new();
        assert_eq!(spend_all(&budget), 30);
        budget.refund(Instant::now());
        assert_eq!(spend_all(&budget), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_comes_back_after_the_window_and_what_was_earned_is_forgotten() {
        let budget = Budget::new();
        (0..1_000).for_each(|_| budget.earn(Instant::now()));
        assert_eq!(spend_all(&budget), 230);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(spend_all(&budget), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spend_all(&budget), 30);
    }
}
