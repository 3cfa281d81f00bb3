//! The hot path.

use std::time::Duration;

use super::{History, Invariant, Observation, Violation, entries, nothing};
use crate::faults::verdict::{Figure, Millis};

/// D7, the hot path never blocks: whoever picks all the time gets an instance every time, no pick takes longer than
/// `most`, and none fails. On a paused clock `most` is zero: a pick that waited for anything would have moved it. On
/// a real one it is a bound on what the machine takes away from a thread, not on the pick.
///
/// # Errors
///
/// Which pick blocked or failed.
pub fn d7_hot_path(history: &History, reader: &str, most: Duration) -> Result<Figure, Violation> {
    const D7: Invariant = Invariant::D7;
    let entries = entries(history, D7)?;
    let (mut picks, mut longest) = (0, Duration::ZERO);
    for entry in &entries {
        let Observation::Pick { reader: of, ok, took } = &entry.what else { continue };
        if **of != *reader {
            continue;
        }
        if *took > most {
            return Err(Violation::at(D7, entry.at, format!("a pick of {reader} took {}", Millis(*took))));
        }
        if !ok {
            return Err(Violation::at(D7, entry.at, format!("a pick of {reader} failed")));
        }
        picks += entry.count;
        longest = longest.max(*took);
    }
    if picks == 0 {
        return Err(nothing(D7, "nobody picked"));
    }
    Ok(Figure::new("picks", picks).and("slowest", longest))
}
