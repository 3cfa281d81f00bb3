//! Secrets, hostile records, and a registry that isn't there at the start.

use std::time::Duration;

use registry_core::{ErrorKind, InstanceKey};

use super::{History, Invariant, Observation, Violation, entries, nothing, views};
use crate::faults::verdict::{Figure, Millis};

/// What a call may take beyond its own limit.
const BEYOND: Duration = Duration::from_millis(500);

/// S1, no secret: nothing that was seen, errors and events included, shows one of `secrets`. Logs and files that a
/// story wants judged too are marked into the history.
///
/// # Errors
///
/// Where one was shown; the secret itself is left out.
pub fn s1_no_secrets(history: &History, secrets: &[&str]) -> Result<Figure, Violation> {
    const S1: Invariant = Invariant::S1;
    let entries = entries(history, S1)?;
    if secrets.is_empty() || entries.is_empty() {
        return Err(nothing(S1, "no secrets or nothing was seen"));
    }
    for entry in &entries {
        // The short form is what a report shows, the long one what a debugger would.
        let shown = format!("{entry} {:?}", entry.what);
        if let Some(secret) = secrets.iter().find(|secret| shown.contains(**secret)) {
            let what = format!("a secret is shown: {}", shown.replace(secret, "…"));
            return Err(Violation::at(S1, entry.at, what));
        }
    }
    Ok(Figure::new("entries without a secret:", entries.len()))
}

/// S2, hostile payload: the `good` records are in every view since they first were together, and at least `rejected`
/// bad ones were counted.
///
/// # Errors
///
/// Which good one was missing, or that the bad ones were not counted.
pub fn s2_hostile_payload(
    history: &History,
    reader: &str,
    good: &[InstanceKey],
    rejected: u64,
) -> Result<Figure, Violation> {
    const S2: Invariant = Invariant::S2;
    let entries = entries(history, S2)?;
    let (mut complete, mut counted) = (false, 0);
    for (entry, view) in views(&entries, reader) {
        let missing = good.iter().find(|key| !view.records.contains_key(*key));
        match missing {
            Some(key) if complete => {
                return Err(Violation::at(S2, entry.at, format!("{key} left the view of {reader}")));
            }
            Some(_) => {}
            None => complete = true,
        }
        counted = view.rejected;
    }
    if !complete {
        return Err(nothing(S2, "the good records were never all in the view"));
    }
    if counted < rejected {
        return Err(Violation::new(
            S2,
            format!("{counted} records were counted as rejected, not {rejected}"),
        ));
    }
    Ok(Figure::new("rejected", counted).and("good", good.len()))
}

/// X2, cold start: a call `what` while the registry was away failed, with `kind`, and not later than 0.5 s after its
/// own `limit`.
///
/// # Errors
///
/// How it ended instead.
pub fn x2_cold_start(
    history: &History,
    what: &str,
    kind: ErrorKind,
    limit: Duration,
) -> Result<Figure, Violation> {
    const X2: Invariant = Invariant::X2;
    let entries = entries(history, X2)?;
    let call = entries.iter().find_map(|entry| match &entry.what {
        Observation::Call { what: of, took, outcome } if **of == *what => Some((entry.at, took, outcome)),
        _ => None,
    });
    let Some((at, took, outcome)) = call else { return Err(nothing(X2, "there was no such call")) };
    match outcome {
        Ok(()) => Err(Violation::at(X2, at, format!("{what} succeeded without a registry"))),
        Err(error) if error.kind() != kind => {
            Err(Violation::at(X2, at, format!("{what} failed as {:?}: {error:#}", error.kind())))
        }
        Err(_) if *took > limit + BEYOND => {
            Err(Violation::at(X2, at, format!("{what} failed only after {}", Millis(*took))))
        }
        Err(_) => Ok(Figure::new(&format!("{what} failed after"), *took)),
    }
}
