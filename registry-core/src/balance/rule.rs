//! The policies of this crate and those of others, behind one choice.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    Balancer, Dice, Draw, Members, Outcome, PickContext, Picker, Slot, Ticket,
    least_request::{LeastRequest, LeastRule},
    maglev::{Maglev, MaglevRule},
    peak_ewma::{PeakEwmaBalancer, PeakEwmaRule},
    ring::{RingBalancer, RingRule},
    round_robin::RoundRobin,
    weighted::{Tables, WeightedRandom},
};
use crate::snapshot::Member;

/// What a view balances by. Our own policies aren't behind a trait object: that call is a tenth of a pick.
#[derive(Debug)]
pub(crate) enum Balancing {
    RoundRobin(RoundRobin),
    Random,
    WeightedRandom(WeightedRandom),
    LeastRequest(LeastRequest),
    PeakEwma(PeakEwmaBalancer),
    Maglev(Maglev),
    RingHash(RingBalancer),
    Custom { balancer: Arc<dyn Balancer>, observes: bool, stand_in: StandIn },
}

/// What balances while another's policy panics: whoever publishes a version mustn't end by it, as that is the task that
/// follows the registry, or a pick.
#[derive(Debug, Default)]
pub(crate) struct StandIn {
    turns: RoundRobin,
    is_on: AtomicBool,
}

impl StandIn {
    /// The rule of `balancer`, or round robin if there is none for this version.
    fn rule(&self, balancer: &dyn Balancer, members: &Members) -> Rule {
        match catch_unwind(AssertUnwindSafe(|| balancer.picker(members))) {
            Ok(picker) => {
                if self.is_on.swap(false, Ordering::Relaxed) {
                    tracing::info!("the balancer is back");
                }
                Rule::Custom(picker)
            }
            Err(_) => {
                // Once, not at each version.
                if !self.is_on.swap(true, Ordering::Relaxed) {
                    tracing::error!("the balancer panicked; until it doesn't, instances take turns");
                }
                Rule::RoundRobin(self.turns.clone())
            }
        }
    }
}

impl Balancing {
    /// The rule for one version of a list; `passed_over` would be on it if they weren't ejected.
    pub(crate) fn rule(&self, members: &Members, passed_over: Option<&Members>) -> Rule {
        match self {
            Self::RoundRobin(turns) => Rule::RoundRobin(turns.clone()),
            Self::Random => Rule::Random,
            Self::WeightedRandom(weighted) => weighted.tables(members).map_or(Rule::Random, Rule::Weighted),
            Self::LeastRequest(least) => Rule::LeastRequest(least.rule(members)),
            Self::PeakEwma(peak) => Rule::PeakEwma(peak.rule(members)),
            Self::Maglev(maglev) => Rule::Maglev(Arc::new(maglev.rule(members, passed_over))),
            Self::RingHash(ring) => Rule::RingHash(Arc::new(ring.rule(members, passed_over))),
            Self::Custom { balancer, stand_in, .. } => stand_in.rule(&**balancer, members),
        }
    }

    /// The same policy for a second list of the same view: what it knows of instances it shares, what it knows of
    /// positions it doesn't.
    pub(crate) fn beside(&self) -> Self {
        match self {
            Self::RoundRobin(_) => Self::RoundRobin(RoundRobin::default()),
            Self::Random => Self::Random,
            Self::WeightedRandom(_) => Self::WeightedRandom(WeightedRandom::default()),
            Self::LeastRequest(least) => Self::LeastRequest(least.beside()),
            Self::PeakEwma(peak) => Self::PeakEwma(peak.beside()),
            Self::Maglev(_) => Self::Maglev(Maglev::default()),
            Self::RingHash(ring) => Self::RingHash(ring.beside()),
            Self::Custom { balancer, observes, .. } => Self::Custom {
                balancer: Arc::clone(balancer),
                observes: *observes,
                stand_in: StandIn::default(),
            },
        }
    }

    /// Whether it wants to hear of picks.
    pub(crate) fn observes(&self) -> bool {
        match self {
            Self::Custom { observes, .. } => *observes,
            Self::RingHash(ring) => ring.observes(),
            Self::LeastRequest(_) | Self::PeakEwma(_) => true,
            Self::RoundRobin(_) | Self::Random | Self::WeightedRandom(_) | Self::Maglev(_) => false,
        }
    }

