//! What a pick chooses from.

use std::{fmt, sync::Arc};

use super::chunks::{Chunks, Leaf};
use crate::model::{Instance, Weight};

/// One choice: the instance, and where a balancer keeps what it knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) instance: Arc<Instance>,
    pub(crate) slot: Slot,
}

/// The stable place of one instance within one view, for what a balancer knows about it (requests in flight,
/// latency).
///
/// An instance keeps its slot as long as its id, its endpoints and its publication (incarnation and epoch)
/// stay the same, whatever else of it changes. The `index` of one that left is given to a later one under a
/// higher `generation`; a balancer that finds another generation in its table starts anew for that instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Slot {
    /// Dense: below [`Members::slots`].
    pub index: u32,
    /// Raised each time the index passes to another instance.
    pub generation: u32,
}

impl Slot {
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

/// The instances a pick chooses from, at positions `0..len`: those that serve; if there are none, the best of
/// the rest.
///
/// Instances that the shrink guard holds (suspects) come last. Cheap to clone; the clone doesn't change.
#[derive(Clone, Default)]
pub struct Members {
    pub(super) trusted: Chunks<Member>,
    pub(super) suspects: Chunks<Member>,
    /// Whether all weights are the same.
    pub(super) equal: bool,
    pub(super) slots: u32,
}

impl Members {
    /// How many there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.trusted.len() + self.suspects.len()
    }

    /// Whether there are none; a [`Picker`](crate::balance::Picker) is not asked then.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The instance at a position.
    #[must_use]
    #[inline]
    pub fn get(&self, at: usize) -> Option<&Arc<Instance>> {
        self.member(at).map(|member| &member.instance)
    }

    /// Where a balancer keeps what it knows of the instance at a position.
    #[must_use]
    #[inline]
    pub fn slot(&self, at: usize) -> Option<Slot> {
        self.member(at).map(|member| member.slot)
    }

    /// How many slots a table needs to have room for every index; never shrinks.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots as usize
    }

    /// The weight of the instance at a position; 0 past the end.
    #[must_use]
    pub fn weight(&self, at: usize) -> Weight {
        self.get(at).map_or(Weight::ZERO, |instance| instance.weight())
    }

    /// Whether all weights are the same, in constant time.
    #[must_use]
    pub fn has_equal_weights(&self) -> bool {
        self.equal
    }

    /// Whether the shrink guard holds the instance at a position. A pick that hits a suspect is drawn once
    /// more.
    #[must_use]
    #[inline]
    pub fn is_suspect(&self, at: usize) -> bool {
        at >= self.trusted.len()
    }

    /// All instances, by position.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.members().map(|member| &member.instance)
    }

    pub(crate) fn suspects(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.suspects.iter().map(|member| &member.instance)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.trusted.iter().chain(self.suspects.iter())
    }

    #[inline]
    pub(crate) fn member(&self, at: usize) -> Option<&Member> {
        match at.checked_sub(self.trusted.len()) {
            None => self.trusted.get(at),
            Some(at) => self.suspects.get(at),
        }
    }

    /// The runs of neighbours, each with the position of its first; unchanged runs are the same allocation in
    /// the next version, so that a balancer recomputes only what changed.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, &Leaf<Member>)> {
        let starts = |base: usize| (base..).step_by(32);
        starts(0).zip(self.trusted.leaves()).chain(starts(self.trusted.len()).zip(self.suspects.leaves()))
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("trusted", &self.trusted.len())
            .field("suspects", &self.suspects.len())
            .field("equal", &self.equal)
            .finish_non_exhaustive()
    }
}
