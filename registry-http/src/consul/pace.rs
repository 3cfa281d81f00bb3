//! How fast a watch may ask: a few times at once, then by what the answers weigh.
//!
//! Each answer is the whole list. After a burst, a list is read at most ten times a second, and not much more than a
//! mebibyte of lists per second: a list of 12 MB that changes all the time is read every 12 s. With a server that
//! answers at once each time, for whatever reason, this keeps a loop from being a busy one.

use std::time::Duration;

use tokio::time::Instant;

/// Reads without a pause.
const BURST: u32 = 8;
/// The shortest time to earn another read.
const LEAST: Duration = Duration::from_millis(100);
/// The longest, and so the longest pause of who waits for each.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Bytes of lists that are worth a second.
const BYTES: f64 = 1024.0 * 1024.0;

#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    /// When the next read is earned.
    next: Instant,
    price: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, next: now + LEAST, price: LEAST }
    }

    /// Notes the length of an answer, which is what another read costs.
    pub(super) fn weigh(&mut self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a rough price")]
        let seconds = bytes as f64 / BYTES;
        self.price = Duration::from_secs_f64(seconds).clamp(LEAST, LONGEST_PAUSE);
    }

    /// Takes one read; returns when it may be made.
    pub(super) fn take(&mut self, now: Instant) -> Instant {
        while self.left < BURST && self.next <= now {
            self.left += 1;
            self.next += self.price;
        }
        if self.left == BURST {
            self.next = now + self.price;
        }
        if self.left > 0 {
            self.left -= 1;
            return now;
        }
        let at = self.next;
        self.next += self.price;
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_and_then_each_read_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..BURST {
            assert_eq!(pace.take(start), start);
        }
        let mut now = start;
        for _ in 0..10 {
            let at = pace.take(now);
            assert!(at > now && at - now <= LEAST);
            now = at;
        }
        let later = now + Duration::from_secs(60);
        assert_eq!(pace.take(later), later, "quiet times earn reads");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_list_is_read_rarely() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.weigh(12 * 1024 * 1024);
        for _ in 0..=BURST {
            pace.take(start);
        }
        let at = pace.take(start);
        assert!(at - start >= Duration::from_secs(12), "{:?}", at - start);
        pace.weigh(usize::MAX);
        pace.take(at);
        assert!(pace.take(at) - at <= 2 * LONGEST_PAUSE);
    }
}
