//! The power of two choices (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001): the
//! better one of two random members. Nearly as good as looking at all, and two clients rarely run after the same one.

use std::{hint, sync::Arc};

use super::{
    Dice, Members,
    weighted::{Tables, WeightedRandom},
};
use crate::snapshot::Member;

/// A position, and the member there.
pub(super) type Candidate<'a> = (usize, Option<&'a Member>);

/// How two members are drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates(Option<Arc<Tables>>);

impl Candidates {
    pub(super) fn new(members: &Members, weights: &WeightedRandom) -> Self {
        Self(weights.tables(members))
    }

    /// Two positions, if all weights are equal: different ones, unless there is only one.
    #[inline(always)]
    pub(super) fn draw_equal(&self, members: &Members, dice: &Dice) -> Option<(usize, usize)> {
        match &self.0 {
            None => Some(distinct(dice.bits(), members.len())),
            Some(_) => None,
        }
    }

    /// Two positions and the members there. Where all weights are equal they differ, unless there is only one; else
    /// each is as likely as its weight says, and they may be the same.
    #[inline(always)]
    pub(super) fn draw<'a>(&'a self, members: &'a Members, dice: &Dice) -> (Candidate<'a>, Candidate<'a>) {
        match &self.0 {
            None => {
                let (first, second) = distinct(dice.bits(), members.len());
                ((first, members.member(first)), (second, members.member(second)))
            }
            Some(tables) => by_weight(tables, dice),
        }
    }
}

/// Reads of both instances what the pick will write to of one and what requests read of it, so that the memory has it by
/// the time it is known of which: with thousands of instances it is far away, and waiting for it is most of a pick. These
/// are two cache lines; what comes after a count of references was written waits for that too.
#[inline(always)]
pub(super) fn fetch(one: &Member, other: &Member) {
    hint::black_box((Arc::strong_count(&one.instance), Arc::strong_count(&other.instance)));
    fetch_to_read(one, other);
}

/// As [`fetch`], for a pick that counts no reference.
#[inline(always)]
pub(super) fn fetch_to_read(one: &Member, other: &Member) {
    hint::black_box((one.instance.weight(), other.instance.weight()));
}

#[inline(never)]
fn by_weight<'a>(tables: &'a Tables, dice: &Dice) -> (Candidate<'a>, Candidate<'a>) {
    let (first, second) = (tables.draw(dice), tables.draw(dice));
    // Once more only: beside a very heavy one it would take long to find another.
    (first, if first.0 == second.0 { tables.draw(dice) } else { second })
}

/// Each pair with the same probability, exact to 2^-32.
#[inline]
fn distinct(random: u64, len: usize) -> (usize, usize) {
    let within = |half: u64, len: usize| (half.wrapping_mul(len as u64) >> 32) as usize;
    let Some(others @ 1..) = len.checked_sub(1) else { return (0, 0) };
    let (first, second) = (within(random >> 32, len), within(random & u64::from(u32::MAX), others));
    (first, second + usize::from(second >= first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_candidates_differ_and_every_pair_is_as_likely() {
        fastrand::seed(3);
        assert_eq!(distinct(u64::MAX, 0), (0, 0));
        assert_eq!(distinct(u64::MAX, 1), (0, 0));
        for len in 2..6 {
            let mut seen = vec![0_u32; len * len];
            for _ in 0..len * len * 1_000 {
                let (a, b) = distinct(fastrand::u64(..), len);
                assert!(a != b && a < len && b < len);
                seen[a * len + b] += 1;
            }
            let expected = (len * len * 1_000 / (len * (len - 1))) as f64;
            let pairs = seen.iter().enumerate().filter(|(at, _)| at / len != at % len);
            pairs.for_each(|(_, seen)| assert!((f64::from(*seen) - expected).abs() < 5.0 * expected.sqrt()));
        }
    }
}
