//! What many instances have in common, held once.

use std::{
    cell::RefCell,
    hash::{BuildHasher, Hash, Hasher},
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// The same of an instance that is only being read: sorted and without duplicates too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outline<'a> {
    pub(super) service: &'a ServiceName,
    /// Version, zone and group.
    pub(super) texts: [Option<&'a str>; 3],
    pub(super) tags: &'a [&'a str],
    /// Whose keys are those of the shape.
    pub(super) metadata: &'a [(&'a str, &'a str)],
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

    fn marked(&self, state: &mut impl Hasher) {
        let texts = [&self.version, &self.zone, &self.group].map(Option::as_deref);
        mark(state, self.service.as_ref(), texts, plain(&self.tags), plain(&self.keys), self.high);
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

impl Outline<'_> {
    /// The shape, made only if no instance that this thread built lately has it: most have a sibling's.
    pub(super) fn share(self) -> Arc<Shape> {
        // A thread that is ending has no table any more.
        RECENT
            .try_with(|recent| recent.borrow_mut().share_outline(self))
            .unwrap_or_else(|_| Arc::new(self.shape()))
    }

    fn shape(self) -> Shape {
        let [version, zone, group] = self.texts.map(|text| text.map(Box::from));
        Shape {
            service: Some(self.service.clone()),
            version,
            zone,
            group,
            tags: self.tags.iter().map(|tag| Box::from(*tag)).collect(),
            keys: self.keys().map(Box::from).collect(),
            high: self.high,
        }
    }

    fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.metadata.iter().map(|(key, _)| *key)
    }

    fn is(&self, shape: &Shape) -> bool {
        shape.service.as_ref() == Some(self.service)
            && [&shape.version, &shape.zone, &shape.group].map(Option::as_deref) == self.texts
            && plain(&shape.tags).eq(self.tags.iter().copied())
            && plain(&shape.keys).eq(self.keys())
            && shape.high == self.high
    }
}

fn plain(texts: &[Box<str>]) -> impl ExactSizeIterator<Item = &str> {
    texts.iter().map(|text| &**text)
}

/// What the place of a shape depends on, in either form.
fn mark<'a>(
    state: &mut impl Hasher,
    service: Option<&ServiceName>,
    texts: [Option<&str>; 3],
    tags: impl ExactSizeIterator<Item = &'a str>,
    keys: impl ExactSizeIterator<Item = &'a str>,
    high: [u32; 2],
) {
    (service, texts, high, tags.len(), keys.len()).hash(state);
    tags.chain(keys).for_each(|text| text.hash(state));
}

/// In the order of use, the latest first.
type Set = [Weak<Shape>; WAYS];

/// A set-associative table of the shapes used last. Fixed hash keys, so that what is shared doesn't change from run to
/// run: whoever crafts collisions only makes his own records heavier.
struct Recent {
    hasher: FixedState,
    sets: Box<[Set]>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { hasher: FixedState::default(), sets: vec![Default::default(); SETS].into() }
    }
}

impl Recent {
    fn share(&mut self, shape: Shape) -> Arc<Shape> {
        let mut state = self.hasher.build_hasher();
        shape.marked(&mut state);
        let set = self.set(state.finish());
        known(set, |known| *known == shape).unwrap_or_else(|| remember(set, shape))
    }

    fn share_outline(&mut self, outline: Outline<'_>) -> Arc<Shape> {
        let mut state = self.hasher.build_hasher();
        let (tags, keys) = (outline.tags.iter().copied(), outline.keys());
        mark(&mut state, Some(outline.service), outline.texts, tags, keys, outline.high);
        let set = self.set(state.finish());
        known(set, |known| outline.is(known)).unwrap_or_else(|| remember(set, outline.shape()))
    }

    fn set(&mut self, hash: u64) -> &mut Set {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        &mut self.sets[hash as usize % SETS]
    }
}

fn known(set: &mut Set, is_it: impl Fn(&Shape) -> bool) -> Option<Arc<Shape>> {
    for at in 0..WAYS {
        if let Some(known) = set[at].upgrade()
            && is_it(&known)
        {
            set[..=at].rotate_right(1);
            return Some(known);
        }
    }
    None
}

fn remember(set: &mut Set, shape: Shape) -> Arc<Shape> {
    let new = Arc::new(shape);
    set.rotate_right(1);
    set[0] = Arc::downgrade(&new);
    new
}
