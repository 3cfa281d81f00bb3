//! The order of revisions and the sums of differences.

use std::{collections::BTreeMap, sync::Arc};

use registry_core::{Diff, Instance, InstanceKey};

use super::{History, Invariant, Observation, Violation, entries, nothing, views};
use crate::faults::{history::Entry, observation::is_same, verdict::Figure};

/// D3: within one incarnation of the registry's data the revision of a view never goes back, and neither does its
/// version ever.
///
/// # Errors
///
/// When it went back.
pub fn d3_revisions(history: &History, reader: &str) -> Result<Figure, Violation> {
    const D3: Invariant = Invariant::D3;
    let entries = entries(history, D3)?;
    let mut steps = 0_u64;
    let mut last: Option<&super::View> = None;
    // A reader is asked for its records and for their source one after the other, so a look in between may pair new
    // records with the old source. The last look at a version is right.
    let mut settled: Vec<(&Entry, &super::View)> = Vec::new();
    for (entry, view) in views(&entries, reader) {
        match settled.last_mut() {
            Some(last) if last.1.version == view.version && last.1.revision == view.revision => {
                *last = (entry, view);
            }
            _ => settled.push((entry, view)),
        }
    }
    for (entry, view) in settled {
        if let Some(last) = last {
            if view.version < last.version {
                let what = format!("{reader}: version {} after {}", view.version, last.version);
                return Err(Violation::at(D3, entry.at, what));
            }
            if view.source == last.source && view.revision < last.revision {
                let what = format!("{reader}: revision {:?} after {:?}", view.revision, last.revision);
                return Err(Violation::at(D3, entry.at, what));
            }
        }
        steps += 1;
        last = Some(view);
    }
    if steps == 0 {
        return Err(nothing(D3, "there is no view"));
    }
    Ok(Figure::new("views in order:", steps))
}

/// D4, event algebra: the differences of a reader, applied in order from nothing, give its snapshot after each. None
/// adds what is there or removes what isn't, and versions follow each other.
///
/// # Errors
///
/// Which difference doesn't fit.
pub fn d4_event_algebra(history: &History, reader: &str) -> Result<Figure, Violation> {
    const D4: Invariant = Invariant::D4;
    let entries = entries(history, D4)?;
    let mut folded = BTreeMap::new();
    let (mut version, mut steps) = (0, 0_u64);
    for entry in &entries {
        let Observation::Change { reader: of, diff, records } = &entry.what else { continue };
        if **of != *reader {
            continue;
        }
        let wrong = |what: String| Violation::at(D4, entry.at, format!("{reader}: {what}"));
        if diff.from != version || diff.to <= diff.from {
            return Err(wrong(format!("a step from {} to {} at version {version}", diff.from, diff.to)));
        }
        version = diff.to;
        apply(&mut folded, diff).map_err(wrong)?;
        if !is_same(&Arc::new(folded.clone()), records) {
            return Err(wrong(format!("the sum of differences is not version {version}")));
        }
        steps += 1;
    }
    if steps == 0 {
        return Err(nothing(D4, "no change was recorded"));
    }
    Ok(Figure::new("differences", steps))
}

fn apply(folded: &mut BTreeMap<InstanceKey, Arc<Instance>>, diff: &Diff) -> Result<(), String> {
    for removed in &diff.removed {
        let key = removed.key();
        folded.remove(&key).ok_or_else(|| format!("{key} is removed and was not there"))?;
    }
    for (old, new) in &diff.changed {
        let before = folded.insert(new.key(), Arc::clone(new));
        if !before.is_some_and(|before| before.is_same_record(old)) {
            return Err(format!("{} changed from what it was not", new.key()));
        }
    }
    for added in &diff.added {
        if folded.insert(added.key(), Arc::clone(added)).is_some() {
            return Err(format!("{} is added and was there", added.key()));
        }
    }
    Ok(())
}
