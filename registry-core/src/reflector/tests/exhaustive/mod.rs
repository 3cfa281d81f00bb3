//! Every interleaving of a small scope: the machine as it ships, a registry with a history, and the wire between.
//!
//! Two instances, up to two faults and two edits. A session may open with a list or resume; each revision is
//! delivered on its own, at any time; a lookup is carried out and answered at different times; sessions break, end,
//! fall silent, are compacted, repeat what they said; lists lie; the registry loses its data.
//!
//! | property | asked |
//! |---|---|
//! | D1 no error and no time empties the view or doubts anybody, nor a list before its hold is over | after each choice |
//! | D2 what is served becomes the truth | at each end, with the faults over |
//! | D3 revisions never go back within a source | after each choice |
//! | D4 the folded changes are the set, each makes sense | by the bench, after each step |
//! | D5 a session is resumed exactly where the view stands, and the view is the truth of its revision | after each choice |

mod choice;
mod print;
mod promises;
mod world;

use std::time::Duration;

use self::world::Checked;
use super::secs;
use crate::explore::{Explored, explore, more_edits, more_faults};

/// How far to go.
#[derive(Clone, Copy, Hash)]
pub(super) struct Scope {
    pub(super) faults: u8,
    pub(super) edits: u8,
    /// Faults and edits begin before this.
    pub(super) open: Duration,
    /// Paths are over by then.
    pub(super) until: Duration,
    /// Around how often the target is looked up beside the session.
    pub(super) relist_every: Duration,
}

fn run(name: &str, scope: Scope) -> Explored {
    let scope = Scope { faults: scope.faults + more_faults(), edits: scope.edits + more_edits(), ..scope };
    explore(name, |_| Checked::new(scope))
}

/// A view in its first seconds.
const SCOPE: Scope = Scope { faults: 2, edits: 2, open: secs(6), until: secs(70), relist_every: secs(20) };

#[test]
fn every_interleaving_of_two_instances_and_two_faults_keeps_the_reflectors_promises() {
    let explored = run("reflector, two faults and two edits", SCOPE);
    assert!(explored.states > 50_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_lookups_and_two_faults_keeps_the_reflectors_promises() {
    let scope = Scope { edits: 1, open: secs(4), relist_every: secs(3), ..SCOPE };
    let explored = run("reflector, lookups, two faults and one edit", scope);
    assert!(explored.states > 25_000, "{explored:?}");
}
