//! What is told about losses, and what is claimed of life.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use registry_core::{InstanceKey, Phase, RegistrationEvent};

use super::{History, Invariant, Observation, Violation, entries, nothing, silences, truths};
use crate::faults::{
    history::Entry,
    verdict::{Figure, Millis},
};

/// What registrations are expected to have lived through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// No `Lost` and no `Recovered`.
    None,
    /// Each: one `Lost`, then one `Recovered`.
    OneEach,
}

/// R3, no false life: nobody claims `Live` once the time to live has passed since the last successful renewal was
/// sent. Judged by three witnesses, as far as the history has them:
///
/// - an outage: whoever can't reach the registry has no renewal, so `ttl` + `slack` after its begin nobody is live;
/// - renewals that were recorded, exactly;
/// - the registry itself: whose record it no longer holds, without anybody having removed it, is not live.
///
/// `slack` is for what lies between two samples.
///
/// # Errors
///
/// Who claimed to live.
pub fn r3_no_false_life(history: &History, ttl: Duration, slack: Duration) -> Result<Figure, Violation> {
    const R3: Invariant = Invariant::R3;
    let entries = entries(history, R3)?;
    let silences: Vec<_> = silences(&entries)
        .into_iter()
        .map(|(begin, end)| (begin + ttl + slack, end.unwrap_or(Duration::MAX)))
        .collect();
    let absences = absences(&entries);
    let mut renewed: BTreeMap<&Arc<str>, Vec<(Duration, Duration)>> = BTreeMap::new();
    for entry in &entries {
        if let Observation::Renewal { client, sent, ok: true } = &entry.what {
            let answers = renewed.entry(client).or_default();
            // From when the one before no longer counts to when this one was answered.
            if let Some((from, to)) = answers.last_mut() {
                *to = entry.at;
                *from = (*from).min(*to);
            }
            answers.push((*sent + ttl + slack, Duration::MAX));
        }
    }
    let (mut samples, mut live) = (0, 0);
    for entry in &entries {
        let Observation::Status { client, key, phase } = &entry.what else { continue };
        samples += entry.count;
        if *phase != Phase::Live {
            continue;
        }
        live += entry.count;
        let windows = silences.iter().map(|window| ("cut off", window));
        let windows = windows.chain(renewed.get(client).into_iter().flatten().map(|w| ("not renewed", w)));
        let absences = absences.get(key).into_iter().flatten().map(|w| ("expired", w));
        for (why, (from, to)) in windows.chain(absences) {
            let inside = |at: Duration| at > *from && at < *to;
            let shared = entry.until.min(*to).saturating_sub(entry.at.max(*from));
            // Its first and last sample are known; another lies within for sure if no pause was that long.
            if inside(entry.at) || inside(entry.until) || shared > entry.pause {
                let what = format!("{client} claims that {key} is live, which is {why}");
                return Err(Violation::at(R3, (*from).max(entry.at), what));
            }
        }
    }
    if live == 0 {
        return Err(nothing(R3, "no status was sampled as live"));
    }
    Ok(Figure::new("statuses", samples))
}

/// When the registry was seen without a record that it had held and that nobody removed.
fn absences(entries: &[Entry]) -> BTreeMap<InstanceKey, Vec<(Duration, Duration)>> {
    let mut held = BTreeMap::new();
    let mut absences: BTreeMap<InstanceKey, Vec<(Duration, Duration)>> = BTreeMap::new();
    for (entry, records) in truths(entries) {
        for key in records.keys() {
            held.insert(key.clone(), entry.at);
        }
        for (key, since) in held.iter().filter(|(key, _)| !records.contains_key(*key)) {
            let removed = entries.iter().any(|e| match &e.what {
                // A removal is noted after the fact, which a look may come before.
                Observation::Gone { key: of, .. } | Observation::Unwanted { key: of, .. } => {
                    of == key && e.at >= *since
                }
                _ => false,
            });
            if !removed {
                absences.entry(key.clone()).or_default().push((entry.at, entry.until));
            }
        }
    }
    absences
}

