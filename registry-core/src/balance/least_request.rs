//! The one with fewer requests in flight of two random ones.

use std::{hint, sync::Arc};

use super::{
    Balancer, Dice, Members, Outcome, Picker, Rule, Slot, Ticket,
    candidates::{Candidate, Candidates, fetch, fetch_to_read},
    in_flight::{Count, InFlight, Meter},
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

/// A candidate, and where the requests to it are counted if there is room for that.
pub(super) type Metered<'a> = (Candidate<'a>, Option<&'a Count>);

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

    #[inline(always)]
    fn end(&self, slot: Slot, ticket: Ticket, _: Option<&Outcome>) {
        self.in_flight.end(slot, ticket.0 as usize);
    }
}

impl LeastRule {
    /// How this thread counts what it picks by this rule.
    #[inline(always)]
    pub(super) fn meter<'a>(&'a self, count: &'a Count, slot: Slot) -> Meter<'a> {
        self.in_flight.meter(count, slot)
    }

    // Not compiled into its caller, where it would be in the way of the default policy.
    #[inline(never)]
    pub(super) fn pick<'a>(&'a self, members: &'a Members, dice: &Dice) -> Candidate<'a> {
        self.choose(members, dice, fetch).0
    }

    /// [`pick`](Self::pick) for whoever owns the instance, and where the requests to it are counted: to find that a
    /// second and a third time is a third of a pick.
    #[inline(always)]
    pub(super) fn pick_metered<'a>(&'a self, members: &'a Members, dice: &Dice) -> Metered<'a> {
        self.choose(members, dice, fetch)
    }

    /// [`pick_metered`](Self::pick_metered) for whoever only reads.
    #[inline(always)]
    pub(super) fn borrow_metered<'a>(&'a self, members: &'a Members, dice: &Dice) -> Metered<'a> {
        self.choose(members, dice, fetch_to_read)
    }

    #[inline(always)]
    fn choose<'a>(&'a self, members: &'a Members, dice: &Dice, fetch: fn(&Member, &Member)) -> Metered<'a> {
        let (first, second) = self.candidates.draw(members, dice);
        // Not of the dice, whose number is another thread's once this one has nearly ended.
        let counts = self.in_flight.mine();
        if let (Some(one), Some(other)) = (first.1, second.1) {
            fetch(one, other);
            if let (Some(count), Some(count_of_other)) = (counts.near(one.slot), counts.near(other.slot)) {
                return less(members, (first, one, count), (second, other, count_of_other));
            }
        }
        self.choose_far(members, first, second)
    }

    /// Of a lone instance, or of those for which the table has grown.
    #[inline(never)]
    fn choose_far<'a>(
        &'a self,
        members: &Members,
        first: Candidate<'a>,
        second: Candidate<'a>,
    ) -> Metered<'a> {
        let counts = self.in_flight.mine();
        let count = |candidate: Candidate<'a>| counts.get(candidate.1?.slot);
        match (first.1.zip(count(first)), second.1.zip(count(second))) {
            (Some((one, count)), Some((other, count_of_other))) => {
                less(members, (first, one, count), (second, other, count_of_other))
            }
            (one, _) => (first, one.map(|(_, count)| count)),
        }
    }
}

#[inline(always)]
fn less<'a>(
    members: &Members,
    (first, one, count): (Candidate<'a>, &Member, &'a Count),
    (second, other, count_of_other): (Candidate<'a>, &Member, &'a Count),
) -> Metered<'a> {
    // An idle one is as good as any; so while all are idle, each gets what its weight says, and not the heavier
    // of two everything.
    let busy @ 1.. = count.of(one.slot) else { return (first, Some(count)) };
    let busy_other = count_of_other.of(other.slot);
    let is_less = if members.has_equal_weights() {
        busy_other < busy
    } else {
        let weight = |member: &Member| u64::from(member.instance.weight().get());
        // Requests per weight, multiplied out.
        (u64::from(busy_other) + 1) * weight(one) < (u64::from(busy) + 1) * weight(other)
    };
    // As random as can be: a branch would be mispredicted half the time.
    (
        hint::select_unpredictable(is_less, second, first),
        Some(hint::select_unpredictable(is_less, count_of_other, count)),
    )
}
