//! The policies of this crate and those of others, behind one choice.

use std::sync::Arc;

use super::{
    Balancer, Draw, Members, Picker,
    least_request::{LeastRequest, LeastRule},
    maglev::{Maglev, MaglevRule},
    peak_ewma::{PeakEwmaBalancer, PeakEwmaRule},
    random::random,
    ring::{RingBalancer, RingRule},
    round_robin::RoundRobin,
    weighted::{Tables, WeightedRandom},
};

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
    Custom { balancer: Arc<dyn Balancer>, observes: bool },
}

impl Balancing {
    /// The rule for one version of the view.
    pub(crate) fn rule(&self, members: &Members) -> Rule {
        match self {
            Self::RoundRobin(turns) => Rule::RoundRobin(turns.clone()),
            Self::Random => Rule::Random,
            Self::WeightedRandom(weighted) => {
                weighted.tables(members).map_or(Rule::Random, |tables| Rule::Weighted(Arc::new(tables)))
            }
            Self::LeastRequest(least) => Rule::LeastRequest(least.rule(members)),
            Self::PeakEwma(peak) => Rule::PeakEwma(peak.rule(members)),
            Self::Maglev(maglev) => Rule::Maglev(Arc::new(maglev.rule(members))),
            Self::RingHash(ring) => Rule::RingHash(Arc::new(ring.rule(members))),
            Self::Custom { balancer, .. } => Rule::Custom(balancer.picker(members)),
        }
    }

    /// The balancer, if it wants to hear of picks.
    pub(crate) fn observer(&self) -> Option<&dyn Balancer> {
        match self {
            Self::Custom { balancer, observes: true } => Some(&**balancer),
            Self::LeastRequest(least) => Some(least),
            Self::PeakEwma(peak) => Some(peak),
            Self::RingHash(ring) if ring.observes() => Some(ring),
            Self::RoundRobin(_)
            | Self::Random
            | Self::WeightedRandom(_)
            | Self::Maglev(_)
            | Self::RingHash(_)
            | Self::Custom { .. } => None,
        }
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
    /// See [`Picker::pick`].
    #[inline(always)]
    pub(crate) fn pick(&self, draw: &Draw<'_>) -> usize {
        match self {
            Self::RoundRobin(turns) => turns.next(draw.members.len()),
            Self::Random => random(draw.members.len()),
            Self::Weighted(tables) => tables.draw(),
            Self::LeastRequest(least) => least.pick(draw),
            Self::PeakEwma(peak) => peak.pick(draw),
            Self::Maglev(maglev) => maglev.pick(draw),
            Self::RingHash(ring) => ring.pick(draw),
            Self::Custom(picker) => picker.pick(draw),
        }
    }
}
