//! The one that answers faster of two random ones.

use std::{hint, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Balancer, Dice, Members, Outcome, Picker, Rule, Slot, Ticket,
    candidates::{Candidate, Candidates, fetch},
    cost::{Costs, Tick},
    in_flight::InFlight,
    weighted::WeightedRandom,
};

/// How [`Balance::peak_ewma`](super::Balance::peak_ewma) judges instances.
///
/// ```
/// use std::time::Duration;
///
/// use registry_core::balance::{Balance, PeakEwma};
///
/// let batch = Balance::from(PeakEwma::new().seed(Duration::from_secs(2)).penalty(Duration::from_secs(60)));
/// assert_eq!(batch.name(), "peak_ewma");
/// assert_eq!(Balance::from(PeakEwma::new()), Balance::peak_ewma());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct PeakEwma {
    decay: Duration,
    seed: Duration,
    penalty: Duration,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self::new()
    }
}

impl PeakEwma {
    /// The defaults, which are those of Finagle and linkerd.
    pub const fn new() -> Self {
        Self {
            decay: Duration::from_secs(10),
            seed: Duration::from_millis(30),
            penalty: Duration::from_secs(5),
        }
    }

    /// How long a latency is remembered: it counts for 37 % after this time. 10 s; at least 1 ms.
    pub const fn decay(mut self, decay: Duration) -> Self {
        self.decay = decay;
        self
    }

    /// What a request to an instance that nothing is known of is taken to cost. 30 ms: above what most take, so
    /// that a new instance gets little at first.
    pub const fn seed(mut self, seed: Duration) -> Self {
        self.seed = seed;
        self
    }

    /// What a failed or throttled request costs at least, so that an instance that fails fast doesn't look like a
    /// fast one. 5 s.
    pub const fn penalty(mut self, penalty: Duration) -> Self {
        self.penalty = penalty;
        self
    }

    pub(super) fn balancer(self) -> PeakEwmaBalancer {
        PeakEwmaBalancer {
            penalty: self.penalty,
            learnt: Arc::new(Learnt {
                start: Instant::now(),
                costs: Costs::new(self.decay, self.seed),
                in_flight: InFlight::default(),
            }),
            weights: WeightedRandom::default(),
        }
    }
}

/// Learns what instances cost.
#[derive(Debug)]
pub(crate) struct PeakEwmaBalancer {
    penalty: Duration,
    learnt: Arc<Learnt>,
    weights: WeightedRandom,
}

#[derive(Debug)]
struct Learnt {
    start: Instant,
    costs: Costs,
    in_flight: InFlight,
}

/// The rule for one version.
#[derive(Clone, Debug)]
pub(crate) struct PeakEwmaRule {
    learnt: Arc<Learnt>,
    candidates: Candidates,
}

/// Bits of a ticket that say where the request was counted; above them are the nanoseconds since the start, for nine
/// years.
const LANE_BITS: u32 = 6;

impl PeakEwmaBalancer {
    /// For a second list of the same view.
    pub(super) fn beside(&self) -> Self {
        Self { learnt: Arc::clone(&self.learnt), penalty: self.penalty, weights: WeightedRandom::default() }
    }

    pub(super) fn rule(&self, members: &Members) -> PeakEwmaRule {
        self.learnt.costs.reserve(members.slots());
        self.learnt.in_flight.reserve(members.slots());
        PeakEwmaRule { learnt: Arc::clone(&self.learnt), candidates: Candidates::new(members, &self.weights) }
    }
}

impl Learnt {
    /// Since the start; nothing before it, as tests may set another clock.
    fn elapsed(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }
}

impl Balancer for PeakEwmaBalancer {
    fn picker(&self, members: &Members) -> Arc<dyn Picker> {
        Arc::new(Rule::PeakEwma(self.rule(members)))
    }

    fn observes(&self) -> bool {
        true
    }

    fn begin(&self, slot: Slot) -> Ticket {
        let (lane, elapsed) = (self.learnt.in_flight.begin(slot) as u64, self.learnt.elapsed());
        // One that was chosen without being compared must be known too when it ends.
        self.learnt.costs.of(slot, || Tick::after(elapsed));
        Ticket((elapsed.as_nanos() as u64) << LANE_BITS | lane)
    }

    fn end(&self, slot: Slot, Ticket(ticket): Ticket, outcome: Option<&Outcome>) {
        self.learnt.in_flight.end(slot, (ticket & ((1 << LANE_BITS) - 1)) as usize);
        // Without a verdict the time says nothing either: the caller may have stopped waiting.
        let Some(outcome) = outcome else { return };
        let is_failure = outcome.get_failure().is_some();
        if outcome.is_untimed() && !is_failure {
            return;
        }
        let now = self.learnt.elapsed();
        let took = || now.saturating_sub(Duration::from_nanos(ticket >> LANE_BITS));
        let latency =
            if outcome.is_untimed() { Duration::ZERO } else { outcome.latency().unwrap_or_else(took) };
        let cost = if is_failure { latency.max(self.penalty) } else { latency };
        self.learnt.costs.note(slot, cost, Tick::after(now));
    }
}

impl PeakEwmaRule {
    // See `LeastRule::pick`.
    #[inline(never)]
    pub(super) fn pick<'a>(&'a self, members: &'a Members, dice: &Dice) -> Candidate<'a> {
        let (first, second) = self.candidates.draw(members, dice);
        let (Some(one), Some(other)) = (first.1, second.1) else { return first };
        fetch(one, other);
        let Learnt { costs, in_flight, .. } = &*self.learnt;
        let counts = in_flight.mine();
        let now = || Tick::after(self.learnt.elapsed());
        let dearer = costs.compare(costs.of(one.slot, now), costs.of(other.slot, now));
        // Load = cost × (in flight + 1), in logarithms.
        let (busy, busy_other) = (counts.of(one.slot), counts.of(other.slot));
        let dearer = dearer + (costs.crowd(busy) - costs.crowd(busy_other));
        // See `LeastRule::pick`.
        hint::select_unpredictable(dearer > 0.0, second, first)
    }
}
