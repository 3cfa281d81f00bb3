//! What many instances have in common, held once.

use std::{
    cell::RefCell,
    hash::BuildHasher,
    sync::{Arc, Weak},
};

use foldhash::fast::FixedState;

use super::ServiceName;

/// Sets of the table of recent shapes.
const SETS: usize = 128;
/// Shapes one set remembers.
const WAYS: usize = 4;

/// The part of an instance that its siblings repeat word by word: one per service, version and zone as a rule.
///
/// The keys of the metadata are in it, the values aren't: one of them is often unique.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// `None` for metadata that belongs to no instance.
    pub(super) service: Option<ServiceName>,
    pub(super) version: Option<Box<str>>,
    pub(super) zone: Option<Box<str>>,
    pub(super) group: Option<Box<str>>,
    /// Sorted, without duplicates.
    pub(super) tags: Box<[Box<str>]>,
    /// Sorted, without duplicates.
    pub(super) keys: Box<[Box<str>]>,
    /// The upper halves of the epoch and the sequence of the record version: 0 in any fleet that counts from 1.
    pub(super) high: [u32; 2],
}

thread_local! {
    static RECENT: RefCell<Recent> = RefCell::default();
}

impl Shape {
    /// The same shape as an instance that this thread built lately, if one of them is still around.
    ///
    /// A miss costs memory and nothing else, so the table may forget: it has a fixed size, and its entries don't keep
    /// the text alive. What is unique by mistake (a version per instance, say) can't make it grow.
    pub(super) fn share(self) -> Arc<Self> {
        let mut shape = Some(self);
        // A thread that is ending has no table any more.
        let shared = RECENT.try_with(|recent| shape.take().map(|shape| recent.borrow_mut().share(shape)));
        shared.ok().flatten().unwrap_or_else(|| Arc::new(shape.unwrap_or_default()))
    }

    /// Equality of what an instance says, so without the counters.
    pub(super) fn is_same_content(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
            || self.service == other.service
                && self.version == other.version
                && self.zone == other.zone
                && self.group == other.group
                && self.tags == other.tags
                && self.keys == other.keys
    }
}

/// A set-associative table of the shapes used last. Fixed hash keys, so that what is shared doesn't change from run to
/// run: whoever crafts collisions only makes his own records heavier.
struct Recent {
    hasher: FixedState,
    /// Each set in the order of use, the latest first.
    sets: Box<[[Weak<Shape>; WAYS]]>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { hasher: FixedState::default(), sets: vec![Default::default(); SETS].into() }
    }
}

impl Recent {
    fn share(&mut self, shape: Shape) -> Arc<Shape> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let set = &mut self.sets[self.hasher.hash_one(&shape) as usize % SETS];
        for at in 0..WAYS {
            if let Some(known) = set[at].upgrade()
                && *known == shape
            {
                set[..=at].rotate_right(1);
                return known;
            }
        }
        let new = Arc::new(shape);
        set.rotate_right(1);
        set[0] = Arc::downgrade(&new);
        new
    }
}
