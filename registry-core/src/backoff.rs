//! Exponential backoff as a value.
//!
//! From 50 ms, × 1.6, to a cap of 5 s with full jitter (a uniform draw below the current step): many clients that
//! lost the same registry come back spread out, and none later than the cap. When the registry throttles, the
//! cap is 30 s with equal jitter, as full jitter can draw almost nothing. See "Exponential Backoff And Jitter"
//! (AWS Architecture Blog, 2015).

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
/// How much longer each step is than the one before.
pub(crate) const GROWTH: f64 = 1.6;
const CAP: Duration = Duration::from_secs(5);
const THROTTLED_CAP: Duration = Duration::from_secs(30);
/// Longest `Retry-After` that is obeyed.
pub(crate) const RETRY_AFTER_CAP: Duration = Duration::from_secs(60);
/// How long a refused operation waits before it is tried again.
pub(crate) const BLOCKED_RETRY: Duration = Duration::from_secs(60);

/// The backoff of one loop: counts failures, draws delays, and forgets only after lasting health.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Backoff {
    failures: u32,
    healthy_since: Option<Instant>,
    /// Health must last this long before the count is forgotten: an early reset recreates the herd.
    reset_after: Duration,
    /// When the delay that was drawn last is over.
    round_ends: Option<Instant>,
    /// No step is shorter; see [`spread_over`](Self::spread_over).
    least: Duration,
}

impl Backoff {
    pub(crate) fn new(reset_after: Duration) -> Self {
        Self { failures: 0, healthy_since: None, reset_after, round_ends: None, least: Duration::ZERO }
    }

    /// Notes a failure and draws the delay before the next attempt.
    ///
    /// Calls that run beside each other fail together when the registry goes: what fails before the drawn delay is
    /// over waits for its end too and doesn't count, or a moment's outage would look like a long one.
    pub(crate) fn fail(
        &mut self,
        now: Instant,
        throttled: bool,
        retry_after: Option<Duration>,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        if self
            .healthy_since
            .take()
            .is_some_and(|since| now.saturating_duration_since(since) >= self.reset_after)
        {
            self.failures = 0;
        }
        if let Some(left) = self.round_ends.and_then(|end| end.checked_duration_since(now))
            && !left.is_zero()
            && !throttled
        {
            return left;
        }
        let cap = if throttled { THROTTLED_CAP } else { CAP };
        let exponent = i32::try_from(self.failures.min(64)).unwrap_or(64);
        let step = FIRST.mul_f64(GROWTH.powi(exponent).min(cap.as_secs_f64() / FIRST.as_secs_f64()));
        let step = if throttled { step } else { step.max(self.least.min(cap)) };
        self.failures = self.failures.saturating_add(1);
        let delay = if throttled {
            let drawn = step / 2 + step.mul_f64(rng.f64() / 2.0);
            drawn.max(retry_after.unwrap_or_default().min(RETRY_AFTER_CAP))
        } else {
            step.mul_f64(rng.f64())
        };
        // A registry that asked one call for less has not asked the others.
        self.round_ends = (!throttled).then(|| now + delay);
        delay
    }

    /// Notes that contact was lost, and that the first attempt after it is drawn from `spread`: until a success, steps
    /// begin where that ends.
    ///
    /// Of those who lost a registry for some seconds, most are at their first attempts when it returns. With short steps
    /// upon a spread of 2.5 s, up to a sixth of all came in the same 100 ms.
    pub(crate) fn spread_over(&mut self, spread: Duration) {
        self.least = spread.mul_f64(GROWTH);
    }

    /// Notes a success; the count is forgotten at the next failure if health lasted.
    pub(crate) fn succeed(&mut self, now: Instant) {
        self.least = Duration::ZERO;
        self.healthy_since.get_or_insert(now);
    }

    /// How many failures in a row there were.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

/// A draw of `around` ± `share`, so that equal timers drift apart.
pub(crate) fn spread(around: Duration, share: f64, rng: &mut fastrand::Rng) -> Duration {
    around.mul_f64(1.0 - share + 2.0 * share * rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(backoff: &mut Backoff, now: Instant, throttled: bool, after: Option<Duration>) -> Duration {
        backoff.fail(now, throttled, after, &mut fastrand::Rng::with_seed(7))
    }

    #[tokio::test(start_paused = true)]
    async fn delays_grow_to_the_cap_and_stay_below_it() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let mut rng = fastrand::Rng::with_seed(1);
        let mut late = Duration::ZERO;
        for attempt in 0..2_000 {
            let delay = backoff.fail(Instant::now(), false, None, &mut rng);
            assert!(delay <= CAP, "attempt {attempt} waits {delay:?}");
            late = late.max(delay);
            tokio::time::advance(delay).await;
        }
        assert!(late > CAP.mul_f64(0.9), "full jitter reaches up to the cap, saw {late:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_spread_steps_begin_where_it_ends_until_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let mut rng = fastrand::Rng::with_seed(1);
        let mut longest = |backoff: &Backoff| {
            let mut longest = Duration::ZERO;
            for _ in 0..200 {
                let mut one = backoff.clone();
                longest = longest.max(one.fail(Instant::now(), false, None, &mut rng));
            }
            longest
        };
        backoff.spread_over(Duration::from_secs(2));
        let drawn = longest(&backoff);
        assert!((2_800..=3_200).contains(&drawn.as_millis()), "{drawn:?}");
        backoff.spread_over(Duration::from_secs(60));
        assert!(longest(&backoff) <= CAP, "never longer than the cap");
        backoff.succeed(Instant::now());
        assert!(longest(&backoff) <= FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_together_counts_once_and_is_tried_again_together() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let mut rng = fastrand::Rng::with_seed(1);
        let drawn = backoff.fail(Instant::now(), false, None, &mut rng);
        for _ in 0..20 {
            assert_eq!(backoff.fail(Instant::now(), false, None, &mut rng), drawn);
        }
        assert_eq!(backoff.failures(), 1);
        tokio::time::advance(drawn / 2).await;
        assert_eq!(backoff.fail(Instant::now(), false, None, &mut rng), drawn - drawn / 2);
        tokio::time::advance(drawn).await;
        backoff.fail(Instant::now(), false, None, &mut rng);
        assert_eq!(backoff.failures(), 2, "the next round counts");
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_delay_is_never_near_zero_and_honours_retry_after() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        for _ in 0..40 {
            fail(&mut backoff, Instant::now(), true, None);
        }
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..1_000 {
            let delay = backoff.fail(Instant::now(), true, None, &mut rng);
            assert!(delay >= THROTTLED_CAP / 2 && delay <= THROTTLED_CAP);
        }
        assert_eq!(
            fail(&mut backoff, Instant::now(), true, Some(Duration::from_secs(45))),
            Duration::from_secs(45)
        );
        assert_eq!(fail(&mut backoff, Instant::now(), true, Some(Duration::from_secs(600))), RETRY_AFTER_CAP);
    }

    #[tokio::test(start_paused = true)]
    async fn only_lasting_health_forgets_the_failures() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        for _ in 0..20 {
            let delay = fail(&mut backoff, Instant::now(), false, None);
            tokio::time::advance(delay).await;
        }
        backoff.succeed(Instant::now());
        tokio::time::advance(Duration::from_secs(9)).await;
        fail(&mut backoff, Instant::now(), false, None);
        assert_eq!(backoff.failures(), 21);
        backoff.succeed(Instant::now());
        tokio::time::advance(Duration::from_secs(10)).await;
        fail(&mut backoff, Instant::now(), false, None);
        assert_eq!(backoff.failures(), 1);
    }
}
