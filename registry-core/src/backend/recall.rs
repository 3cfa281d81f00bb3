//! What each entry of a list was taken for, found again by the entry's hash when the next list comes.

use std::{
    collections::{HashMap, hash_map},
    fmt,
    hash::{BuildHasher, Hash, Hasher},
};

use foldhash::fast::RandomState;

/// Remembers what the entries of the last complete list became, so that only new ones of the next are decoded.
///
/// [`Relist`](super::Relist) is this for lists whose entries are instances. A backend that makes something else of an
/// entry, or whose entries hold what changes all the time and means nothing, says by which bytes they are known.
///
/// Only hashes are kept, never bytes: 64 bits under a random key per value, so that nobody can make a changed entry look
/// like the old one.
///
/// ```
/// use registry_core::backend::Recall;
///
/// let mut recall = Recall::new();
/// let mut next = |entries: &[&'static str]| {
///     let mut decoded = 0;
///     let lost = recall.next(
///         entries,
///         |hashing, entry| hashing.of(&[entry.as_bytes()]),
///         |entry| {
///             decoded += 1;
///             entry.len()
///         },
///         |_, _| {},
///     );
///     (decoded, lost)
/// };
/// assert_eq!(next(&["a", "bb"]), (2, vec![]));
/// assert_eq!(next(&["bb", "ccc"]), (1, vec![1]));
/// ```
pub struct Recall<T> {
    hashing: Hashing,
    body: Option<(usize, u64)>,
    /// The last list, each entry once, in its order.
    entries: Vec<Entry<T>>,
}

/// How a [`Recall`] hashes.
#[derive(Debug, Default)]
pub struct Hashing(RandomState);

impl Hashing {
    /// The hash of those parts of an entry that count.
    #[must_use]
    pub fn of(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = self.0.build_hasher();
        match parts {
            [whole] => hasher.write(whole),
            // With their lengths, so that no byte can change sides.
            parts => parts.hash(&mut hasher),
        }
        hasher.finish()
    }
}

/// What an entry is, by its hash.
struct Entry<T> {
    hash: u64,
    /// `None` once the next list has been found to have it too.
    value: Option<T>,
}

/// The last list, while the next one is taken in.
///
/// Lists mostly come in the same order, so an entry is looked for first where the last match ends. To search a table of
/// 10,000 at random for each would cost more than all else, as the body itself has just pushed it out of the caches.
struct Last<T> {
    entries: Vec<Entry<T>>,
    /// Where the next match is likely.
    at: usize,
    /// Where each hash is; made at the first entry that isn't where it was. What only this list has is past the end.
    index: Option<HashMap<u64, usize, RandomState>>,
    /// How many entries the index may come to have.
    likely: usize,
}

/// An entry of the next list.
enum Met<T> {
    Known(T),
    /// This list had it before.
    Repeated,
    New,
}

impl<T> Last<T> {
    fn meet(&mut self, hash: u64) -> Met<T> {
        let at = match self.entries.get(self.at) {
            Some(entry) if entry.hash == hash => self.at,
            _ => match self.index().entry(hash) {
                hash_map::Entry::Occupied(place) => *place.get(),
                hash_map::Entry::Vacant(place) => {
                    place.insert(usize::MAX);
                    return Met::New;
                }
            },
        };
        match self.entries.get_mut(at).and_then(|entry| entry.value.take()) {
            Some(value) => {
                self.at = at + 1;
                Met::Known(value)
            }
            None => Met::Repeated,
        }
    }

    fn index(&mut self) -> &mut HashMap<u64, usize, RandomState> {
        let hashes = self.entries.iter().enumerate().map(|(at, entry)| (entry.hash, at));
        self.index.get_or_insert_with(|| {
            let mut index = HashMap::with_capacity_and_hasher(self.likely, RandomState::default());
            index.extend(hashes);
            index
        })
    }
}

impl<T> Recall<T> {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether this body is, byte for byte, the one given last. Then nothing has changed, and there is nothing to
    /// split. Remembers it if not, so ask once per answer; [`forget`](Self::forget) if the body turns out malformed.
    pub fn is_same(&mut self, body: &[u8]) -> bool {
        let this = Some((body.len(), self.hashing.of(&[body])));
        std::mem::replace(&mut self.body, this) == this
    }

    /// Forgets the last body, so that the next one is split even if it is the same. The entries are remembered.
    pub fn forget(&mut self) {
        self.body = None;
    }

    /// Takes the entries of the next list. Calls `decode` for each whose hash the last list hadn't, then `each` for all,
    /// in order, with whether it is new. Entries whose hashes are equal count once. Gives what only the last list had,
    /// in its order.
    pub fn next<E>(
        &mut self,
        entries: impl IntoIterator<Item = E>,
        mut hash: impl FnMut(&Hashing, &E) -> u64,
        mut decode: impl FnMut(E) -> T,
        mut each: impl FnMut(&T, bool),
    ) -> Vec<T> {
        let entries = entries.into_iter();
        let last = std::mem::take(&mut self.entries);
        let likely = Self::likely(&last).max(entries.size_hint().0);
        let mut last = Last { entries: last, at: 0, index: None, likely };
        self.entries.reserve(likely);
        for entry in entries {
            let hash = hash(&self.hashing, &entry);
            let (value, is_new) = match last.meet(hash) {
                Met::Known(value) => (value, false),
                Met::Repeated => continue,
                Met::New => (decode(entry), true),
            };
            each(&value, is_new);
            self.entries.push(Entry { hash, value: Some(value) });
        }
        last.entries.into_iter().filter_map(|entry| entry.value).collect()
    }

    /// Makes room for a first list of so many entries, if the caller can tell about how many there will be.
    pub fn reserve(&mut self, entries: usize) {
        self.entries.reserve(entries);
    }

    /// How many entries the next list may have.
    pub(super) fn expected(&self) -> usize {
        Self::likely(&self.entries)
    }

    fn likely(last: &Vec<Entry<T>>) -> usize {
        if last.is_empty() { last.capacity() } else { last.len() }
    }

    /// How many entries are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<T> Default for Recall<T> {
    fn default() -> Self {
        Self { hashing: Hashing::default(), body: None, entries: Vec::new() }
    }
}

impl<T> fmt::Debug for Recall<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recall").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_of_an_entry_can_change_sides() {
        let hashing = Hashing::default();
        assert_ne!(hashing.of(&[b"ab", b"c"]), hashing.of(&[b"a", b"bc"]));
        assert_eq!(hashing.of(&[b"ab", b"c"]), hashing.of(&[b"ab", b"c"]));
    }

    #[test]
    fn what_is_known_is_found_in_any_order_and_what_left_is_told_in_the_old_one() {
        let mut recall = Recall::new();
        let mut next = |entries: &[u64]| {
            let mut seen = Vec::new();
            let each = |value: &u64, is_new| seen.push((*value, is_new));
            let lost = recall.next(entries, |_, entry| **entry, |entry| *entry, each);
            (seen, lost)
        };
        next(&[1, 2, 3, 4, 5]);
        let (seen, lost) = next(&[6, 4, 2, 2, 6]);
        assert_eq!(seen, [(6, true), (4, false), (2, false)]);
        assert_eq!(lost, [1, 3, 5]);
    }
}
