//! The one with fewer requests in flight of two random ones.

use std::sync::Arc;

use super::{
    Balancer, Draw, Members, Outcome, Picker, Slot, Ticket, candidates::Candidates, in_flight::InFlight,
    weighted::WeightedRandom,
};

/// Counts what is in flight.
#[derive(Debug, Default)]
pub(crate) struct LeastRequest {
    pub(super) in_flight: Arc<InFlight>,
    weights: WeightedRandom,
}

/// The rule for one version.
#[derive(Clone, Debug)]
pub(crate) struct LeastRule {
    in_flight: Arc<InFlight>,
    candidates: Candidates,
}

impl LeastRequest {
    /// For a second list of the same view.
    pub(super) fn beside(&self) -> Self {
        Self { in_flight: Arc::clone(&self.in_flight), weights: WeightedRandom::default() }
    }

    pub(super) fn rule(&self, members: &Members) -> LeastRule {
        self.in_flight.reserve(members.slots());
        let candidates = Candidates::new(members, &self.weights);
        LeastRule { in_flight: Arc::clone(&self.in_flight), candidates }
    }
}

impl Balancer for LeastRequest {
    fn picker(&self, members: &Members) -> Arc<dyn Picker> {
        Arc::new(self.rule(members))
    }

    fn observes(&self) -> bool {
        true
    }

    fn begin(&self, slot: Slot) -> Ticket {
        Ticket(self.in_flight.begin(slot) as u64)
    }

    fn end(&self, slot: Slot, ticket: Ticket, _: Option<&Outcome>) {
        self.in_flight.end(slot, ticket.0 as usize);
    }
}

impl Picker for LeastRule {
    #[inline]
    fn pick(&self, draw: &Draw<'_>) -> usize {
        let members = draw.members;
        let (first, second) = self.candidates.draw(members.len(), draw.dice);
        let Some(slot) = members.slot(first) else { return first };
        let counts = self.in_flight.mine();
        // An idle one is as good as any; so while all are idle, each gets what its weight says, and not the heavier
        // of two everything.
        let mine @ 1.. = counts.of(slot) else { return first };
        let Some(other) = members.slot(second).map(|slot| counts.of(slot)) else { return first };
        let is_less = if members.has_equal_weights() {
            other < mine
        } else {
            let load =
                |count: u32, weight: usize| (u64::from(count) + 1) * u64::from(members.weight(weight).get());
            // Requests per weight, multiplied out.
            load(other, first) < load(mine, second)
        };
        if is_less { second } else { first }
    }
}
