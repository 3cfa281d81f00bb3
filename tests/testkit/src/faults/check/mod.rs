//! One validator per promise: each reads a history and says what it measured, or what was violated and when.
//!
//! A validator that has nothing to judge reports that as a violation too, so that a recorder that never ran can't
//! pass for a promise that was kept.

mod algebra;
mod balance;
mod hot;
mod load;
mod loss;
mod payload;
mod presence;
mod recovery;
mod view;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use registry_core::{Instance, InstanceKey};

pub use self::{
    algebra::{d3_revisions, d4_event_algebra},
    balance::{l1_dead_instance, l2_fail_open},
    hot::d7_hot_path,
    load::{Tolerance, h1_herd, h2_bounded},
    loss::{Losses, losses, r3_no_false_life, r4_callback_discipline, r4_renewal_gap},
    payload::{s1_no_secrets, s2_hostile_payload, x2_cold_start},
    presence::{r2_no_ghost, r6_completeness, r7_isolation},
    recovery::{r1_reconvergence, r5_unlimited_recovery},
    view::{d1_never_wiped, d2_convergence, d6_staleness_shows, d8_single_removals},
    watch::d5_watch_contract,
};
use super::{
    History,
    history::Entry,
    observation::{Observation, Records, View},
    verdict::{Invariant, Violation},
};

/// The entries of a history that is complete.
fn entries(history: &History, invariant: Invariant) -> Result<Vec<Entry>, Violation> {
    match history.dropped() {
        0 => Ok(history.entries()),
        dropped => Err(Violation::new(invariant, format!("not judged: {dropped} observations were dropped"))),
    }
}

fn nothing(invariant: Invariant, what: &str) -> Violation {
    Violation::new(invariant, format!("not judged: {what}"))
}

/// When the registry became usable last; the start, if it always was.
fn usable(entries: &[Entry]) -> Duration {
    let usable = |entry: &&Entry| matches!(entry.what, Observation::Usable(_));
    entries.iter().rev().find(usable).map(|entry| entry.at).unwrap_or_default()
}

/// Times during which the registry couldn't be reached; the last may not have ended.
fn outages(entries: &[Entry]) -> Vec<(Duration, Option<Duration>)> {
    let mut outages: Vec<(Duration, Option<Duration>)> = Vec::new();
    for entry in entries {
        let open = outages.last_mut().filter(|(_, end)| end.is_none());
        match (&entry.what, open) {
            (Observation::Outage(_), None) => outages.push((entry.at, None)),
            (Observation::Usable(_), Some((_, end))) => *end = Some(entry.at),
            _ => {}
        }
    }
    outages
}

/// Times during which nobody got through for sure; the last may not have ended.
fn silences(entries: &[Entry]) -> Vec<(Duration, Option<Duration>)> {
    let mut silences = outages(entries);
    for (begin, end) in &mut silences {
        let ending = entries.iter().find(|entry| {
            matches!(entry.what, Observation::Ending(_))
                && entry.at >= *begin
                && end.is_none_or(|end| entry.at <= end)
        });
        *end = ending.map(|entry| entry.at).or(*end);
    }
    silences
}

/// What is wanted at the end.
struct Want {
    since: Duration,
    client: Arc<str>,
    instance: Arc<Instance>,
}

/// What is wanted at the end. Who has lost its id to another client and then gives it up takes nothing from that one.
fn wanted(entries: &[Entry]) -> BTreeMap<InstanceKey, Want> {
    let mut wanted: BTreeMap<InstanceKey, Want> = BTreeMap::new();
    for entry in entries {
        match &entry.what {
            Observation::Wanted { client, instance } => {
                let (client, instance) = (Arc::clone(client), Arc::clone(instance));
                wanted.insert(instance.key(), Want { since: entry.at, client, instance });
            }
            Observation::Unwanted { client, key, .. }
                if wanted.get(key).is_some_and(|want| want.client == *client) =>
            {
                wanted.remove(key);
            }
            _ => {}
        }
    }
    wanted
}

fn truths(entries: &[Entry]) -> impl DoubleEndedIterator<Item = (&Entry, &Records)> {
    entries.iter().filter_map(|entry| match &entry.what {
        Observation::Truth(records) => Some((entry, records)),
        _ => None,
    })
}

fn views<'a>(
    entries: &'a [Entry],
    reader: &'a str,
) -> impl DoubleEndedIterator<Item = (&'a Entry, &'a View)> {
    entries.iter().filter_map(move |entry| match &entry.what {
        Observation::View(view) if *view.reader == *reader => Some((entry, view)),
        _ => None,
    })
}

/// The first few of them, for a message.
fn some<T: ToString>(names: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN { format!("{} of them: {shown}, …", names.len()) } else { shown }
}

#[cfg(test)]
mod tests;
