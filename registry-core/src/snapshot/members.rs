//! What a pick chooses from.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use tokio::time::Instant;

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
/// Instances that are warming up ([`SlowStart`](crate::SlowStart)) come after the others, and those that the shrink
/// guard holds (suspects) last. Cheap to clone; the clone doesn't change.
#[derive(Clone, Default)]
pub struct Members {
    pub(super) trusted: Chunks<Member>,
    /// Few and seldom, so out of the way of all others.
    pub(super) warming: Option<Arc<Warming>>,
    pub(super) suspects: Chunks<Member>,
    /// Of all lists; known once they are published.
    pub(super) len: usize,
    /// Whether all weights are the same.
    pub(super) equal: bool,
    pub(super) slots: u32,
}

/// Instances that are warming up, and since when each is.
#[derive(Clone, Debug, Default)]
pub(super) struct Warming {
    pub(super) members: Chunks<Member>,
    pub(super) since: Chunks<Instant>,
}

/// One of the lists of [`Members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Trusted,
    /// With the moment that this began.
    Warming(Instant),
    Suspect,
}

/// How far the instance at a position is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Trusted,
    Warming { since: Instant },
    Suspect,
}

impl Members {
    /// How many there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
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
        at >= self.trusted.len() + self.warming().len()
    }

    /// Whether there is nothing to be said against the instance at a position.
    #[inline]
    pub(crate) fn is_trusted(&self, at: usize) -> bool {
        at < self.trusted.len()
    }

    /// The member at a position, if there is nothing to be said against it.
    #[inline(always)]
    pub(crate) fn trusted(&self, at: usize) -> Option<&Member> {
        self.trusted.get(at)
    }

    /// How far the instance at a position is trusted.
    pub(crate) fn standing(&self, at: usize) -> Standing {
        match at.checked_sub(self.trusted.len()) {
            None => Standing::Trusted,
            Some(at) => match self.warming.as_ref().and_then(|warming| warming.since.get(at)) {
                Some(since) => Standing::Warming { since: *since },
                None => Standing::Suspect,
            },
        }
    }

    /// All instances, by position.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.members().map(|member| &member.instance)
    }

    pub(crate) fn suspects(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.suspects.iter().map(|member| &member.instance)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.lists().into_iter().flat_map(Chunks::iter)
    }

    #[inline]
    pub(crate) fn member(&self, at: usize) -> Option<&Member> {
        if self.is_trusted(at) { self.trusted.get(at) } else { self.doubtful(at - self.trusted.len()) }
    }

    // Seldom, and otherwise compiled into every pick three times.
    #[cold]
    #[inline(never)]
    fn doubtful(&self, at: usize) -> Option<&Member> {
        let warming = self.warming();
        match at.checked_sub(warming.len()) {
            None => warming.get(at),
            Some(at) => self.suspects.get(at),
        }
    }

    /// The runs of neighbours, each with the position of its first; unchanged runs are the same allocation in
    /// the next version, so that a balancer recomputes only what changed.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, &Leaf<Member>)> {
        let [trusted, warming, _] = self.lists();
        let starts = [0, trusted.len(), trusted.len() + warming.len()];
        starts
            .into_iter()
            .zip(self.lists())
            .flat_map(|(start, list)| (start..).step_by(32).zip(list.leaves()))
    }

    /// The lists, by position.
    pub(super) fn lists(&self) -> [&Chunks<Member>; 3] {
        [&self.trusted, self.warming(), &self.suspects]
    }

    fn warming(&self) -> &Chunks<Member> {
        static NONE: LazyLock<Chunks<Member>> = LazyLock::new(Chunks::default);
        self.warming.as_ref().map_or_else(|| &*NONE, |warming| &warming.members)
    }
}

/// The writer's side. The length is only known once the lists are finished.
impl Members {
    /// How many there are now.
    pub(super) fn count(&self) -> usize {
        self.lists().into_iter().map(Chunks::len).sum()
    }

    /// Appends to a list; the position within it.
    pub(super) fn push(&mut self, list: List, member: Member) -> usize {
        if let List::Warming(since) = list {
            Arc::make_mut(self.warming.get_or_insert_default()).since.push(since);
        }
        let list = self.list_mut(list);
        list.push(member);
        list.len() - 1
    }

    /// Replaces an entry of a list.
    pub(super) fn set(&mut self, list: List, at: usize, member: Member) {
        self.list_mut(list).set(at, member);
    }

    /// Takes an entry out of a list; the last one moves into its place.
    pub(super) fn swap_remove(&mut self, list: List, at: usize) -> Option<Member> {
        let member = self.list_mut(list).swap_remove(at);
        if let List::Warming(_) = list
            && let Some(warming) = &mut self.warming
        {
            Arc::make_mut(warming).since.swap_remove(at);
            if warming.since.len() == 0 {
                self.warming = None;
            }
        }
        member
    }

    /// An entry of a list.
    pub(super) fn at(&self, list: List, at: usize) -> Option<&Member> {
        match list {
            List::Trusted => self.trusted.get(at),
            List::Warming(_) => self.warming().get(at),
            List::Suspect => self.suspects.get(at),
        }
    }

    /// As it is published.
    pub(super) fn finish(&mut self, equal: bool, slots: u32) {
        (self.len, self.equal, self.slots) = (self.count(), equal, slots);
    }

    fn list_mut(&mut self, list: List) -> &mut Chunks<Member> {
        match list {
            List::Trusted => &mut self.trusted,
            List::Warming(_) => &mut Arc::make_mut(self.warming.get_or_insert_default()).members,
            List::Suspect => &mut self.suspects,
        }
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members")
            .field("trusted", &self.trusted.len())
            .field("warming", &self.warming().len())
            .field("suspects", &self.suspects.len())
            .field("equal", &self.equal)
            .finish_non_exhaustive()
    }
}
