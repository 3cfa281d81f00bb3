//! From one full list to the next: only entries that say something new are decoded.
//!
//! A body that is the last one over again isn't even split. In any other one most entries differ from before by their
//! last beat alone, `leaseInfo.lastRenewalTimestamp`, which nobody here reads. So an entry is known by its application
//! and its bytes without the digits of that time: a byte that means something is among them, whatever stands around it.
//! (`lastUpdatedTimestamp` changes only together with what it dates.)

use std::{fmt, sync::Arc};

use memchr::{memchr, memmem};
use registry_core::backend::Recall;

use super::{
    envelope::Applications,
    replica::{Action, AppNames, Fetched, Record, item},
};

/// Where the numbers of a lease begin. Quotes within strings are escaped, so this is no part of one.
const LEASE: &[u8] = b"\"leaseInfo\":{";
/// The time of the last beat, by its name and by the one that it had in old servers.
const RENEWALS: [&[u8]; 2] = [b"\"lastRenewalTimestamp\":", b"\"renewalTimestamp\":"];

/// Reads the full lists of one poll.
pub(crate) struct Lists {
    /// `None` for what is no instance.
    known: Recall<Option<(Action, Arc<Record>)>>,
    leases: Leases,
}

/// Finds the times of beats.
struct Leases {
    lease: memmem::Finder<'static>,
    renewals: [memmem::Finder<'static>; 2],
    /// Where the last entry had its lease: the next one has it nearby.
    near: usize,
    /// How far after that it had the time, where the next one has it too unless a number got another digit.
    gap: usize,
}

/// So far before where the last one was a lease is looked for first.
const NEARBY: usize = 64;

impl Lists {
    pub(crate) fn new() -> Self {
        Self { known: Recall::new(), leases: Leases::new() }
    }

    /// Takes the body of a full list; `None` if it is the last one over again. A record that says what it said before
    /// is the same allocation.
    ///
    /// # Errors
    /// What is malformed, if the whole is; then nothing was learnt. An entry that isn't an instance is left out.
    pub(crate) fn read(&mut self, body: &str) -> Result<Option<Fetched>, serde_json::Error> {
        if self.known.is_same(body.as_bytes()) {
            return Ok(None);
        }
        let all = Applications::parse(body).inspect_err(|_| self.known.forget())?;
        let Self { known, leases } = self;
        let mut apps = AppNames::default();
        // Of each application the name is hashed once.
        let mut last: Option<(Option<&str>, u64)> = None;
        let mut list = Fetched { hash: all.hash.clone(), items: Vec::with_capacity(known.len()), decoded: 0 };
        known.next(
            all.instances(),
            |hashing, (app, raw)| {
                let [before, after] = leases.around_renewal(raw.as_bytes());
                let of_app = match last {
                    Some((last, hash)) if last == *app => hash,
                    _ => last.insert((*app, hashing.of(&[app.unwrap_or_default().as_bytes(), b"app"]))).1,
                };
                hashing.of(&[before, after]) ^ of_app
            },
            |(app, raw)| item(&mut apps, app, raw),
            |item, is_new| {
                list.items.extend(item.clone());
                list.decoded += usize::from(is_new);
            },
        );
        Ok(Some(list))
    }

    /// Forgets the last body: something was learnt since, so that the same again is news. Entries stay known.
    pub(crate) fn forget(&mut self) {
        self.known.forget();
    }
}

impl Leases {
    fn new() -> Self {
        Self {
            lease: memmem::Finder::new(LEASE),
            renewals: RENEWALS.map(memmem::Finder::new),
            near: 0,
            gap: 0,
        }
    }

    /// An entry without the digits of its last beat; all of it where there are none.
    fn around_renewal<'r>(&mut self, raw: &'r [u8]) -> [&'r [u8]; 2] {
        let (from, to) = self.digits(raw).unwrap_or((raw.len(), raw.len()));
        [&raw[..from], &raw[to..]]
    }

