//! The one with fewer requests in flight of two random ones.

use std::{hint, sync::Arc};

use super::{
    Balancer, Dice, Members, Outcome, Picker, Rule, Slot, Ticket,
    candidates::{Candidate, Candidates, fetch},
    in_flight::InFlight,
    weighted::WeightedRandom,
};
use crate::snapshot::Member;

/// Counts what is in flight.
#[derive(Debug, Default)]
pub(crate) struct LeastRequest {
    pub(super) in_flight: InFlight,
    weights: WeightedRandom,
}

/// The rule for one version.
#[derive(Clone, Debug)]
pub(crate) struct LeastRule {
    in_flight: InFlight,
    candidates: Candidates,
}

impl LeastRequest {
    /// For a second list of the same view.
    pub(super) fn beside(&self) -> Self {
        Self { in_flight: self.in_flight.clone(), weights: WeightedRandom::default() }
    }

    pub(super) fn rule(&self, members: &Members) -> LeastRule {
        self.in_flight.reserve(members.slots());
        let candidates = Candidates::new(members, &self.weights);
        LeastRule { in_flight: self.in_flight.clone(), candidates }
    }
}

impl Balancer for LeastRequest {
    fn picker(&self, members: &Members) -> Arc<dyn Picker> {
        Arc::new(Rule::LeastRequest(self.rule(members)))
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

impl LeastRule {
    // Not compiled into its caller, where it would be in the way of the default policy.
    #[inline(never)]
    pub(super) fn pick<'a>(&'a self, members: &'a Members, dice: &Dice) -> Candidate<'a> {
        let (first, second) = self.candidates.draw(members, dice);
        let (Some(one), Some(other)) = (first.1, second.1) else { return first };
        let counts = self.in_flight.mine();
        fetch(one, other);
        // An idle one is as good as any; so while all are idle, each gets what its weight says, and not the heavier
        // of two everything.
        let busy @ 1.. = counts.of(one.slot) else { return first };
        let busy_other = counts.of(other.slot);
        let is_less = if members.has_equal_weights() {
            busy_other < busy
        } else {
            let weight = |member: &Member| u64::from(member.instance.weight().get());
            // Requests per weight, multiplied out.
            (u64::from(busy_other) + 1) * weight(one) < (u64::from(busy) + 1) * weight(other)
        };
        // As random as can be: a branch would be mispredicted half the time.
        hint::select_unpredictable(is_less, second, first)
    }
}
