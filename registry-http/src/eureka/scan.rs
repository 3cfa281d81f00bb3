//! A list as the servers of today write it, walked through once: around its entries as JSON, while what an entry is, and
//! where it ends, is for the caller to say.
//!
//! That is what lets an entry be read where it is found, and one that is known be passed over without being read.

use serde::{Deserialize, de::IgnoredAny};

use crate::json::{leading, trim_start};

/// Takes the entry that a text begins with, given the name of its application; gives the entry's length in bytes, or
/// `None` if there is none that it takes.
pub(crate) trait Entries<'a>: FnMut(Option<&str>, &'a str) -> Option<usize> {}

impl<'a, F: FnMut(Option<&str>, &'a str) -> Option<usize>> Entries<'a> for F {}

/// Walks through a whole list; its hash. `None` if it is another form of list, or none at all: then what was told of it
/// counts for nothing.
pub(crate) fn list<'a>(body: &'a str, mut entry: impl Entries<'a>) -> Option<String> {
    let mut hash = None;
    let mut walk = Walk(body);
    let mut is_list = false;
    walk.members(|walk, key| match key {
        "applications" if !is_list => {
            is_list = true;
            walk.applications(&mut hash, &mut entry)
        }
        "applications" => None,
        _ => walk.pass(),
    })?;
    hash.filter(|_| is_list && trim_start(walk.0).is_empty())
}

/// What is still to be walked through.
struct Walk<'a>(&'a str);

impl<'a> Walk<'a> {
    fn applications(&mut self, hash: &mut Option<String>, entry: &mut impl Entries<'a>) -> Option<()> {
        let mut has_apps = false;
        self.members(|walk, key| match key {
            "apps__hashcode" if hash.is_none() => {
                *hash = Some(walk.value()?);
                Some(())
            }
            "application" if !has_apps => {
                has_apps = true;
                walk.elements(|walk| walk.application(entry))
            }
            "apps__hashcode" | "application" => None,
            _ => walk.pass(),
        })?;
        has_apps.then_some(())
    }

    fn application(&mut self, entry: &mut impl Entries<'a>) -> Option<()> {
        let mut name: Option<String> = None;
        // As usual the name comes first, else the entries have to wait for it.
        let (mut has_entries, mut waiting) = (false, None);
        self.members(|walk, key| match key {
            "name" if name.is_none() => {
                name = Some(walk.value()?);
                Some(())
            }
            "instance" if !has_entries => {
                has_entries = true;
                match &name {
                    Some(name) => walk.entries(name, entry),
                    None => {
                        waiting = Some(Walk(walk.0));
                        walk.pass()
                    }
                }
            }
            "name" | "instance" => None,
            _ => walk.pass(),
        })?;
        match (name, waiting) {
            (Some(name), Some(mut waiting)) => waiting.entries(&name, entry),
            (Some(_), None) if has_entries => Some(()),
            _ => None,
        }
    }

    fn entries(&mut self, app: &str, entry: &mut impl Entries<'a>) -> Option<()> {
        let app = Some(app).filter(|app| !app.is_empty());
        self.elements(|walk| {
            let length = entry(app, walk.0)?;
            walk.0 = walk.0.get(length..)?;
            Some(())
        })
    }

    /// An object: `member` is called behind each key, and takes the value.
    fn members(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.listed('{', '}', |walk| {
            // One with an escape in it is none of those that are looked for, or written oddly.
            let key = walk.value::<&'a str>()?;
            walk.step(':').then_some(())?;
            walk.trim();
            member(walk, key)
        })
    }

    /// An array: `element` is called in front of each element, and takes it.
    fn elements(&mut self, element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.listed('[', ']', element)
    }

    #[inline]
    fn listed(
        &mut self,
        open: char,
        close: char,
        mut one: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.step(open).then_some(())?;
        if self.step(close) {
            return Some(());
        }
        loop {
            self.trim();
            one(self)?;
            if self.step(close) {
                return Some(());
            }
            self.step(',').then_some(())?;
        }
    }

    fn pass(&mut self) -> Option<()> {
        self.value::<IgnoredAny>().map(|_| ())
    }

    fn value<T: Deserialize<'a>>(&mut self) -> Option<T> {
        let (value, length) = leading(self.0)?;
        self.0 = &self.0[length..];
        Some(value)
    }

    /// Whether this is what comes next.
    #[inline]
    fn step(&mut self, what: char) -> bool {
        self.trim();
        let rest = self.0.strip_prefix(what);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// Passes over what JSON calls white space.
    #[inline]
    fn trim(&mut self) {
        self.0 = trim_start(self.0);
    }
}