    /// Whether it only counts requests, so that a pick can do it where it [chose](crate::view::Live::choose_metered).
    pub(crate) fn is_metered(&self) -> bool {
        matches!(self, Self::LeastRequest(_))
    }

    /// Whether others wrote it: it may do anything when it is told of a pick, and must be told of each one's end even
    /// if nobody picks from the view any more.
    pub(crate) fn is_custom(&self) -> bool {
        matches!(self, Self::Custom { .. })
    }

    /// See [`Balancer::begin`]; only called if it [`observes`](Self::observes).
    // Not compiled into every caller of a pick.
    #[inline(never)]
    pub(crate) fn begin(&self, slot: Slot) -> Ticket {
        match self {
            Self::LeastRequest(least) => least.begin(slot),
            Self::PeakEwma(peak) => peak.begin(slot),
            Self::RingHash(ring) => ring.begin(slot),
            Self::Custom { balancer, .. } => balancer.begin(slot),
            Self::RoundRobin(_) | Self::Random | Self::WeightedRandom(_) | Self::Maglev(_) => {
                Ticket::default()
            }
        }
    }

    /// See [`Balancer::end`].
    #[inline]
    pub(crate) fn end(&self, slot: Slot, ticket: Ticket, outcome: Option<&Outcome>) {
        match self {
            Self::LeastRequest(least) => least.end(slot, ticket, outcome),
            _ => self.end_other(slot, ticket, outcome),
        }
    }

    // Not compiled into every caller of a pick.
    #[inline(never)]
    fn end_other(&self, slot: Slot, ticket: Ticket, outcome: Option<&Outcome>) {
        match self {
            Self::LeastRequest(least) => least.end(slot, ticket, outcome),
            Self::PeakEwma(peak) => peak.end(slot, ticket, outcome),
            Self::RingHash(ring) => ring.end(slot, ticket, outcome),
            Self::Custom { balancer, .. } => balancer.end(slot, ticket, outcome),
            Self::RoundRobin(_) | Self::Random | Self::WeightedRandom(_) | Self::Maglev(_) => {}
        }
    }
}

#[cfg(test)]
impl Balancing {
    /// The balancer, if it wants to hear of picks.
    pub(super) fn observer(&self) -> Option<&Self> {
        self.observes().then_some(self)
    }
}

/// How picks from one version of a view are drawn.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    RoundRobin(RoundRobin),
    Random,
    Weighted(Arc<Tables>),
    LeastRequest(LeastRule),
    PeakEwma(PeakEwmaRule),
    Maglev(Arc<MaglevRule>),
    RingHash(Arc<RingRule>),
    Custom(Arc<dyn Picker>),
}

impl Rule {
    /// A position that is there, and the member at it; see [`Picker::pick`].
    #[inline(always)]
    pub(crate) fn pick<'a>(
        &'a self,
        members: &'a Members,
        context: &PickContext<'_>,
        attempt: u32,
        dice: &Dice,
    ) -> (usize, Option<&'a Member>) {
        let with_member = |at| (at, members.member(at));
        match self {
            Self::RoundRobin(turns) => with_member(turns.next(members.len(), dice)),
            Self::Random => with_member(dice.below(members.len())),
            Self::Weighted(tables) => tables.draw(dice),
            Self::LeastRequest(least) => least.pick(members, dice),
            Self::PeakEwma(peak) => peak.pick(members, dice),
            Self::Maglev(maglev) => with_member(maglev.pick(members, context, attempt, dice)),
            Self::RingHash(ring) => with_member(ring.pick(members, context, attempt, dice)),
            Self::Custom(picker) => {
                with_member(picker.pick(&Draw { members, context, attempt }).min(members.len() - 1))
            }
        }
    }
}

#[cfg(test)]
impl Rule {
    /// Whether two look keys up in the very same table.
    pub(super) fn has_table_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Maglev(one), Self::Maglev(other)) => one.has_table_of(other),
            (Self::RingHash(one), Self::RingHash(other)) => one.has_ring_of(other),
            _ => false,
        }
    }
}

/// For whoever takes a policy of this crate for one of another's.
impl Picker for Rule {
    fn pick(&self, draw: &Draw<'_>) -> usize {
        Self::pick(self, draw.members, draw.context, draw.attempt, &Dice::fresh()).0
    }
}
