//! The pipeline around every policy.

use std::{mem, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Dice, PickContext, Rule};
use crate::{
    model::{Instance, InstanceKey},
    snapshot::{Member, Members, Pool, Share, Snapshot, Standing},
};

/// How often an instance that was tried is drawn again before the next untried one is taken, and one that warms up
/// before it is taken all the same.
const REDRAWS: u32 = 4;
/// The least share of an instance that warms up is one of this many (Envoy's 10 %).
const LEAST: u32 = 10;

/// Two lists that share the requests, as the near one can't take all; neither is empty.
#[derive(Debug)]
pub(crate) struct Spill {
    pub(crate) share: Share,
    pub(crate) near: (Members, Rule),
    pub(crate) far: (Members, Rule),
}

/// Chooses by the policy among the active members of a snapshot; `None` only if there are none. While requests spill,
/// `members` is empty: the usual pick then needs no further question.
#[inline(always)]
pub(crate) fn choose<'a>(
    members: &'a Members,
    rule: &'a Rule,
    context: &PickContext<'_>,
    snapshot: &'a Snapshot,
    spill: &'a Option<Arc<Spill>>,
    dice: &Dice,
) -> Option<&'a Member> {
    if members.is_empty() {
        return elsewhere(context, snapshot, spill, dice);
    }
    let (at, member) = rule.pick(members, context, 0, dice);
    if !members.is_trusted(at) || !context.get_tried().is_empty() {
        return reconsider(members, rule, context, snapshot, dice, at);
    }
    member
}

/// Chooses near or far, and there by the policy. Requests with a key stay on one side, as long as the share is the same.
#[cold]
#[inline(never)]
fn elsewhere<'a>(
    context: &PickContext<'_>,
    snapshot: &'a Snapshot,
    spill: &'a Option<Arc<Spill>>,
    dice: &Dice,
) -> Option<&'a Member> {
    let Spill { share, near, far } = spill.as_deref()?;
    let thrown = match context.get_hash_key() {
        Some(key) => Dice::of(key).below(share.of),
        None => dice.below(share.of),
    };
    let (members, rule) = if thrown < share.near { near } else { far };
    choose(members, rule, context, snapshot, &None, dice)
}

/// What to do about one in doubt, or where some have been tried. Out of the way of the usual pick, which is compiled
/// into its caller.
#[cold]
#[inline(never)]
pub(crate) fn reconsider<'a>(
    members: &'a Members,
    rule: &'a Rule,
    context: &PickContext<'_>,
    snapshot: &'a Snapshot,
    dice: &Dice,
    mut at: usize,
) -> Option<&'a Member> {
    let (mut doubted, mut attempts) = (false, 1);
    while attempts <= REDRAWS {
        let stays = match members.standing(at) {
            Standing::Trusted => true,
            Standing::Suspect => mem::replace(&mut doubted, true),
            Standing::Warming { since } => {
                context.get_hash_key().is_some() || is_warm(since, snapshot.warms_for(), dice)
            }
        };
        if stays {
            break;
        }
        at = rule.pick(members, context, attempts, dice).0;
        attempts += 1;
    }
    if context.get_tried().is_empty() {
        return members.member(at);
    }
    untried(members, rule, context, snapshot, dice, (at, attempts))
}

/// An untried member, if there is one that may be used; `at` was chosen by the last of as many `attempts`. They must be
/// those really made: a hashed policy leaves out an instance for each, and a retry goes where the key goes if its
/// instance is ejected.
fn untried<'a>(
    members: &'a Members,
    rule: &'a Rule,
    context: &PickContext<'_>,
    snapshot: &'a Snapshot,
    dice: &Dice,
    (mut at, attempts): (usize, u32),
) -> Option<&'a Member> {
    let is_untried = |member: &&Member| !is_tried(&member.instance, context.get_tried());
    for attempt in attempts..attempts + REDRAWS {
        if let Some(member) = members.member(at).filter(is_untried) {
            return Some(member);
        }
        at = rule.pick(members, context, attempt, dice).0;
    }
    first_untried(members, at, is_untried)
        .or_else(|| {
            let others = [Pool::Serving, Pool::Far, Pool::Draining].map(|pool| snapshot.pool(pool));
            let others = others.into_iter().filter(|others| !others.is_empty());
            others.filter_map(|others| first_untried(others, dice.below(others.len()), is_untried)).next()
        })
        .or_else(|| members.member(at))
}

/// Ends after as many steps as instances were tried, plus one.
fn first_untried(members: &Members, from: usize, is_untried: impl Fn(&&Member) -> bool) -> Option<&Member> {
    (from..members.len()).chain(0..from).filter_map(|at| members.member(at)).find(is_untried)
}

/// Throws for an instance that warms up.
fn is_warm(since: Instant, window: Duration, dice: &Dice) -> bool {
    let micros = |time: Duration| usize::try_from(time.as_micros()).unwrap_or(usize::MAX);
    let share = since.elapsed().max(window / LEAST);
    share >= window || dice.below(micros(window).max(1)) < micros(share)
}

fn is_tried(instance: &Instance, tried: &[InstanceKey]) -> bool {
    tried.iter().any(|key| key.id == *instance.id() && key.service == *instance.service())
}
