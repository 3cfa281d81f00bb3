//! How fast a watch may ask: a few times at once, then by what the answers weigh.
//!
//! Each answer is the whole list. After a burst, a list is read at most ten times a second, and not much more than a
//! mebibyte of lists per second: a list of 12 MB that changes all the time is read every 12 s.
//!
//! A server, or what stands in front of it, that doesn't hold a query back and doesn't move its index either makes a loop
//! of it, which ten reads a second for ever would still be. Once a burst of such answers came in a row, each makes the
//! next read twice as dear, until there is one per 15 s, which is what Consul advises for a list that never rests. An
//! answer that was held back, or that moves the index, ends that at once.

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
    /// What a read costs for its length.
    weight: Duration,
    /// Answers in a row for which nobody had to wait and that told nothing.
    idle: u32,
}

/// What became of one query that was to be held back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// The index that was to be passed, and the one that was told.
    pub(super) asked: u64,
    pub(super) told: Option<u64>,
    /// How long it took, and how long it was to take if nothing came.
    pub(super) took: Duration,
    pub(super) wait: Duration,
}

impl Held {
    /// Whether the answer might as well not have been asked for. A server may return a little early, so half counts; and
    /// one that caps waits does hold queries back.
    fn is_idle(&self) -> bool {
        self.told <= Some(self.asked) && self.took < self.wait.min(LONGEST_PAUSE) / 2
    }
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: BURST, next: now + LEAST, weight: LEAST, idle: 0 }
    }

    /// Notes the length of an answer, which is what another read costs.
    pub(super) fn weigh(&mut self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a rough price")]
        let seconds = bytes as f64 / BYTES;
        self.weight = Duration::from_secs_f64(seconds).clamp(LEAST, LONGEST_PAUSE);
    }

    /// Notes how a query was answered.
    pub(super) fn note(&mut self, held: Held, now: Instant) {
        if held.is_idle() {
            self.idle = self.idle.saturating_add(1);
            return;
        }
        if self.idle > BURST {
            self.next = self.next.min(now + self.weight);
        }
        self.idle = 0;
    }

    /// What another read costs now.
    fn price(&self) -> Duration {
        // Seven and a half make 15 s of 100 ms.
        let doublings = self.idle.saturating_sub(BURST).min(8);
        self.weight.max(LEAST * (1 << doublings)).min(LONGEST_PAUSE)
    }

    /// Takes one read; returns when it may be made.
    pub(super) fn take(&mut self, now: Instant) -> Instant {
        while self.left < BURST && self.next <= now {
            self.left += 1;
            self.next += self.price();
        }
        if self.left == BURST {
            self.next = now + self.price();
        }
        if self.left > 0 {
            self.left -= 1;
            return now;
        }
        let at = self.next;
        self.next += self.price();
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

    /// An answer that came after `took` and tells `told`, where more than 5 was asked for.
    fn held(took: Duration, told: Option<u64>) -> Held {
        Held { asked: 5, told, took, wait: Duration::from_secs(60) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_neither_holds_back_nor_moves_on_is_asked_once_in_15_s() {
        for told in [Some(5), Some(1), None] {
            let start = Instant::now();
            let mut pace = Pace::new(start);
            let (mut now, mut pauses) = (start, Vec::new());
            for _ in 0..40 {
                let at = pace.take(now);
                pauses.push(at - now);
                now = at;
                pace.note(held(Duration::ZERO, told), now);
            }
            assert!(
                pauses.is_sorted() && pauses[..BURST as usize].iter().all(Duration::is_zero),
                "{pauses:?}"
            );
            assert_eq!(pauses.last(), Some(&LONGEST_PAUSE));
            assert!(now - start > Duration::from_secs(300), "{:?}", now - start);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_waited_for_or_tells_something_makes_reads_cheap_again() {
        // Also one that was held back for as long as a server that caps waits does.
        let held_back = [61, 10].map(|seconds| held(Duration::from_secs(seconds), Some(5)));
        for good in held_back.into_iter().chain([held(Duration::ZERO, Some(6))]) {
            let mut now = Instant::now();
            let mut pace = Pace::new(now);
            for _ in 0..40 {
                now = pace.take(now);
                pace.note(held(Duration::ZERO, Some(5)), now);
            }
            now += good.took;
            pace.note(good, now);
            assert!(pace.take(now) - now <= LEAST);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_moves_on_is_not_slowed_down() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for index in 6..200 {
            let at = pace.take(now);
            assert!(at - now <= LEAST, "{:?}", at - now);
            now = at;
            pace.note(Held { asked: index - 1, ..held(Duration::ZERO, Some(index)) }, now);
        }
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
