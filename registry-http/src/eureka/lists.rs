//! From one full list to the next: only entries that say something new are read.
//!
//! A body that is the last one over again isn't even walked through. In any other one most entries differ from before by
//! their last beat alone, `leaseInfo.lastRenewalTimestamp`, which nobody here reads. So an entry is known by its
//! application and its bytes without the digits of that time: a byte that means something is among them, whatever stands
//! around it. (`lastUpdatedTimestamp` changes only together with what it dates.)
//!
//! What is known is passed over where it stands; of a first list each entry is read where it stands. Everything else is
//! scanned for its end, and read if it is new.

use std::fmt;

use registry_core::backend::{Hashing, Recall};
use serde_json::value::RawValue;

use self::{
    beats::Beats,
    marks::{Last, Mark},
};
use super::{
    envelope::Applications,
    replica::{AppNames, Fetched, Item, item, leading_item},
    scan,
};
use crate::json::leading;

/// For so many entries of a first list there is room at first.
const MANY: usize = 1 << 14;

/// Reads the full lists of one poll.
pub(crate) struct Lists {
    /// `None` for what is no instance.
    known: Recall<Option<Item>>,
    /// Of the last list, in its order.
    marks: Vec<Mark>,
    hashing: Hashing,
    beats: Beats,
}

/// An entry of a list.
struct Entry<'a> {
    hash: u64,
    raw: &'a str,
    /// The application's place among the names.
    app: usize,
    /// What it is, if it has been read.
    item: Option<Option<Item>>,
}

/// The applications of a list, each with its hash.
struct Apps {
    names: Vec<Option<Box<str>>>,
    hash: u64,
}

impl Apps {
    /// The hash of the application whose entry comes next.
    fn turn_to(&mut self, hashing: &Hashing, app: Option<&str>) -> u64 {
        if self.names.last().is_none_or(|last| last.as_deref() != app) {
            self.hash = hashing.of(&[app.unwrap_or_default().as_bytes(), b"app"]);
            self.names.push(app.map(Box::from));
        }
        self.hash
    }
}

/// A list, walked through.
struct Walked<'a> {
    hash: Option<String>,
    names: Vec<Option<Box<str>>>,
    entries: Vec<Entry<'a>>,
    marks: Vec<Mark>,
}

impl Lists {
    pub(crate) fn new() -> Self {
        Self { known: Recall::new(), marks: Vec::new(), hashing: Hashing::default(), beats: Beats::new() }
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
        let walked = match self.walk(body) {
            Some(walked) => walked,
            None => self.split(body).inspect_err(|_| self.known.forget())?,
        };
        let Walked { hash, names, entries, marks } = walked;
        self.marks = marks;
        let mut apps = AppNames::default();
        let mut list = Fetched { hash, items: Vec::with_capacity(entries.len()), decoded: 0 };
        self.known.next(
            entries,
            |_, entry| entry.hash,
            |entry| entry.item.unwrap_or_else(|| item(&mut apps, names[entry.app].as_deref(), entry.raw)),
            |item, is_new| {
                list.items.extend(item.clone());
                list.decoded += usize::from(is_new);
            },
        );
        Ok(Some(list))
    }

    /// A list as servers write it today; `None` if it is none.
    fn walk<'a>(&mut self, body: &'a str) -> Option<Walked<'a>> {
        let Self { marks: before, hashing, beats, .. } = self;
        let likely = before.len();
        let (mut entries, mut marks) = (Vec::with_capacity(likely), Vec::with_capacity(likely));
        let mut last = Last::new(before);
        let mut apps = Apps { names: Vec::new(), hash: 0 };
        let mut names = AppNames::default();
        let hash = scan::list(body, |app, rest| {
            let of_app = apps.turn_to(hashing, app);
            let at = apps.names.len() - 1;
            if let Some((mark, length)) = last.find(hashing, of_app, rest.as_bytes()) {
                entries.push(Entry { hash: mark.hash, raw: rest.get(..length)?, app: at, item: None });
                marks.push(mark);
                return Some(length);
            }
            let (item, length) = match likely {
                0 => leading_item(&mut names, app, rest).map(|(item, length)| (Some(item), length))?,
                _ => (None, leading::<&RawValue>(rest)?.1),
            };
            let raw = &rest[..length];
            if entries.is_empty() {
                // Others are as long.
                let others = (rest.len() / length.max(1)).min(MANY);
                entries.reserve(others);
                marks.reserve(others);
            }
            let mark = Mark::of(hashing, beats, of_app, raw.as_bytes())?;
            last.miss(&mark);
            entries.push(Entry { hash: mark.hash, raw, app: at, item });
            marks.push(mark);
            Some(length)
        })?;
        Some(Walked { hash: Some(hash), names: apps.names, entries, marks })
    }

    /// A list of any form.
    fn split<'a>(&mut self, body: &'a str) -> Result<Walked<'a>, serde_json::Error> {
        let Self { hashing, beats, .. } = self;
        let all = Applications::parse(body)?;
        let mut apps = Apps { names: Vec::new(), hash: 0 };
        let (mut entries, mut marks) = (Vec::new(), Vec::new());
        for (app, raw) in all.instances() {
            let of_app = apps.turn_to(hashing, app);
            let Some(mark) = Mark::of(hashing, beats, of_app, raw.as_bytes()) else { continue };
            entries.push(Entry { hash: mark.hash, raw, app: apps.names.len() - 1, item: None });
            marks.push(mark);
        }
        Ok(Walked { hash: all.hash, names: apps.names, entries, marks })
    }

    /// Forgets the last body: something was learnt since, so that the same again is news. Entries stay known.
    pub(crate) fn forget(&mut self) {
        self.known.forget();
    }
}

impl fmt::Debug for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lists").field("known", &self.known).finish_non_exhaustive()
    }
}

mod beats;
mod marks;
#[cfg(test)]
mod tests;
