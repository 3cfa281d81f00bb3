//! What is asked of the registry, and of the own process.

use std::{collections::BTreeMap, time::Duration};

use super::{History, Invariant, Observation, Violation, entries, nothing, usable};
use crate::faults::verdict::Figure;

/// Width of the windows in which arrivals are counted.
const WINDOW: Duration = Duration::from_millis(100);
/// How long attempts are counted after the registry is usable.
const MINUTE: Duration = Duration::from_secs(60);
/// What one client may attempt in it.
const ATTEMPTS: u64 = 15;

/// H1, no herd: of all attempts that arrive in the minute after the registry is usable again, no 100 ms hold more than
/// a tenth, and no client makes more than 15.
///
/// # Errors
///
/// When they crowded, or who tried too often.
pub fn h1_herd(history: &History) -> Result<Figure, Violation> {
    const H1: Invariant = Invariant::H1;
    let entries = entries(history, H1)?;
    let begin = usable(&entries);
    let mut arrivals = Vec::new();
    let mut per_client: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.at >= begin && entry.at <= begin + MINUTE) {
        if let Observation::Attempt { client } = &entry.what {
            arrivals.push(entry.at);
            *per_client.entry(client).or_default() += 1;
        }
    }
    if arrivals.is_empty() {
        return Err(nothing(H1, "nobody tried anything"));
    }
    if let Some((client, count)) = per_client.iter().find(|(_, count)| **count > ATTEMPTS) {
        return Err(Violation::new(H1, format!("{client} tried {count} times in a minute")));
    }
    let (mut first, mut most, mut when) = (0, 0, begin);
    for (index, at) in arrivals.iter().enumerate() {
        while *at - arrivals[first] >= WINDOW {
            first += 1;
        }
        if index + 1 - first > most {
            (most, when) = (index + 1 - first, arrivals[first]);
        }
    }
    let share = most * 100 / arrivals.len();
    if most * 10 > arrivals.len() {
        let what = format!("{most} of {} attempts came within 100 ms", arrivals.len());
        return Err(Violation::at(H1, when, what));
    }
    let busiest = per_client.values().max().copied().unwrap_or_default();
    Ok(Figure::new("attempts", arrivals.len())
        .and("busiest 100 ms", format!("{share} %"))
        .and("most of one client", busiest))
}

/// What may remain above the baseline: the larger of a share of it and an absolute floor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// In percent of the baseline; 5.
    pub percent: u64,
    /// Tasks; 2, as a runtime's own housekeeping comes and goes.
    pub tasks: usize,
    /// Descriptors; 4, as a resolver or a pool may keep a few.
    pub descriptors: usize,
    /// Bytes; 8 MiB. An allocator gives memory back in its own time, and 5 % of a small test process is less than
    /// one of its arenas: only cycles that together would leak more than that can show a leak.
    pub resident: u64,
}

impl Tolerance {
    /// Only the tasks, which are the runtime's own: descriptors and memory are shared with whatever else the process
    /// does at the same time, such as other tests.
    #[must_use]
    pub fn tasks_only() -> Self {
        Self { descriptors: usize::MAX, resident: u64::MAX, ..Self::default() }
    }
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { percent: 5, tasks: 2, descriptors: 4, resident: 8 << 20 }
    }
}

/// H2, bounded: tasks, descriptors and memory are back at the baseline after all cycles; compares the first with the
/// last [`Resources`](crate::faults::Resources) of the history.
///
/// # Errors
///
/// What has grown.
pub fn h2_bounded(history: &History, tolerance: Tolerance) -> Result<Figure, Violation> {
    const H2: Invariant = Invariant::H2;
    let entries = entries(history, H2)?;
    let samples: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.what {
            Observation::Resources(resources) => Some((entry.at, resources)),
            _ => None,
        })
        .collect();
    let ([(_, before), .., (at, after)], true) = (&samples[..], samples.len() > 1) else {
        return Err(nothing(H2, "there are no two samples of what the process holds"));
    };
    let grown = |before: u64, after: u64, floor: u64| {
        after > before.saturating_add(floor.max(before.saturating_mul(tolerance.percent) / 100))
    };
    let pairs = [
        ("tasks", before.tasks as u64, after.tasks as u64, tolerance.tasks as u64),
        ("descriptors", before.descriptors as u64, after.descriptors as u64, tolerance.descriptors as u64),
        ("bytes", before.resident, after.resident, tolerance.resident),
    ];
    for (what, before, after, floor) in pairs {
        if grown(before, after, floor) {
            return Err(Violation::at(H2, *at, format!("{after} {what} after {before} at the start")));
        }
    }
    let growth = after.resident.saturating_sub(before.resident) / 1024;
    Ok(Figure::new("tasks", after.tasks)
        .and("descriptors", after.descriptors)
        .and("memory", format!("+{growth} KiB")))
}
