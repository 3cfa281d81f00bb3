//! The contract of a backend's own watch.

use std::{collections::BTreeMap, sync::Arc};

use registry_core::backend::Change;

use super::{History, Invariant, Observation, Violation, entries, nothing, truths};
use crate::faults::{observation::is_same, verdict::Figure};

/// D5, watch contract, of one watcher over all its sessions: ordered (revisions of what changes rise within a
/// session), unique (no change twice), reliable (a session opens with a `Reset`, or with `Resumed` where an earlier
/// one ended, and the sum of all changes is what the registry holds in the end).
///
/// # Errors
///
/// Which event breaks it.
pub fn d5_watch_contract(history: &History, watcher: &str) -> Result<Figure, Violation> {
    const D5: Invariant = Invariant::D5;
    let entries = entries(history, D5)?;
    let mut records = BTreeMap::new();
    let (mut current, mut last, mut resumed, mut events) = (0, None, 0_u64, 0_u64);
    for entry in &entries {
        let Observation::Watched { watcher: of, session, revision, changes, .. } = &entry.what else {
            continue;
        };
        if **of != *watcher || changes.is_empty() {
            continue;
        }
        events += 1;
        let wrong = |what: &str| {
            Violation::at(D5, entry.at, format!("{watcher}, session {session}: {what}: {changes:?}"))
        };
        let opens = *session != current;
        let marker = matches!(changes[0], Change::Reset(_) | Change::Resumed);
        if opens {
            match changes[0] {
                Change::Reset(_) => last = None,
                Change::Resumed if current > 0 => resumed += 1,
                Change::Resumed => return Err(wrong("resumed without an earlier session")),
                _ => return Err(wrong("opened without a reset or a resumption")),
            }
            current = *session;
        }
        let equal_is_fine = opens || marker;
        if last.is_some() && (*revision < last || *revision == last && !equal_is_fine) {
            return Err(wrong(&format!("revision {revision:?} after {last:?}")));
        }
        last = revision.or(last);
        for change in changes.iter() {
            match change {
                Change::Reset(all) => {
                    records = all.iter().map(|instance| (instance.key(), Arc::clone(instance))).collect();
                }
                Change::Upsert(instance) => {
                    let before = records.insert(instance.key(), Arc::clone(instance));
                    if before.is_some_and(|before| before.is_same_record(instance)) {
                        return Err(wrong("the same record twice"));
                    }
                }
                Change::Remove(key) if records.remove(key).is_none() => {
                    return Err(wrong("removed what was not there"));
                }
                _ => {}
            }
        }
    }
    if events == 0 {
        return Err(nothing(D5, "the watcher has seen nothing"));
    }
    if let Some((entry, truth)) = truths(&entries).last()
        && !is_same(truth, &Arc::new(records.clone()))
    {
        let what = format!("{watcher} sums up to {} records of {}", records.len(), truth.len());
        return Err(Violation::at(D5, entry.until, what));
    }
    Ok(Figure::new("events", events).and("sessions", u64::from(current)).and("resumed", resumed))
}
