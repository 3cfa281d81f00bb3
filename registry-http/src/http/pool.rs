//! Which server to ask: our own view of their health, as a value.
//!
//! The list is shuffled once per client, so that clients spread over it, and each prefers its servers in that order. One
//! that failed is asked last for a while, which doubles with each failure in a row, and then is preferred again: so load
//! returns to where it belongs without anybody looking.
//!
//! Where servers are equals that copy to each other, a client may change its favourite now and then: so that it isn't
//! bound to one whose copy is old, and new servers get their share of clients that live for months.

use std::time::Duration;

use tokio::time::Instant;

/// How long a server is left alone after its first failure.
const QUARANTINE: Duration = Duration::from_secs(10);
/// How often that doubles: to 160 s.
const DOUBLINGS: u32 = 4;

#[derive(Debug)]
pub(crate) struct Pool {
    /// A permutation of the servers, the preferred first.
    order: Vec<usize>,
    /// By server.
    health: Vec<Health>,
    #[cfg(any(test, feature = "eureka"))]
    rebalance: Option<Rebalance>,
}

/// When to draw a new order.
#[cfg(any(test, feature = "eureka"))]
#[derive(Debug)]
struct Rebalance {
    every: Duration,
    due: Instant,
    rng: fastrand::Rng,
}

#[cfg(any(test, feature = "eureka"))]
impl Rebalance {
    /// Half of the time to one and a half, drawn anew each time, so that clients that began together part.
    fn pause(every: Duration, rng: &mut fastrand::Rng) -> Duration {
        every.mul_f64(0.5 + rng.f64())
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    failures: u32,
    quarantined_until: Option<Instant>,
}

impl Pool {
    pub(crate) fn new(servers: usize, mut rng: fastrand::Rng) -> Self {
        let mut order: Vec<usize> = (0..servers).collect();
        rng.shuffle(&mut order);
        Self::in_order(order)
    }

    /// Servers with an order of preference of their own: a permutation.
    pub(crate) fn in_order(order: Vec<usize>) -> Self {
        let health = vec![Health::default(); order.len()];
        Self {
            order,
            health,
            #[cfg(any(test, feature = "eureka"))]
            rebalance: None,
        }
    }

    /// Draws a new order about as often, from half to one and a half of that time after the last.
    #[cfg(any(test, feature = "eureka"))]
    pub(crate) fn rebalance(&mut self, every: Duration, mut rng: fastrand::Rng, now: Instant) {
        let due = now + Rebalance::pause(every, &mut rng);
        self.rebalance = Some(Rebalance { every, due, rng });
    }

    /// Every server once, in the order to ask them: the healthy as preferred, then the quarantined, of which the one
    /// whose time is up first comes first, and the one to avoid last.
    pub(crate) fn candidates(&mut self, now: Instant, avoid: Option<usize>) -> Vec<usize> {
        #[cfg(any(test, feature = "eureka"))]
        if let Some(Rebalance { every, due, rng }) = &mut self.rebalance
            && now >= *due
        {
            rng.shuffle(&mut self.order);
            *due = now + Rebalance::pause(*every, rng);
        }
        let mut candidates = self.order.clone();
        let quarantine = |server: usize| self.health[server].quarantined_until.filter(|until| *until > now);
        // Stable: the order within each group stays.
        candidates.sort_by_key(|server| (avoid == Some(*server), quarantine(*server)));
        candidates
    }

    pub(crate) fn succeed(&mut self, server: usize) {
        self.health[server] = Health::default();
    }

    /// Notes that a server failed; returns whether it was healthy until now.
    pub(crate) fn fail(&mut self, server: usize, now: Instant) -> bool {
        let health = &mut self.health[server];
        // Many calls fail together when a server goes: that is one failure.
        if health.quarantined_until.is_some_and(|until| until > now) {
            return false;
        }
        let time = QUARANTINE * 2u32.pow(health.failures.min(DOUBLINGS));
        health.failures += 1;
        health.quarantined_until = Some(now + time);
        health.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failed_server_is_asked_last_and_preferred_again_after_its_time() {
        let mut pool = Pool::in_order(vec![2, 0, 1]);
        assert!(pool.fail(2, Instant::now()));
        assert!(!pool.fail(2, Instant::now()), "only the first failure is news");
        assert_eq!(pool.candidates(Instant::now(), None), [0, 1, 2]);
        advance(QUARANTINE).await;
        assert_eq!(pool.candidates(Instant::now(), None), [2, 0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_in_a_row_doubles_the_quarantine_up_to_a_limit() {
        let mut pool = Pool::in_order(vec![0, 1]);
        for seconds in [10, 20, 40, 80, 160, 160] {
            pool.fail(0, Instant::now());
            advance(Duration::from_secs(seconds - 1)).await;
            assert_eq!(pool.candidates(Instant::now(), None), [1, 0], "{seconds}");
            advance(Duration::from_secs(1)).await;
            assert_eq!(pool.candidates(Instant::now(), None), [0, 1], "{seconds}");
        }
        pool.succeed(0);
        pool.fail(0, Instant::now());
        advance(QUARANTINE).await;
        assert_eq!(pool.candidates(Instant::now(), None), [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_failed_the_one_that_is_due_first_is_asked_first() {
        let mut pool = Pool::in_order(vec![0, 1]);
        pool.fail(0, Instant::now());
        advance(Duration::from_secs(1)).await;
        pool.fail(1, Instant::now());
        assert_eq!(pool.candidates(Instant::now(), None), [0, 1]);
        assert_eq!(pool.candidates(Instant::now(), Some(0)), [1, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_favourite_changes_now_and_then_and_never_soon() {
        const EVERY: Duration = Duration::from_secs(1200);
        let start = Instant::now();
        let mut pool = Pool::in_order(vec![0, 1, 2]);
        pool.rebalance(EVERY, fastrand::Rng::with_seed(1), start);
        pool.fail(1, start + EVERY / 4);
        let (mut favourite, mut since, mut shares, mut moves) = (0, start, [0; 3], 0);
        while start.elapsed() < 300 * EVERY {
            advance(Duration::from_secs(20)).await;
            let now = pool.candidates(Instant::now(), None)[0];
            shares[now] += 1;
            if now != favourite {
                assert!(since.elapsed() >= EVERY / 2, "{:?}", since.elapsed());
                (favourite, since) = (now, Instant::now());
                moves += 1;
            }
        }
        let total: u32 = shares.iter().sum();
        assert!(shares.iter().all(|share| *share > total / 4), "{shares:?}");
        // Of 300 draws a third finds the same one again.
        assert!((150..250).contains(&moves), "{moves}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_order_prefers_nobody_who_failed_and_without_one_the_favourite_stays() {
        let mut pool = Pool::in_order(vec![0, 1]);
        let mut steady = Pool::in_order(vec![0, 1]);
        pool.rebalance(Duration::from_secs(1), fastrand::Rng::with_seed(1), Instant::now());
        for _ in 0..50 {
            advance(Duration::from_secs(2)).await;
            pool.fail(1, Instant::now());
            assert_eq!(pool.candidates(Instant::now(), None), [0, 1]);
            assert_eq!(steady.candidates(Instant::now(), None), [0, 1]);
        }
    }

    #[test]
    fn clients_spread_over_the_servers() {
        let mut seen = [0; 3];
        for seed in 0..300 {
            seen[Pool::new(3, fastrand::Rng::with_seed(seed)).order[0]] += 1;
        }
        assert!(seen.iter().all(|n| *n > 60), "{seen:?}");
    }
}
