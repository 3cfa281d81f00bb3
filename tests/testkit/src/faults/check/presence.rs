//! Who has to be in the registry, and who must not.

use std::{collections::BTreeMap, time::Duration};

use registry_core::{InstanceKey, RegistrationEvent};

use super::{History, Invariant, Observation, Violation, entries, nothing, some, truths, usable, wanted};
use crate::faults::verdict::{Figure, Millis};

/// R2, no ghost: a record whose withdrawal was confirmed never reappears; an unconfirmed one is gone after `ttl`, counted
/// from when the registry was usable again if it was not: without a quorum nothing expires, and a new leader lets each
/// lease run anew. The registry has to be looked at for three times that long.
///
/// # Errors
///
/// Who was there again.
pub fn r2_no_ghost(history: &History, ttl: Duration) -> Result<Figure, Violation> {
    const R2: Invariant = Invariant::R2;
    let entries = entries(history, R2)?;
    let wanted = wanted(&entries);
    let usable = usable(&entries);
    let mut gone = BTreeMap::new();
    for entry in &entries {
        if let Observation::Unwanted { key, confirmed, .. } = &entry.what
            && !wanted.contains_key(key)
        {
            gone.insert(key, if *confirmed { entry.at } else { entry.at.max(usable) + ttl });
        }
    }
    let Some(latest) = gone.values().max() else { return Err(nothing(R2, "nothing was deregistered")) };
    let mut seen = Duration::ZERO;
    for (entry, records) in truths(&entries) {
        seen = seen.max(entry.until);
        let ghost = gone.iter().find(|(key, since)| entry.until > **since && records.contains_key(**key));
        if let Some((key, since)) = ghost {
            let what = format!("{key} is there {} after it had left", Millis(entry.until - *since));
            return Err(Violation::at(R2, entry.until, what));
        }
    }
    if seen < *latest + 3 * ttl {
        return Err(nothing(
            R2,
            "the registry was not looked at for 3 times to live after the last withdrawal",
        ));
    }
    Ok(Figure::new("withdrawn and never seen again:", gone.len()))
}

/// R6, completeness: in the end the registry holds what is wanted of each service, all of it and nothing else.
///
/// # Errors
///
/// Who is missing or too many.
pub fn r6_completeness(history: &History) -> Result<Figure, Violation> {
    const R6: Invariant = Invariant::R6;
    let entries = entries(history, R6)?;
    let wanted = wanted(&entries);
    let Some((entry, records)) = truths(&entries).last() else {
        return Err(nothing(R6, "no look at the registry"));
    };
    if wanted.is_empty() {
        return Err(nothing(R6, "nothing is wanted"));
    }
    let missing: Vec<_> = wanted.keys().filter(|key| !records.contains_key(*key)).collect();
    if !missing.is_empty() {
        return Err(Violation::at(R6, entry.until, format!("missing: {}", some(missing))));
    }
    let services = |key: &&InstanceKey| wanted.keys().any(|other| other.service == key.service);
    let extra: Vec<_> = records.keys().filter(services).filter(|key| !wanted.contains_key(*key)).collect();
    if !extra.is_empty() {
        return Err(Violation::at(R6, entry.until, format!("nobody wants: {}", some(extra))));
    }
    Ok(Figure::new("registrations", wanted.len()))
}

/// R7, isolation: what happened to `hit` has touched nobody else. The others have told of no loss, refusal or end,
/// and the registry has held each of them from its first appearance on.
///
/// # Errors
///
/// Who was touched.
pub fn r7_isolation(history: &History, hit: &[InstanceKey]) -> Result<Figure, Violation> {
    const R7: Invariant = Invariant::R7;
    let entries = entries(history, R7)?;
    let mut others = wanted(&entries);
    others.retain(|key, _| !hit.contains(key));
    if others.is_empty() {
        return Err(nothing(R7, "there is nobody else"));
    }
    for entry in &entries {
        let Observation::Event { key, event, .. } = &entry.what else { continue };
        let touched = matches!(
            event,
            RegistrationEvent::Lost { .. }
                | RegistrationEvent::Blocked { .. }
                | RegistrationEvent::Deregistered { .. }
        );
        if touched && others.contains_key(key) {
            return Err(Violation::at(R7, entry.at, format!("{key} was told {event:?}")));
        }
    }
    let mut appeared = Vec::new();
    for (entry, records) in truths(&entries) {
        if let Some(key) = appeared.iter().find(|key| !records.contains_key(**key)) {
            return Err(Violation::at(R7, entry.at, format!("{key} vanished from the registry")));
        }
        appeared = others.keys().filter(|key| records.contains_key(*key)).collect();
    }
    if appeared.len() < others.len() {
        return Err(nothing(R7, "some of the others never appeared in the registry"));
    }
    Ok(Figure::new("untouched", others.len()))
}
