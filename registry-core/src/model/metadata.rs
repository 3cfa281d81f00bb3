//! Free text that travels with an instance.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{
    name::{deceptive, invalid},
    shape::Shape,
};
use crate::{Error, ErrorKind};

/// Most entries of one instance.
const MAX_ENTRIES: usize = 64;
/// Longest key, in bytes.
const MAX_KEY: usize = 256;
/// Longest value, in bytes.
const MAX_VALUE: usize = 4096;

/// String-to-string metadata, sorted by key: at most 64 entries, keys of 1 to 256 bytes, values of at most 4 KiB.
///
/// Don't put secrets here: every reader of the registry sees metadata, and so does the disk view.
#[derive(Clone, Default)]
pub struct Metadata {
    /// Whose keys these are. An instance keeps the rest of its shape here too, which is no part of the metadata.
    shape: Arc<Shape>,
    /// In the order of the keys: the value's length in bytes as one character, then the value.
    values: Box<str>,
}

impl Metadata {
    /// Builds metadata from pairs; a later duplicate of a key wins.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] past the limits above, or for a key with control characters.
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let sorted = sort(pairs)?;
        let values = pack(&sorted);
        let keys = sorted.iter().map(|(key, _)| Box::from(key.as_ref())).collect();
        let shape = Shape { keys, ..Shape::default() };
        Ok(Self { shape: Arc::new(shape), values })
    }

    /// Metadata whose keys are those of `shape`, from the values of [`into_parts`](Self::into_parts).
    pub(super) fn in_shape(shape: Arc<Shape>, values: Box<str>) -> Self {
        Self { shape, values }
    }

    /// The keys and the packed values.
    pub(super) fn into_parts(self) -> (Box<[Box<str>]>, Box<str>) {
        let keys = match Arc::try_unwrap(self.shape) {
            Ok(shape) => shape.keys,
            Err(shared) => shared.keys.clone(),
        };
        (keys, self.values)
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn shape_mut(&mut self) -> &mut Arc<Shape> {
        &mut self.shape
    }

    /// The packed values alone, which say nothing without the keys.
    pub(super) fn values(&self) -> &str {
        &self.values
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.shape.keys.binary_search_by(|k| (**k).cmp(key)).ok()?;
        self.iter().nth(at).map(|(_, value)| value)
    }

    /// The entries in key order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let mut rest = &*self.values;
        self.shape.keys.iter().map(move |key| {
            let value;
            (value, rest) = split_value(rest);
            (&**key, value)
        })
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shape.keys.is_empty()
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values && self.shape.keys == other.shape.keys
    }
}

impl Eq for Metadata {}

impl Hash for Metadata {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shape.keys.hash(state);
        self.values.hash(state);
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Whether pairs are what [`sort`] makes of them, so that they need no other place.
pub(super) fn is_sorted<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> bool {
    pairs.len() <= MAX_ENTRIES
        && pairs.is_sorted_by(|(a, _), (b, _)| a.as_ref() < b.as_ref())
        && pairs.iter().all(|(key, value)| check(key.as_ref(), value.as_ref()).is_ok())
}

/// The pairs in the order of their keys, each once and checked; a later duplicate wins.
pub(super) fn sort<K: AsRef<str>, V: AsRef<str>>(
    pairs: impl IntoIterator<Item = (K, V)>,
) -> Result<Vec<(K, V)>, Error> {
    let pairs = pairs.into_iter();
    let mut sorted: Vec<(K, V)> = Vec::with_capacity(pairs.size_hint().0.min(MAX_ENTRIES));
    for (key, value) in pairs {
        check(key.as_ref(), value.as_ref())?;
        // Most come in order: those of a map, and those that servers write.
        let at = match sorted.last() {
            Some((last, _)) if last.as_ref() >= key.as_ref() => {
                sorted.binary_search_by(|(known, _)| known.as_ref().cmp(key.as_ref()))
            }
            _ => Err(sorted.len()),
        };
        match at {
            Ok(at) => sorted[at] = (key, value),
            Err(at) => sorted.insert(at, (key, value)),
        }
        if sorted.len() > MAX_ENTRIES {
            return Err(Error::new(ErrorKind::InvalidArgument, "metadata has more than 64 entries"));
        }
    }
    Ok(sorted)
}

/// Their values as [`Metadata`] keeps them.
pub(super) fn pack<K, V: AsRef<str>>(sorted: &[(K, V)]) -> Box<str> {
    let length = |value: &str| value.len() + length_mark(value).len_utf8();
    let mut values = String::with_capacity(sorted.iter().map(|(_, value)| length(value.as_ref())).sum());
    for (_, value) in sorted {
        values.push(length_mark(value.as_ref()));
        values.push_str(value.as_ref());
    }
    values.into()
}

/// A length as a character: up to 4096 every number is one.
fn length_mark(value: &str) -> char {
    u32::try_from(value.len()).ok().and_then(char::from_u32).expect("a checked value is short")
}

/// The first value and what follows it.
fn split_value(packed: &str) -> (&str, &str) {
    let mut chars = packed.chars();
    let length = chars.next().map_or(0, |mark| mark as usize);
    chars.as_str().split_at(length)
}

fn check(key: &str, value: &str) -> Result<(), Error> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(invalid("metadata key", key, "must have 1 to 256 bytes"));
    }
    if deceptive(key).is_some() {
        return Err(invalid("metadata key", key, "holds a control character"));
    }
    if value.len() > MAX_VALUE {
        return Err(invalid("metadata value of", key, "is longer than 4096 bytes"));
    }
    Ok(())
}
