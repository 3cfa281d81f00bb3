//! From one complete list to the next without decoding what didn't change.

use std::{collections::HashSet, fmt, sync::Arc};

use foldhash::fast::RandomState;

use super::{Hashing, Recall};
use crate::model::{Instance, InstanceId, InstanceKey, ServiceName};

/// Remembers the last complete list of a registry that gives nothing else, and decodes only what is new in the next.
///
/// Consul, Eureka and Nacos answer with the whole list when one instance of 10,000 changes. Scanning 12 MB of JSON for
/// the borders of its entries takes 9 ms, hashing them 1 ms more, decoding them all 15 to 24 ms. So: compare the body
/// with the last one ([`is_same`](Self::is_same)); if it differs, split it into raw entries (`serde_json`'s
/// `Vec<&RawValue>`) and give those to [`next`](Self::next), which calls `decode` for those it hasn't seen.
///
/// Unchanged entries keep their [`Arc`], so that whoever compares the lists sees it at a glance. Only hashes are kept,
/// never the body: 64 bits under a random key per process, so that nobody can make a changed entry look like the old
/// one.
///
/// ```
/// use registry_core::{Instance, backend::Relist};
///
/// let decode = |entry: &[u8]| {
///     let id = String::from_utf8_lossy(entry);
///     Instance::builder("orders").id(id).endpoint("http://10.0.0.7:80").build().map_err(|_| None)
/// };
/// let mut list = Relist::new();
/// assert_eq!(list.next([&b"a"[..], b"b"], decode).changed.len(), 2);
/// let next = list.next([&b"b"[..], b"c"], decode);
/// assert_eq!((next.instances.len(), next.changed.len(), next.gone.len()), (2, 1, 1));
/// assert_eq!(next.gone[0].id.as_str(), "a");
/// ```
#[derive(Default)]
pub struct Relist {
    recall: Recall<Decoded>,
    /// Whether the last list had each key once, as far as that is known.
    is_distinct: bool,
}

/// One complete list, and how it differs from the one before.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Relisted {
    /// Everything that was decoded, now or before, in the order of the list.
    ///
    /// Where two entries have one key, as when an instance is listed at two addresses, both are here. Which of them
    /// counts is for the caller to say, by this list and not by what changed in it: `changed` may have only one of them.
    pub instances: Vec<Arc<Instance>>,
    /// Those of `instances` that the last list hadn't, or not with these bytes, in the order of the list. Also, of a key
    /// with several entries of which one is gone or has other bytes now, all that are left.
    pub changed: Vec<Arc<Instance>>,
    /// The keys that the last list had, be it unreadable, and this one has not, under any bytes; each once, in the order
    /// of the last list.
    pub gone: Vec<InstanceKey>,
    /// The keys of entries that can't be decoded, as far as `decode` could tell them.
    pub rejected: Vec<InstanceKey>,
    /// Whether each key is known to be in `instances` once, as it was in the last list; `false` says nothing.
    pub is_distinct: bool,
}

/// An entry's instance, or its key as far as that can be told.
type Decoded = Result<Arc<Instance>, Option<InstanceKey>>;

/// So many keys are found by comparing.
const FEW: usize = 4;

/// A key without its making, which costs more than to look one up.
type Name<'a> = (&'a ServiceName, &'a InstanceId);

fn name(instance: &Arc<Instance>) -> Name<'_> {
    (instance.service(), instance.id())
}

fn lost_name(lost: &Decoded) -> Option<Name<'_>> {
    match lost {
        Ok(instance) => Some(name(instance)),
        // Readers may have its last good version.
        Err(key) => key.as_ref().map(|key| (&key.service, &key.id)),
    }
}

impl Relisted {
    /// Notes what only the last list had: the keys that this one hasn't, under any bytes, are gone. Of a key that only
    /// lost an entry, what is left of it has changed: it may be what counts from now on.
    fn without(&mut self, lost: &[Decoded]) {
        let names: HashSet<Name<'_>, RandomState> = lost.iter().filter_map(lost_name).collect();
        if names.is_empty() {
            return;
        }
        // To compare with a few costs less than to hash each of thousands.
        let few: Vec<Name<'_>> = names.iter().copied().take(FEW + 1).collect();
        let is_lost = |one: Name<'_>| match few.len() {
            0..=FEW => few.iter().any(|lost| lost.1 == one.1 && lost.0 == one.0),
            _ => names.contains(&one),
        };
        let mut here: HashSet<Name<'_>, RandomState> =
            self.rejected.iter().map(|key| (&key.service, &key.id)).collect();
        let mut fresh = std::mem::take(&mut self.changed).into_iter().peekable();
        for instance in &self.instances {
            let is_fresh = fresh.next_if(|fresh| Arc::ptr_eq(fresh, instance)).is_some();
            let is_left = is_lost(name(instance));
            if is_left {
                here.insert(name(instance));
            }
            if is_fresh || is_left {
                self.changed.push(Arc::clone(instance));
            }
        }
        let gone = lost.iter().filter_map(lost_name).filter(|name| here.insert(*name));
        self.gone = gone.map(|(service, id)| InstanceKey::new(service.clone(), id.clone())).collect();
    }
}

