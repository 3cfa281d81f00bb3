//! The policies of this crate and those of others, behind one choice.

use std::sync::Arc;

use super::{
    Balancer, Dice, Draw, Members, PickContext, Picker,
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
            Self::Custom { balancer, .. } => Rule::Custom(balancer.picker(members)),
        }
    }

    /// The same policy for a second list of the same view: what it knows of instances it shares, what it knows of
    /// positions it doesn't.
    pub(crate) fn beside(&self) -> Self {
        match self {
            Self::RoundRobin(_) => Self::RoundRobin(RoundRobin::default()),
            Self::Random => Self::Random,
            Self::WeightedRandom(_) => Self::WeightedRandom(WeightedRandom::default()),
            Self::Custom { balancer, observes } => {
                Self::Custom { balancer: Arc::clone(balancer), observes: *observes }
            }
        }
    }

    /// The balancer, if it wants to hear of picks.
    pub(crate) fn observer(&self) -> Option<&dyn Balancer> {
        match self {
            Self::Custom { balancer, observes: true } => Some(&**balancer),
            Self::RoundRobin(_) | Self::Random | Self::WeightedRandom(_) | Self::Custom { .. } => None,
        }
    }
}

/// How picks from one version of a view are drawn.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    RoundRobin(RoundRobin),
    Random,
    Weighted(Arc<Tables>),
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
            Self::Custom(picker) => {
                with_member(picker.pick(&Draw { members, context, attempt }).min(members.len() - 1))
            }
        }
    }
}
