//! What readers see.

use std::time::Duration;

use registry_core::ViewState;

use super::{
    History, Invariant, Observation, Violation, entries, nothing, silences, some, truths, usable, views,
};
use crate::faults::{
    observation::is_same,
    verdict::{Figure, Millis},
};

/// D1, never wiped: once a reader has shown an instance, it always shows one, and every pick gives one. Judge a story
/// in which everything really leaves up to that point ([`History::until`]).
///
/// # Errors
///
/// When it was empty.
pub fn d1_never_wiped(history: &History, reader: &str) -> Result<Figure, Violation> {
    const D1: Invariant = Invariant::D1;
    let entries = entries(history, D1)?;
    let (mut samples, mut filled) = (0, None);
    for (entry, view) in views(&entries, reader) {
        if view.records.is_empty() {
            if filled.is_some() {
                return Err(Violation::at(D1, entry.at, format!("the view of {reader} is empty")));
            }
            continue;
        }
        filled = filled.or(Some(entry.at));
        samples += entry.count;
    }
    let Some(filled) = filled else { return Err(nothing(D1, "the view was never filled")) };
    for entry in entries.iter().filter(|entry| entry.at >= filled) {
        if let Observation::Pick { reader: of, ok: false, .. } = &entry.what
            && **of == *reader
        {
            return Err(Violation::at(D1, entry.at, format!("{reader} had nobody to pick")));
        }
    }
    Ok(Figure::new("samples", samples))
}

/// D2, convergence: `within` after the registry became usable and its records changed last, the reader shows exactly
/// those, and says that it is fresh.
///
/// # Errors
///
/// What differs, or that it came late.
pub fn d2_convergence(history: &History, reader: &str, within: Duration) -> Result<Figure, Violation> {
    const D2: Invariant = Invariant::D2;
    let entries = entries(history, D2)?;
    let Some((truth, records)) = truths(&entries).last() else {
        return Err(nothing(D2, "no look at the registry"));
    };
    let quiet = usable(&entries).max(truth.at);
    let mut converged = None;
    let mut last = None;
    for (entry, view) in views(&entries, reader) {
        let right = is_same(&view.records, records) && view.state == ViewState::Fresh;
        converged = if right { converged.or(Some(entry.at)) } else { None };
        last = Some((entry, view));
    }
    let Some((entry, view)) = last else { return Err(nothing(D2, "the reader was not sampled")) };
    let Some(converged) = converged else {
        let missing: Vec<_> = records.keys().filter(|key| !view.records.contains_key(*key)).collect();
        let extra: Vec<_> = view.records.keys().filter(|key| !records.contains_key(*key)).collect();
        let what = format!(
            "the view of {reader} is {} with {} of {} records; missing: {}; too many: {}",
            view.state,
            view.records.len(),
            records.len(),
            some(missing),
            some(extra)
        );
        return Err(Violation::at(D2, entry.until, what));
    };
    let after = converged.saturating_sub(quiet);
    if after > within {
        let what = format!("{reader} shows the truth only after {}", Millis(after));
        return Err(Violation::at(D2, converged, what));
    }
    Ok(Figure::new("reader right after", after))
}

/// D6, staleness shows: `within` after contact was cut in silence, the reader no longer says that it is fresh.
/// Shorter outages are not judged; there has to be a longer one.
///
/// # Errors
///
/// When it still claimed to be fresh.
pub fn d6_staleness_shows(history: &History, reader: &str, within: Duration) -> Result<Figure, Violation> {
    const D6: Invariant = Invariant::D6;
    let entries = entries(history, D6)?;
    let mut slowest = None;
    for (begin, end) in silences(&entries) {
        let end = end.unwrap_or_else(|| history.entries().iter().map(|e| e.until).max().unwrap_or_default());
        if end.saturating_sub(begin) < within {
            continue;
        }
        let during: Vec<_> =
            views(&entries, reader).filter(|(entry, _)| entry.until >= begin && entry.at <= end).collect();
        let stale = during.iter().find(|(_, view)| view.state != ViewState::Fresh);
        let Some((stale, _)) = stale else {
            return Err(Violation::at(D6, end, format!("{reader} never said that its view is stale")));
        };
        let mut fresh = during.iter().filter(|(entry, view)| {
            let (from, to) = (entry.at.max(begin + within), entry.until.min(end));
            view.state == ViewState::Fresh && to.saturating_sub(from) > entry.pause
        });
        if let Some((entry, _)) = fresh.next_back() {
            return Err(Violation::at(
                D6,
                entry.until,
                format!("{reader} still says that its view is fresh"),
            ));
        }
        slowest = slowest.max(Some(stale.at.saturating_sub(begin)));
    }
    match slowest {
        Some(slowest) => Ok(Figure::new("stale after", slowest)),
        None => Err(nothing(D6, "no outage was long enough")),
    }
}

/// D8, explicit single removals: what was deregistered or deleted is gone from the reader's view within `within`.
///
/// # Errors
///
/// Who was still shown.
pub fn d8_single_removals(history: &History, reader: &str, within: Duration) -> Result<Figure, Violation> {
    const D8: Invariant = Invariant::D8;
    let entries = entries(history, D8)?;
    let mut slowest = None;
    for entry in &entries {
        let key = match &entry.what {
            Observation::Gone { key, .. } | Observation::Unwanted { key, confirmed: true, .. } => key,
            _ => continue,
        };
        let mut later = views(&entries, reader).filter(|(view, _)| view.until >= entry.at);
        let without = later.find(|(_, view)| !view.records.contains_key(key));
        let after = without.map(|(view, _)| view.at.saturating_sub(entry.at));
        match after {
            Some(after) if after <= within => slowest = slowest.max(Some(after)),
            Some(after) => {
                let what = format!("{reader} shows {key} for {} after its end", Millis(after));
                return Err(Violation::at(D8, entry.at, what));
            }
            None => {
                let what = format!("{reader} never stops to show {key}");
                return Err(Violation::at(D8, entry.at, what));
            }
        }
    }
    match slowest {
        Some(slowest) => Ok(Figure::new("removed after", slowest)),
        None => Err(nothing(D8, "nothing was removed")),
    }
}