impl Relisted {
    /// The same where the last list had each key once, so that nobody who is left has that of one who isn't: then only
    /// those few are looked at who came or went. `false` if that isn't enough.
    fn without_few(&mut self, lost: &[Decoded]) -> bool {
        if lost.len() > FEW || self.changed.len() > FEW || !self.rejected.is_empty() {
            return false;
        }
        let Some(lost) = lost.iter().map(|lost| lost.as_ref().ok().map(name)).collect::<Option<Vec<_>>>()
        else {
            return false;
        };
        let fresh: Vec<Name<'_>> = self.changed.iter().map(name).collect();
        let came_back = |name: &Name<'_>| fresh.iter().filter(|fresh| *fresh == name).count() == 1;
        // Whoever is new altogether may have the key of anybody.
        self.is_distinct = fresh.iter().all(|fresh| lost.contains(fresh) && came_back(fresh));
        let gone = lost.into_iter().filter(|name| !fresh.contains(name));
        self.gone = gone.map(|(service, id)| InstanceKey::new(service.clone(), id.clone())).collect();
        true
    }
}

impl Relist {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether this body is, byte for byte, the one given last. Then nothing has changed, and there is nothing to
    /// split. Remembers it if not, so ask once per answer; [`forget`](Self::forget) if the body turns out malformed.
    pub fn is_same(&mut self, body: &[u8]) -> bool {
        self.recall.is_same(body)
    }

    /// Forgets the last body, so that the next one is split even if it is the same.
    pub fn forget(&mut self) {
        self.recall.forget();
    }

    /// Whether it remembers no entry, so that all of the next list will be decoded.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.recall.is_empty()
    }

    /// Makes room for a first list of so many entries, if the caller can tell about how many there will be.
    pub fn reserve(&mut self, entries: usize) {
        self.recall.reserve(entries);
    }

    /// Takes the raw entries of the next list. Calls `decode` for each that the last list hadn't; it gives the key, if
    /// it can tell it, of an entry that it can't decode. Repeated entries count once.
    ///
    /// An entry may be more than its bytes: who reads a first list, of which all is new, finds the end of an entry by
    /// reading it, and has it at hand when `decode` is called.
    pub fn next<E: AsRef<[u8]>>(
        &mut self,
        entries: impl IntoIterator<Item = E>,
        decode: impl FnMut(E) -> Result<Instance, Option<InstanceKey>>,
    ) -> Relisted {
        self.next_by(entries, |hashing, entry| hashing.of(&[entry.as_ref()]), decode)
    }

    /// The same of entries whose hashes the caller takes, as who knows where an entry ends by its hash has it already.
    /// One [`Hashing`] for all lists: by another, everything is new.
    pub fn next_by<E>(
        &mut self,
        entries: impl IntoIterator<Item = E>,
        hash: impl FnMut(&Hashing, &E) -> u64,
        mut decode: impl FnMut(E) -> Result<Instance, Option<InstanceKey>>,
    ) -> Relisted {
        let entries = entries.into_iter();
        let mut list = Relisted::default();
        let likely = self.recall.expected().max(entries.size_hint().0);
        list.instances.reserve(likely);
        if self.recall.is_empty() {
            list.changed.reserve(likely);
        }
        let lost = self.recall.next(
            entries,
            hash,
            |entry| decode(entry).map(Arc::new),
            |decoded, is_new| match decoded {
                Ok(instance) => {
                    list.instances.push(Arc::clone(instance));
                    if is_new {
                        list.changed.push(Arc::clone(instance));
                    }
                }
                Err(key) => list.rejected.extend(key.clone()),
            },
        );
        let was_distinct = std::mem::take(&mut self.is_distinct);
        if !was_distinct || !list.without_few(&lost) {
            list.without(&lost);
            list.is_distinct = was_distinct && list.changed.is_empty();
        }
        self.is_distinct = list.is_distinct;
        list
    }

    /// Notes that the last list had each key once, which the caller has found out: so the next needn't be searched for
    /// others of the keys that changed.
    pub fn note_distinct(&mut self) {
        self.is_distinct = true;
    }
}

