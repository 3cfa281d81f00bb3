//! Where in an entry the time of the last beat stands.

use memchr::{memchr, memmem};

/// Where the numbers of a lease begin. Quotes within strings are escaped, so this is no part of one.
const LEASE: &[u8] = b"\"leaseInfo\":{";
/// The time of the last beat, by its name and by the one that it had in old servers.
const RENEWALS: [&[u8]; 2] = [b"\"lastRenewalTimestamp\":", b"\"renewalTimestamp\":"];
/// So far before where the last one was a lease is looked for first.
const NEARBY: usize = 64;

/// Finds the times of beats.
pub(super) struct Beats {
    lease: memmem::Finder<'static>,
    renewals: [memmem::Finder<'static>; 2],
    /// Where the last entry had its lease: the next one has it nearby.
    near: usize,
    /// How far after that it had the time, where the next one has it too unless a number got another digit.
    gap: usize,
}

impl Beats {
    pub(super) fn new() -> Self {
        Self {
            lease: memmem::Finder::new(LEASE),
            renewals: RENEWALS.map(memmem::Finder::new),
            near: 0,
            gap: 0,
        }
    }

    /// From where to where the digits of an entry's last beat are, if it has any.
    pub(super) fn digits(&mut self, raw: &[u8]) -> Option<(usize, usize)> {
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
