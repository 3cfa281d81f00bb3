//! Which endpoint of the cluster to ask: our own view of their health, as a value.
//!
//! The list is shuffled once per client, so that clients spread. A client stays with the last endpoint that
//! answered; one that failed is quarantined and the next is asked. When at least 66 % are quarantined the view is
//! worth nothing and is cleared (after Eureka's client). Every 20 minutes ± 10 % it moves on, so that load spreads
//! again after restarts.

use std::time::Duration;

use tokio::time::Instant;

const REBALANCE: Duration = Duration::from_secs(20 * 60);
const REBALANCE_SPREAD: f64 = 0.1;
const CLEAR_PERCENT: usize = 66;

#[derive(Debug)]
pub(crate) struct Pool {
    /// A permutation of the endpoints.
    order: Vec<usize>,
    /// Position in `order` of the endpoint to ask first.
    current: usize,
    /// By endpoint.
    quarantined: Vec<bool>,
    rebalance_at: Instant,
    rng: fastrand::Rng,
}

impl Pool {
    pub(crate) fn new(endpoints: usize, now: Instant, mut rng: fastrand::Rng) -> Self {
        let mut order: Vec<usize> = (0..endpoints).collect();
        rng.shuffle(&mut order);
        let rebalance_at = now + period(&mut rng);
        Self { order, current: 0, quarantined: vec![false; endpoints], rebalance_at, rng }
    }

    /// Every endpoint once, in the order to ask them: the healthy from the current one on, then the quarantined,
    /// and the one to avoid last.
    pub(crate) fn candidates(&mut self, now: Instant, avoid: Option<usize>) -> Vec<usize> {
        if now >= self.rebalance_at {
            self.rebalance_at = now + period(&mut self.rng);
            self.quarantined.fill(false);
            self.current = (self.current + 1) % self.order.len();
        }
        let mut candidates: Vec<usize> =
            self.order[self.current..].iter().chain(&self.order[..self.current]).copied().collect();
        // Stable: the order within each group stays.
        candidates.sort_by_key(|node| (avoid == Some(*node), self.quarantined[*node]));
        candidates
    }

    /// Notes that an endpoint answered; `stay` makes it the one to ask first.
    pub(crate) fn succeed(&mut self, node: usize, stay: bool) {
        self.quarantined[node] = false;
        if stay {
            self.current = self.position(node);
        }
    }

    /// Notes that an endpoint failed; returns whether it was healthy until now.
    pub(crate) fn fail(&mut self, node: usize) -> bool {
        let news = !self.quarantined[node];
        self.quarantined[node] = true;
        if self.order[self.current] == node {
            self.current = (self.current + 1) % self.order.len();
        }
        let bad = self.quarantined.iter().filter(|q| **q).count();
        if bad * 100 >= CLEAR_PERCENT * self.order.len() {
            self.quarantined.fill(false);
        }
        news
    }

    fn position(&self, node: usize) -> usize {
        self.order.iter().position(|n| *n == node).expect("the order is a permutation of the endpoints")
    }
}

fn period(rng: &mut fastrand::Rng) -> Duration {
    REBALANCE.mul_f64(1.0 - REBALANCE_SPREAD + 2.0 * REBALANCE_SPREAD * rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(endpoints: usize) -> Pool {
        Pool::new(endpoints, Instant::now(), fastrand::Rng::with_seed(7))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_stays_with_the_endpoint_that_answered() {
        let mut pool = pool(5);
        let first = pool.candidates(Instant::now(), None)[0];
        let other = (first + 2) % 5;
        pool.succeed(other, true);
        for _ in 0..10 {
            assert_eq!(pool.candidates(Instant::now(), None)[0], other);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_endpoint_costs_one_attempt_and_then_is_asked_last() {
        let mut pool = pool(3);
        let dead = pool.candidates(Instant::now(), None)[0];
        assert!(pool.fail(dead));
        assert!(!pool.fail(dead), "only the first failure is news");
        let candidates = pool.candidates(Instant::now(), None);
        assert_eq!(candidates[2], dead);
        assert_eq!(candidates.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_view_is_cleared_when_two_thirds_are_quarantined() {
        let mut pool = pool(3);
        let order = pool.candidates(Instant::now(), None);
        pool.fail(order[0]);
        pool.fail(order[1]);
        assert_eq!(pool.candidates(Instant::now(), None), [order[2], order[0], order[1]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_endpoint_is_always_asked() {
        let mut pool = pool(1);
        for _ in 0..3 {
            pool.fail(0);
            assert_eq!(pool.candidates(Instant::now(), Some(0)), [0]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_opinion_comes_from_another_endpoint_and_moves_nobody() {
        let mut pool = pool(3);
        let current = pool.candidates(Instant::now(), None)[0];
        let asked = pool.candidates(Instant::now(), Some(current))[0];
        assert_ne!(asked, current);
        pool.succeed(asked, false);
        assert_eq!(pool.candidates(Instant::now(), None)[0], current);
    }

    #[tokio::test(start_paused = true)]
    async fn after_twenty_minutes_the_client_moves_on() {
        let mut pool = pool(3);
        let first = pool.candidates(Instant::now(), None)[0];
        tokio::time::advance(REBALANCE.mul_f64(0.89)).await;
        assert_eq!(pool.candidates(Instant::now(), None)[0], first);
        tokio::time::advance(REBALANCE.mul_f64(0.22)).await;
        assert_ne!(pool.candidates(Instant::now(), None)[0], first);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_spread_over_the_endpoints() {
        let mut seen = [0; 3];
        for seed in 0..300 {
            let mut pool = Pool::new(3, Instant::now(), fastrand::Rng::with_seed(seed));
            seen[pool.candidates(Instant::now(), None)[0]] += 1;
        }
        assert!(seen.iter().all(|n| *n > 60), "{seen:?}");
    }
}