/// R4, callback discipline: at most one `Lost` per registration and epoch, `Lost` and `Recovered` alternate and name
/// each other's epochs, nothing comes after the end, and no event was missed.
///
/// # Errors
///
/// Which event should not have come.
pub fn r4_callback_discipline(history: &History) -> Result<Figure, Violation> {
    const R4: Invariant = Invariant::R4;
    let entries = entries(history, R4)?;
    let (mut lost, mut recovered) = (0_u64, 0_u64);
    let by_registration = by_registration(&entries);
    for ((client, key), events) in &by_registration {
        let mut open = None;
        let mut last = 0;
        let mut over = false;
        // What is left of a compacted history is its end: a recovery whose loss was forgotten.
        let mut begun = !history.is_compacted();
        for (at, event) in events {
            let wrong = |why: &str| Violation::at(R4, *at, format!("{client} on {key}: {event:?}: {why}"));
            match event {
                RegistrationEvent::Registered { .. } => {
                    // Registered anew under the same key, after a withdrawal.
                    (open, last, over) = (None, 0, false);
                    continue;
                }
                _ if over => return Err(wrong("told after the end")),
                RegistrationEvent::Lost { epoch, .. } => {
                    if open.is_some() {
                        return Err(wrong("lost twice without a recovery"));
                    }
                    if *epoch <= last {
                        return Err(wrong("this epoch was lost before"));
                    }
                    (open, last, begun) = (Some(*epoch), *epoch, true);
                    lost += 1;
                }
                RegistrationEvent::Recovered { old_epoch, .. } if !begun => {
                    (last, begun) = (*old_epoch, true);
                }
                RegistrationEvent::Recovered { old_epoch, epoch, .. } => {
                    if open.take() != Some(*old_epoch) {
                        return Err(wrong("recovered from no loss"));
                    }
                    if epoch <= old_epoch {
                        return Err(wrong("recovered into an old epoch"));
                    }
                    recovered += 1;
                }
                RegistrationEvent::LossLasts { .. } if open.is_none() => {
                    return Err(wrong("lasts without a loss"));
                }
                RegistrationEvent::Deregistered { .. } => over = true,
                RegistrationEvent::Lagged { .. } => return Err(wrong("events were missed")),
                _ => {}
            }
        }
    }
    if by_registration.is_empty() {
        return Err(nothing(R4, "no event was recorded"));
    }
    Ok(Figure::new("lost", lost).and("recovered", recovered))
}

/// R4 as one story has it: each of `keys` has lived through `expected`, no more and no less.
///
/// # Errors
///
/// Who was told what instead.
pub fn losses(history: &History, keys: &[InstanceKey], expected: Losses) -> Result<Figure, Violation> {
    const R4: Invariant = Invariant::R4;
    let entries = entries(history, R4)?;
    let told = by_registration(&entries);
    if keys.is_empty() {
        return Err(nothing(R4, "no keys"));
    }
    let mut by_key: BTreeMap<&InstanceKey, Vec<&RegistrationEvent>> = BTreeMap::new();
    for ((_, key), events) in &told {
        by_key.entry(key).or_default().extend(events.iter().map(|(_, event)| *event));
    }
    for key in keys {
        let told: Vec<_> = (by_key.get(key).into_iter().flatten().copied())
            .filter(|e| matches!(e, RegistrationEvent::Lost { .. } | RegistrationEvent::Recovered { .. }))
            .collect();
        let right = match expected {
            Losses::None => told.is_empty(),
            Losses::OneEach => {
                matches!(told[..], [RegistrationEvent::Lost { .. }, RegistrationEvent::Recovered { .. }])
            }
        };
        if !right {
            return Err(Violation::new(R4, format!("{key}: expected {expected:?}, was told {told:?}")));
        }
    }
    Ok(Figure::new("losses each:", if expected == Losses::None { 0_u64 } else { 1 }))
}

/// R4, second half: no observer delays the renewal. Between two renewals of a client no more than `most` passes;
/// 1.2 times the period and one attempt is what is promised.
///
/// # Errors
///
/// Where it took longer.
pub fn r4_renewal_gap(history: &History, most: Duration) -> Result<Figure, Violation> {
    const R4: Invariant = Invariant::R4;
    let entries = entries(history, R4)?;
    let mut last: BTreeMap<&Arc<str>, Duration> = BTreeMap::new();
    let mut longest = None;
    for entry in &entries {
        let Observation::Renewal { client, sent, .. } = &entry.what else { continue };
        if let Some(before) = last.insert(client, *sent) {
            let gap = sent.saturating_sub(before);
            if gap > most {
                let what = format!("{} between two renewals of {client}", Millis(gap));
                return Err(Violation::at(R4, *sent, what));
            }
            longest = longest.max(Some(gap));
        }
    }
    match longest {
        Some(longest) => Ok(Figure::new("longest pause between renewals", longest)),
        None => Err(nothing(R4, "there are no two renewals")),
    }
}

type Told<'a> = BTreeMap<(Arc<str>, InstanceKey), Vec<(Duration, &'a RegistrationEvent)>>;

fn by_registration(entries: &[Entry]) -> Told<'_> {
    let mut told = Told::new();
    for entry in entries {
        if let Observation::Event { client, key, event } = &entry.what {
            told.entry((Arc::clone(client), key.clone())).or_default().push((entry.at, event));
        }
    }
    told
}
