//! Who wrote last, told below an operator's edit.
//!
//! What somebody sets in the console is kept beside the instance, by its address: weight, the switch, and all metadata
//! as the console showed them. Servers lay that over every later registration there, whoever registers, until nobody has
//! for a minute, across restarts of theirs. So `sr.by`, like each key that was there, shows the edit's value for as long.
//!
//! A key that the edit doesn't have shows all the same. Each write therefore has one of its own, `sr.w.LIFE.EPOCH.SEQUENCE`,
//! which says that it was made. Whether it was the last is told by what is beside it:
//!
//! | `sr.by` is | marks are | the last who registered |
//! |---|---|---|
//! | ours | ours | is us |
//! | another's | ours, and others | is us: the others' are the edit's, as its `sr.by` |
//! | ours | ours, and others | is another: ours are the edit's |
//! | any | others only | is another |
//!
//! Source: alibaba/nacos `InstanceOperatorClientImpl`, `ServiceStorage`, `ExpiredMetadataCleaner`; seen on 2.5 and 3.1.

use registry_core::{Incarnation, model::RecordVersion};

/// What the keys of marks begin with.
const MARK: &str = "sr.w.";
/// So many of the digits of a life tell those apart that follow each other at one address.
const DIGITS: usize = 8;

/// The key that says that this was written.
pub(crate) fn mark(version: RecordVersion) -> String {
    let RecordVersion { incarnation, epoch, sequence } = version;
    format!("{MARK}{}.{epoch}.{sequence}", life(incarnation))
}

fn life(incarnation: Incarnation) -> String {
    let digits = incarnation.to_string();
    digits[digits.len() - DIGITS..].to_owned()
}

/// Whether the last who wrote a record is us, by its keys and its `sr.by`.
pub(crate) fn is_by(us: Incarnation, keys: &[String], by: Option<RecordVersion>) -> bool {
    let is_signed = by.is_some_and(|by| by.incarnation == us);
    let life = life(us);
    let is_ours = |mark: &str| mark.split('.').next() == Some(&life);
    let (ours, others): (Vec<&str>, Vec<&str>) =
        keys.iter().filter_map(|key| key.strip_prefix(MARK)).partition(|mark| is_ours(mark));
    match (ours.is_empty(), others.is_empty()) {
        // Somebody else's copy of our record, perhaps; nobody says otherwise.
        (true, true) => is_signed,
        (true, false) => false,
        (false, true) => true,
        (false, false) => !is_signed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(life: u128, sequence: u64) -> RecordVersion {
        RecordVersion { incarnation: Incarnation::from_bits(life), epoch: 3, sequence }
    }

    #[test]
    fn the_last_who_wrote_is_told_below_an_edit() {
        let us = version(1, 2).incarnation;
        for (by, marks, expected) in [
            (Some(version(1, 2)), vec![], true),
            (Some(version(2, 2)), vec![], false),
            (None, vec![], false),
            (Some(version(1, 2)), vec![version(1, 2)], true),
            (None, vec![version(1, 2)], true),
            (Some(version(1, 2)), vec![version(1, 2), version(1, 4)], true),
            (Some(version(2, 2)), vec![version(1, 2)], true),
            (Some(version(2, 2)), vec![version(2, 2), version(1, 2)], true),
            (Some(version(1, 2)), vec![version(2, 2), version(1, 2)], false),
            (Some(version(1, 2)), vec![version(2, 2)], false),
        ] {
            let mut keys: Vec<String> = marks.iter().copied().map(mark).collect();
            keys.push("sr.id".to_owned());
            assert_eq!(is_by(us, &keys, by), expected, "{by:?} {keys:?}");
        }
        assert_eq!(mark(version(0xA11CE, 7)), "sr.w.000a11ce.3.7");
    }
}
