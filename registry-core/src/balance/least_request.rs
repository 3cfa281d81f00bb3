//! The one with fewer requests in flight of two random ones.

use std::{hint, sync::Arc};

use super::{
    Balancer, Dice, Members, Outcome, Picker, Rule, Slot, Ticket,
    candidates::{Candidate, Candidates, fetch, fetch_to_read},
    in_flight::{InFlight, Meter},
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

    #[inline(always)]
    fn end(&self, slot: Slot, ticket: Ticket, _: Option<&Outcome>) {
        self.in_flight.end(slot, ticket.0 as usize);
    }
}

impl LeastRule {
    // Not compiled into its caller, where it would be in the way of the default policy.
    #[inline(never)]
    pub(super) fn pick<'a>(&'a self, members: &'a Members, dice: &Dice) -> Candidate<'a> {
        let (first, second) = self.candidates.draw(members, dice);
        if self.is_less(members, first, second) { second } else { first }
    }

    /// Chooses as [`pick`](Self::pick), and tells where the requests to the chosen one are counted: to find that a second
    /// and a third time is a third of a pick. `OWNS` says whether the caller will keep the instance. If this thread doesn't
    /// own its lane, or if there is something to be said against a candidate, the position only.
    #[inline(always)]
    pub(crate) fn pick_metered<'a, const OWNS: bool>(
        &'a self,
        members: &'a Members,
        dice: &Dice,
    ) -> Result<(&'a Member, Meter<'a>), usize> {
        let Some((at, other_at)) = self.candidates.draw_equal(members, dice) else {
            return self.metered(members, self.pick(members, dice));
        };
        // Each question is a way out of its own: what is carried to a common one has to be kept until then.
        let Some(one) = members.trusted(at) else { return Err(self.choose(members, at, other_at)) };
        let Some(other) = members.trusted(other_at) else { return Err(self.choose(members, at, other_at)) };
        let Some(counts) = self.in_flight.owned() else { return Err(self.choose(members, at, other_at)) };
        let Some(counts) = counts.base() else { return Err(self.choose(members, at, other_at)) };
        if OWNS {
            fetch(one, other);
        } else {
            fetch_to_read(one, other);
        }
        let Some(count) = counts.get(one.slot.index) else { return self.pick_far(members, at, other_at) };
        let Some(count_of_other) = counts.get(other.slot.index) else {
            return self.pick_far(members, at, other_at);
        };
        // As random as can be: a branch would be mispredicted half the time.
        let is_other = count_of_other.of(other.slot) < count.of(one.slot);
        let member = hint::select_unpredictable(is_other, other, one);
        let count = hint::select_unpredictable(is_other, count_of_other, count);
        Ok((member, count.meter(member.slot)))
    }

    /// Where the table of counts has grown since its beginning.
    #[inline(never)]
    fn pick_far<'a>(
        &'a self,
        members: &'a Members,
        at: usize,
        other_at: usize,
    ) -> Result<(&'a Member, Meter<'a>), usize> {
        let at = self.choose(members, at, other_at);
        self.metered(members, (at, members.member(at)))
    }

    /// Where the requests to one that was chosen are counted, unless something is unusual.
    #[inline(never)]
    fn metered<'a>(
        &'a self,
        members: &Members,
        (at, member): Candidate<'a>,
    ) -> Result<(&'a Member, Meter<'a>), usize> {
        let counts = self.in_flight.owned().filter(|_| members.is_trusted(at));
        let (Some(member), Some(counts)) = (member, counts) else { return Err(at) };
        let count = counts.get(member.slot).ok_or(at)?;
        Ok((member, count.meter(member.slot)))
    }

    /// The position of the better one of the candidates at two.
    #[inline(never)]
    fn choose(&self, members: &Members, at: usize, other_at: usize) -> usize {
        let [one, other] = [at, other_at].map(|at| (at, members.member(at)));
        if self.is_less(members, one, other) { other_at } else { at }
    }

    /// Whether the second one has less to do.
    #[inline(always)]
    fn is_less(&self, members: &Members, first: Candidate<'_>, second: Candidate<'_>) -> bool {
        let (Some(one), Some(other)) = (first.1, second.1) else { return false };
        // Not of the dice, whose number is another thread's once this one has nearly ended.
        let counts = self.in_flight.mine();
        fetch_to_read(one, other);
        let (busy, busy_other) = (counts.of(one.slot), counts.of(other.slot));
        // An idle one is as good as any; so while all are idle, each gets what its weight says, and not the heavier
        // of two everything.
        if busy == 0 || members.has_equal_weights() {
            return busy_other < busy;
        }
        let weight = |member: &Member| u64::from(member.instance.weight().get());
        // Requests per weight, multiplied out.
        (u64::from(busy_other) + 1) * weight(one) < (u64::from(busy) + 1) * weight(other)
    }
}
