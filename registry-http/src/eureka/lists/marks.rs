//! How each entry of the last list is found again without being read.
//!
//! An entry of the next list mostly is the one of the last list at its place, but for the digits of its last beat. Whether
//! it is, its length and its hash tell: then it is JSON as that one was and ends where that one ended. Only what isn't
//! there has to be scanned for its end.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use registry_core::backend::Hashing;

use super::beats::Beats;

/// By what an entry is known, and what is needed to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Of its application, and of all of it but the digits of its last beat.
    pub(super) hash: u64,
    length: u32,
    /// Where those digits are; both its length if there are none.
    digits: [u32; 2],
}

impl Mark {
    /// Of an entry whose end is known. `None` if it is longer than 4 GiB.
    pub(super) fn of(hashing: &Hashing, beats: &mut Beats, of_app: u64, raw: &[u8]) -> Option<Self> {
        let (from, to) = beats.digits(raw).unwrap_or((raw.len(), raw.len()));
        let narrow = |at: usize| u32::try_from(at).ok();
        Some(Self {
            hash: hashing.of(&[&raw[..from], &raw[to..]]) ^ of_app,
            length: narrow(raw.len())?,
            digits: [narrow(from)?, narrow(to)?],
        })
    }

    /// Its length, if that is what a text begins with.
    fn leads(&self, hashing: &Hashing, of_app: u64, text: &[u8]) -> Option<usize> {
        let length = self.length as usize;
        let raw = text.get(..length)?;
        // Most others are told by that already.
        if !matches!(text.get(length), Some(b',' | b']')) {
            return None;
        }
        let [from, to] = self.digits.map(|at| at as usize);
        // No number begins with a zero and goes on.
        let is_number = match &raw[from..to] {
            [] => true,
            [b'0', more @ ..] => more.is_empty(),
            digits => digits.iter().all(u8::is_ascii_digit),
        };
        let is_it = is_number && hashing.of(&[&raw[..from], &raw[to..]]) ^ of_app == self.hash;
        is_it.then_some(length)
    }
}

/// The marks of the last list, while the next one is walked through.
#[derive(Debug)]
pub(super) struct Last<'l> {
    marks: &'l [Mark],
    /// Where the next entry is likely to be.
    at: usize,
    /// How many entries in a row weren't where they were likely to be.
    missed: usize,
    /// Where each hash is; made when the second in a row is missed.
    index: Option<HashMap<u64, usize, RandomState>>,
}

impl<'l> Last<'l> {
    pub(super) fn new(marks: &'l [Mark]) -> Self {
        Self { marks, at: 0, missed: 0, index: None }
    }

    /// The mark of the entry that a text begins with, and its length, if it is where it is likely to be.
    #[inline]
    pub(super) fn find(&mut self, hashing: &Hashing, of_app: u64, text: &[u8]) -> Option<(Mark, usize)> {
        // Of those missed so far the last may stand in the place of another, or between two.
        let likely =
            if self.missed == 0 { [Some(self.at), None] } else { [Some(self.at + 1), Some(self.at)] };
        for at in likely.into_iter().flatten() {
            if let Some(mark) = self.marks.get(at)
                && let Some(length) = mark.leads(hashing, of_app, text)
            {
                (self.at, self.missed) = (at + 1, 0);
                return Some((*mark, length));
            }
        }
        None
    }

    /// Learns what stands where nothing was found.
    pub(super) fn miss(&mut self, found: &Mark) {
        self.missed += 1;
        let is_it = |at: &usize| self.marks.get(*at).is_some_and(|mark| mark.hash == found.hash);
        // One has gone.
        let mut at = Some(self.at + 1).filter(is_it);
        if at.is_none() && self.missed > 1 {
            let hashes = || self.marks.iter().enumerate().map(|(at, mark)| (mark.hash, at));
            at = self.index.get_or_insert_with(|| hashes().collect()).get(&found.hash).copied();
        }
        if let Some(at) = at {
            (self.at, self.missed) = (at + 1, 0);
        }
    }
}
