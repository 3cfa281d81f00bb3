//! The pipeline around every policy.

use super::{Dice, PickContext, Rule};
use crate::{
    model::{Instance, InstanceKey},
    snapshot::{Member, Members, Pool, Snapshot},
};

/// How often an instance that was tried is drawn again before the next untried one is taken.
const REDRAWS: u32 = 4;

/// Chooses by the policy among the active members of a snapshot; `None` only if there are none.
#[inline(always)]
pub(crate) fn choose<'a>(
    members: &'a Members,
    rule: &'a Rule,
    context: &PickContext<'_>,
    snapshot: &'a Snapshot,
    dice: &Dice,
) -> Option<&'a Member> {
    if members.is_empty() {
        return None;
    }
    let (at, member) = rule.pick(members, context, 0, dice);
    if members.is_suspect(at) || !context.get_tried().is_empty() {
        return reconsider(members, rule, context, snapshot, dice, at);
    }
    member
}

/// What to do about a suspect, or where some have been tried. Out of the way of the usual pick, which is compiled
/// into its caller.
#[cold]
#[inline(never)]
fn reconsider<'a>(
    members: &'a Members,
    rule: &'a Rule,
    context: &PickContext<'_>,
    snapshot: &'a Snapshot,
    dice: &Dice,
    mut at: usize,
) -> Option<&'a Member> {
    if members.is_suspect(at) {
        at = rule.pick(members, context, 1, dice).0;
    }
    if context.get_tried().is_empty() {
        return members.member(at);
    }
    untried(members, rule, context, snapshot, dice, at)
}

/// An untried member, if there is one that may be used.
fn untried<'a>(
    members: &'a Members,
    rule: &'a Rule,
    context: &PickContext<'_>,
    snapshot: &'a Snapshot,
    dice: &Dice,
    mut at: usize,
) -> Option<&'a Member> {
    let is_untried = |member: &&Member| !is_tried(&member.instance, context.get_tried());
    for attempt in 2..2 + REDRAWS {
        if let Some(member) = members.member(at).filter(is_untried) {
            return Some(member);
        }
        at = rule.pick(members, context, attempt, dice).0;
    }
    // Ends after as many steps as instances were tried, plus one.
    let around = || (at..members.len()).chain(0..at).filter_map(|at| members.member(at));
    around()
        .find(is_untried)
        .or_else(|| first_untried(snapshot.pool(Pool::Draining), is_untried))
        .or_else(|| members.member(at))
}

fn first_untried(members: &Members, is_untried: impl Fn(&&Member) -> bool) -> Option<&Member> {
    (0..members.len()).filter_map(|at| members.member(at)).find(is_untried)
}

fn is_tried(instance: &Instance, tried: &[InstanceKey]) -> bool {
    tried.iter().any(|key| key.id == *instance.id() && key.service == *instance.service())
}