    fn digits(&mut self, raw: &[u8]) -> Option<(usize, usize)> {
        let from = self.near.saturating_sub(NEARBY);
        let nearby = raw.get(from..).and_then(|rest| Some(from + self.lease.find(rest)?));
        self.near = nearby.or_else(|| self.lease.find(raw))?;
        let begin = self.near + LEASE.len();
        // The first brace is in the lease at any rate, if it isn't its end.
        let numbers = &raw[begin..begin + memchr(b'}', &raw[begin..])?];
        if !numbers.get(..self.gap).is_some_and(|front| front.ends_with(RENEWALS[0])) {
            let key = |key: &memmem::Finder<'_>| Some(key.find(numbers)? + key.needle().len());
            self.gap = self.renewals.iter().find_map(key)?;
        }
        let from = begin + self.gap;
        let count = raw[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        Some((from, from + count))
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists").field("known", &self.known).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: usize, beat: u64, registered: u64, more: &str) -> String {
        format!(
            r#"{{"instanceId":"i{id}","app":"ORDERS","status":"UP","leaseInfo":{{"renewalIntervalInSecs":30,
                "registrationTimestamp":{registered},"lastRenewalTimestamp":{beat},"evictionTimestamp":0}},
                "metadata":{{{more}}}}}"#
        )
    }

    fn body(app: &str, entries: &[String]) -> String {
        let entries = entries.join(",");
        format!(
            r#"{{"applications":{{"apps__hashcode":"X","application":[{{"name":"{app}","instance":[{entries}]}}]}}}}"#
        )
    }

    fn read(lists: &mut Lists, body: &str) -> Fetched {
        lists.read(body).unwrap().expect("another body")
    }

    #[test]
    fn of_many_whose_beats_came_only_the_one_that_changed_is_decoded() {
        let mut lists = Lists::new();
        let of = |beat: u64, weight: u64| -> Vec<String> {
            let weight = |n: usize| if n == 70 { weight } else { 1 };
            (0..100).map(|n| entry(n, beat, 7, &format!(r#""weight":"{}""#, weight(n)))).collect()
        };
        let first = read(&mut lists, &body("A", &of(1, 1)));
        assert_eq!((first.items.len(), first.decoded), (100, 100));
        let second = read(&mut lists, &body("A", &of(31_000, 2)));
        assert_eq!((second.items.len(), second.decoded), (100, 1));
        let same = |n: usize| Arc::ptr_eq(&first.items[n].1, &second.items[n].1);
        assert!((0..100).all(|n| same(n) == (n != 70)));
        assert!(lists.read(&body("A", &of(31_000, 2))).unwrap().is_none(), "the same body");
        lists.forget();
        let third = read(&mut lists, &body("A", &of(31_000, 2)));
        assert_eq!((third.items.len(), third.decoded), (100, 0));
    }

    #[test]
    fn what_means_something_is_news_wherever_it_stands() {
        let mut lists = Lists::new();
        let decoded = |lists: &mut Lists, app: &str, entry: String| {
            read(lists, &body(app, &[entry, format!(r#"{{"n":{}}}"#, fastrand::u64(..))])).decoded - 1
        };
        assert_eq!(decoded(&mut lists, "A", entry(1, 1, 7, "")), 1);
        assert_eq!(decoded(&mut lists, "A", entry(1, 2, 7, "")), 0);
        assert_eq!(decoded(&mut lists, "A", entry(1, 2, 8, "")), 1, "it registered anew");
        assert_eq!(decoded(&mut lists, "B", entry(1, 2, 8, "")), 1, "another application's");
        let beside = |n: u64| format!(r#""lastRenewalTimestamp":{n},"x":"leaseInfo:{{{n}}}""#);
        assert_eq!(decoded(&mut lists, "B", entry(1, 2, 8, &beside(1))), 1);
        assert_eq!(decoded(&mut lists, "B", entry(1, 2, 8, &beside(2))), 1, "a user's own entry");
        let odd = |n: u64| format!(r#"{{"instanceId":"i","leaseInfo":{{"lastRenewalTimestamp":"{n}}}"}}}}"#);
        assert_eq!((decoded(&mut lists, "B", odd(1)), decoded(&mut lists, "B", odd(2))), (1, 1));
        let none = |n: u64| format!(r#"{{"instanceId":"i{n}","leaseInfo":null}}"#);
        assert_eq!((decoded(&mut lists, "B", none(1)), decoded(&mut lists, "B", none(2))), (1, 1));
    }

    #[test]
    fn a_malformed_body_is_forgotten_and_what_was_known_is_not() {
        let mut lists = Lists::new();
        let good = body("A", &[entry(1, 1, 7, "")]);
        read(&mut lists, &good);
        for _ in 0..2 {
            assert!(lists.read("{\"applications\":{").is_err());
        }
        assert_eq!(read(&mut lists, &good).decoded, 0);
    }
}
