//! Where requests go while instances fail.

use std::{collections::BTreeMap, time::Duration};

use registry_core::InstanceKey;

use super::{Entry, History, Invariant, Observation, Violation, entries, nothing};
use crate::faults::verdict::Figure;

/// L1, a dead instance: from the first request that it fails until it is ejected, it fails no more than its share of one
/// in `instances`; from then on one request per ejection, which tried whether it is well again.
///
/// # Errors
///
/// When more requests failed, and if the instance failed none or was never ejected.
pub fn l1_dead_instance(
    history: &History,
    caller: &str,
    dead: &InstanceKey,
    instances: u64,
) -> Result<Figure, Violation> {
    const L1: Invariant = Invariant::L1;
    let entries = entries(history, L1)?;
    let failures: Vec<Duration> = entries
        .iter()
        .filter(|entry| is_request(entry, caller, Some(dead)) == Some(false))
        .map(|entry| entry.at)
        .collect();
    let ejections: Vec<Duration> =
        entries.iter().filter(|entry| is_ejection(entry, caller, dead)).map(|e| e.at).collect();
    let Some(first) = failures.first() else { return Err(nothing(L1, "it failed no request")) };
    let Some(ejected) = ejections.first() else { return Err(nothing(L1, "it was never ejected")) };
    let within = |at: &&Duration, from: Duration, to: Duration| **at > from && **at <= to;
    let early = failures.iter().filter(|at| *at <= ejected).count() as u64;
    let requests: u64 = entries
        .iter()
        .filter(|entry| {
            entry.at >= *first && entry.at <= *ejected && is_request(entry, caller, None).is_some()
        })
        .map(|entry| entry.count)
        .sum();
    if early > requests.div_ceil(instances) {
        let what =
            format!("{early} of the first {requests} requests failed, of {instances} instances one is dead");
        return Err(Violation::at(L1, *ejected, what));
    }
    let ends = ejections.iter().skip(1).copied().chain([Duration::MAX]);
    for (from, to) in ejections.iter().copied().zip(ends) {
        let probes = failures.iter().filter(|at| within(at, from, to)).count();
        if probes > 1 {
            return Err(Violation::at(L1, from, format!("{probes} requests failed in one ejection")));
        }
    }
    Ok(Figure::new("failed until ejected", early)
        .and("of", requests)
        .and("probes", failures.len() as u64 - early)
        .and("ejections", ejections.len()))
}

/// L2, fail open: every pick gives an instance, and never more than a tenth are ejected, though one of three or more;
/// of fewer, none.
///
/// # Errors
///
/// When a pick gave none, or how many were ejected.
pub fn l2_fail_open(history: &History, caller: &str) -> Result<Figure, Violation> {
    const L2: Invariant = Invariant::L2;
    let entries = entries(history, L2)?;
    let (mut picks, mut samples, mut most) = (0, 0, 0);
    let mut served: BTreeMap<&InstanceKey, u64> = BTreeMap::new();
    let mut panics = 0_usize;
    for entry in &entries {
        match &entry.what {
            Observation::Pick { reader, ok, .. } if **reader == *caller => {
                if !ok {
                    return Err(Violation::at(L2, entry.at, "nothing was picked"));
                }
                picks += entry.count;
            }
            Observation::Request { caller: of, instance, .. } if **of == *caller => {
                *served.entry(instance).or_default() += entry.count;
            }
            Observation::Panic { caller: of, on: true } if **of == *caller => panics += 1,
            Observation::Ejections { caller: of, ejected, serving } if **of == *caller => {
                let bound = if *serving < 3 { 0 } else { (*serving / 10).max(1) };
                if *ejected > bound {
                    return Err(Violation::at(L2, entry.at, format!("{ejected} of {serving} are ejected")));
                }
                samples += entry.count;
                most = most.max(*ejected);
            }
            _ => {}
        }
    }
    if picks == 0 || samples == 0 {
        return Err(nothing(L2, "nobody picked, or nobody looked who is ejected"));
    }
    Ok(Figure::new("picks", picks)
        .and("instances tried", served.len())
        .and("most ejected", most)
        .and("panics", panics))
}

/// How a request of this caller ended, if it is one, and one to this instance.
fn is_request(entry: &Entry, by: &str, to: Option<&InstanceKey>) -> Option<bool> {
    match &entry.what {
        Observation::Request { caller, instance, ok }
            if **caller == *by && to.is_none_or(|to| to == instance) =>
        {
            Some(*ok)
        }
        _ => None,
    }
}

fn is_ejection(entry: &Entry, by: &str, of: &InstanceKey) -> bool {
    matches!(&entry.what, Observation::Ejected { caller, instance } if **caller == *by && instance == of)
}