impl fmt::Debug for Relist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relist").field("entries", &self.recall.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries are `id` or `id=version`; one that begins with `!` can't be decoded, one that is `?` not even named.
    fn decode(entry: &[u8]) -> Result<Instance, Option<InstanceKey>> {
        let text = std::str::from_utf8(entry).unwrap();
        let named = text.trim_start_matches('!');
        let (id, version) = named.split_once('=').unwrap_or((named, "1"));
        let build = |id: &str| {
            let builder = Instance::builder("orders").id(id).endpoint("http://10.0.0.7:80");
            builder.version(version).build()
        };
        match text.as_bytes()[0] {
            b'?' => Err(None),
            b'!' => Err(Some(build(id).unwrap().key())),
            _ => Ok(build(id).unwrap()),
        }
    }

    fn next(list: &mut Relist, entries: &[&'static str]) -> (Relisted, usize) {
        let mut decoded = 0;
        let relisted = list.next(entries.iter().map(|entry| entry.as_bytes()), |entry| {
            decoded += 1;
            decode(entry)
        });
        (relisted, decoded)
    }

    fn ids(keys: &[InstanceKey]) -> Vec<&str> {
        keys.iter().map(|key| key.id.as_str()).collect()
    }

    #[test]
    fn only_new_bytes_are_decoded_and_the_rest_stays_the_same_allocation() {
        let mut list = Relist::new();
        let (first, decoded) = next(&mut list, &["a", "b", "c"]);
        assert_eq!((decoded, first.changed.len(), first.gone.len()), (3, 3, 0));
        let (second, decoded) = next(&mut list, &["c", "b=2", "a"]);
        assert_eq!((decoded, second.changed.len(), second.gone.len()), (1, 1, 0));
        assert!(Arc::ptr_eq(&first.instances[0], &second.instances[2]));
        assert_eq!(second.instances[1].version(), Some("2"));
    }

    #[test]
    fn what_is_missing_is_gone_and_decoded_anew_when_it_returns() {
        let mut list = Relist::new();
        next(&mut list, &["a", "b"]);
        let (second, decoded) = next(&mut list, &["b"]);
        assert_eq!((ids(&second.gone), decoded), (vec!["a"], 0));
        let (third, decoded) = next(&mut list, &["b", "a"]);
        assert_eq!((third.changed.len(), third.gone.len(), decoded), (1, 0, 1));
        assert_eq!(ids(&next(&mut list, &[]).0.gone).len(), 2);
    }

    #[test]
    fn what_turns_malformed_is_rejected_not_gone_and_not_decoded_twice() {
        let mut list = Relist::new();
        next(&mut list, &["a", "b"]);
        for tries in [2, 0] {
            let (now, decoded) = next(&mut list, &["!a", "b", "?"]);
            assert_eq!((ids(&now.rejected), now.gone.len(), decoded), (vec!["a"], 0, tries));
            assert_eq!(now.instances.len(), 1);
        }
        let (fourth, _) = next(&mut list, &["!b"]);
        assert_eq!(
            (ids(&fourth.gone), ids(&fourth.rejected)),
            (vec!["a"], vec!["b"]),
            "what was kept is gone"
        );
        // Malformed in another way, it is still there; readable again, it has changed.
        assert_eq!(next(&mut list, &["!b=2"]).0.gone.len(), 0);
        let (sixth, _) = next(&mut list, &["b"]);
        assert_eq!((sixth.gone.len(), sixth.changed.len()), (0, 1));
    }

    #[test]
    fn a_repeated_entry_counts_once() {
        assert_eq!(next(&mut Relist::new(), &["a", "a"]).0.instances.len(), 1);
    }

    #[test]
    fn after_a_list_that_had_each_key_once_only_those_who_came_or_went_are_looked_at() {
        let scripts: [&[&[&str]]; 6] = [
            &[&["a", "b"], &["a=2", "b"], &["a=2"], &["c", "a=2"], &["c", "a=2"]],
            &[&["a", "b"], &["b", "c"], &["b=2", "c", "b=3"], &["c", "b=3"]],
            &[&["a", "b"], &["!a", "b"], &["a", "b=2"], &["a=3", "b=2", "?"]],
            &[&["a", "b"], &["a", "b", "b=2"], &["a", "b=2"]],
            &[&["a", "b", "c"], &["a=2", "b=2", "a=3"], &["a=3", "c"]],
            &[&["a"], &[], &["a"]],
        ];
        for script in scripts {
            let (mut told, mut plain) = (Relist::new(), Relist::new());
            for list in script {
                let (told_so, plain_so) = (next(&mut told, list).0, next(&mut plain, list).0);
                assert_eq!(told_so.changed, plain_so.changed, "{script:?}");
                assert_eq!(
                    (&told_so.gone, &told_so.rejected),
                    (&plain_so.gone, &plain_so.rejected),
                    "{script:?}"
                );
                let names: HashSet<Name<'_>> = told_so.instances.iter().map(name).collect();
                let is_distinct = names.len() == told_so.instances.len();
                assert!(!plain_so.is_distinct && (is_distinct || !told_so.is_distinct), "{script:?}");
                if is_distinct {
                    told.note_distinct();
                }
            }
        }
        let mut told = Relist::new();
        next(&mut told, &["a", "b"]);
        told.note_distinct();
        assert!(next(&mut told, &["a=2", "b"]).0.is_distinct, "it has the key of the one that it replaces");
        assert!(!next(&mut told, &["a=2", "b", "c"]).0.is_distinct, "nobody has looked");
    }

    fn versions(instances: &[Arc<Instance>]) -> Vec<&str> {
        instances.iter().map(|instance| instance.version().unwrap()).collect()
    }

    #[test]
    fn of_two_entries_with_one_key_one_may_go_while_the_other_is_told_again() {
        let mut list = Relist::new();
        let (first, _) = next(&mut list, &["a=1", "b", "a=2", "c"]);
        assert_eq!(versions(&first.instances), ["1", "1", "2", "1"], "both, in the order of the list");
        let (second, decoded) = next(&mut list, &["b", "a=2", "c"]);
        assert_eq!((second.gone.len(), decoded), (0, 0), "the key is still there");
        assert_eq!(versions(&second.changed), ["2"]);
        assert!(Arc::ptr_eq(&second.changed[0], &first.instances[2]));
        let (third, _) = next(&mut list, &["c"]);
        assert_eq!(ids(&third.gone), ["b", "a"], "in the order of the last list");
    }

    #[test]
    fn of_two_entries_with_one_key_one_may_change_or_turn_malformed_while_the_other_stays() {
        let mut list = Relist::new();
        next(&mut list, &["a=1", "b", "a=2"]);
        let (second, _) = next(&mut list, &["a=3", "c", "a=2", "b"]);
        assert_eq!(second.gone.len(), 0);
        assert_eq!(versions(&second.changed), ["3", "1", "2"], "in the order of the list, each once");
        let (third, _) = next(&mut list, &["!a", "a=2", "b"]);
        assert_eq!((ids(&third.gone), ids(&third.rejected)), (vec!["c"], vec!["a"]));
        assert_eq!(versions(&third.changed), ["2"]);
    }

    #[test]
    fn entries_are_known_by_what_the_caller_hashes_of_them_and_by_nothing_else() {
        let own = Hashing::default();
        let mut list = Relist::new();
        let mut next = |hashing: &Hashing, entries: &[(&'static str, u32)]| {
            let mut decoded = Vec::new();
            let relisted = list.next_by(
                entries.iter().copied(),
                |_, (text, _)| hashing.of(&[text.as_bytes()]),
                |(text, noise)| {
                    decoded.push((text, noise));
                    decode(text.as_bytes())
                },
            );
            (relisted, decoded)
        };
        let (first, decoded) = next(&own, &[("a", 1), ("b", 1), ("a", 2)]);
        assert_eq!(decoded, [("a", 1), ("b", 1)], "what hashes alike counts once");
        let (second, decoded) = next(&own, &[("b", 2), ("a", 3), ("c", 1)]);
        assert_eq!((decoded, second.changed.len()), (vec![("c", 1)], 1));
        assert!(Arc::ptr_eq(&first.instances[0], &second.instances[1]));
        let (third, decoded) = next(&Hashing::default(), &[("b", 2), ("a", 3)]);
        assert_eq!((decoded.len(), third.changed.len()), (2, 2), "by another hashing everything is new");
        assert_eq!(ids(&third.gone), ["c"], "and yet the same keys");
    }

    #[test]
    fn a_body_is_the_same_only_right_after_itself() {
        let mut list = Relist::new();
        let bodies: [&[u8]; 5] = [b"[]", b"[]", b"[1]", b"[]", b"[]"];
        assert_eq!(bodies.map(|body| list.is_same(body)), [false, true, false, false, true]);
        list.forget();
        assert!(!list.is_same(b"[]"));
    }
}
