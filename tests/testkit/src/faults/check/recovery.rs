//! Everything comes back, after an outage of any length.

use std::{collections::BTreeMap, time::Duration};

use registry_core::{InstanceKey, Phase};

use super::{
    History, Invariant, Observation, Violation, Want, entries, nothing, outages, some, truths, usable, wanted,
};
use crate::faults::{
    history::Entry,
    verdict::{Figure, Millis},
};

/// R1, re-convergence: `within` after the registry became usable, every record that was wanted by then stands there
/// as it is wanted, and stays; whoever is sampled claims it as live. Records wanted later count from when they were.
///
/// # Errors
///
/// Who isn't back, or came late.
pub fn r1_reconvergence(history: &History, within: Duration) -> Result<Figure, Violation> {
    const R1: Invariant = Invariant::R1;
    let entries = entries(history, R1)?;
    let back = back(&entries, R1, usable(&entries))?;
    if back > within {
        let late =
            format!("back {} after the registry was usable; promised: {}", Millis(back), Millis(within));
        return Err(Violation::new(R1, late));
    }
    Ok(Figure::new("back after", back))
}

/// R5, unlimited recovery: R1 holds after each of the outages, however long.
///
/// # Errors
///
/// After which outage it doesn't.
pub fn r5_unlimited_recovery(history: &History, within: Duration) -> Result<Figure, Violation> {
    const R5: Invariant = Invariant::R5;
    let all = entries(history, R5)?;
    let outages = outages(&all);
    let mut longest = (Duration::ZERO, Duration::ZERO);
    let mut ended = 0;
    for (index, (begin, end)) in outages.iter().enumerate() {
        let Some(end) = end else { continue };
        let next = outages.get(index + 1).map_or(Duration::MAX, |(next, _)| *next);
        let part = entries(&history.until(next), R5)?;
        let length = *end - *begin;
        let back = back(&part, R5, *end)
            .map_err(|v| Violation { what: format!("after {}: {}", Millis(length), v.what), ..v })?;
        if back > within {
            let what = format!("back {} after an outage of {}", Millis(back), Millis(length));
            return Err(Violation::at(R5, *end, what));
        }
        longest = longest.max((length, back));
        ended += 1;
    }
    if ended == 0 {
        return Err(nothing(R5, "no outage has ended"));
    }
    let (length, back) = longest;
    Ok(Figure::new("outages", ended as u64).and("longest", length).and("back after", back))
}

/// How long after `usable` everything wanted stood there for good.
fn back(entries: &[Entry], invariant: Invariant, usable: Duration) -> Result<Duration, Violation> {
    let wanted = wanted(entries);
    if wanted.is_empty() {
        return Err(nothing(invariant, "nothing is wanted"));
    }
    let mut back = None;
    let mut missing = None;
    for (entry, records) in truths(entries).filter(|(entry, _)| entry.until >= usable) {
        let lacks = |(key, want): &(&InstanceKey, &Want)| {
            // What was wanted only after this look was begun counts from the next on.
            want.since <= entry.until && records.get(*key).is_none_or(|there| *there != want.instance)
        };
        let lacking: Vec<_> = wanted.iter().filter(lacks).map(|(key, _)| key).collect();
        if lacking.is_empty() {
            back = back.or(Some(entry.at.saturating_sub(usable)));
            missing = None;
        } else {
            back = None;
            missing = Some((entry.at, some(lacking)));
        }
    }
    if let Some((at, missing)) = missing {
        return Err(Violation::at(invariant, at, format!("missing or outdated: {missing}")));
    }
    let mut back = back.ok_or_else(|| nothing(invariant, "no look at the registry since it was usable"))?;
    // In one pass, as there may be thousands of both; of each the latest claim stays.
    let claims: BTreeMap<_, _> = entries
        .iter()
        .filter_map(|entry| match &entry.what {
            Observation::Status { client, key, phase } => Some(((key, client), (entry, phase))),
            _ => None,
        })
        .collect();
    for (key, want) in &wanted {
        // Of two clients with one id, the one that wanted it last is judged; the other one's claim is not.
        let claim = claims.get(&(key, &want.client)).copied();
        let Some((entry, phase)) = claim else { continue };
        if *phase != Phase::Live {
            let what = format!("{key} stands there and {} says {phase}", want.client);
            return Err(Violation::at(invariant, entry.until, what));
        }
        back = back.max(entry.at.saturating_sub(usable));
    }
    Ok(back)
}
