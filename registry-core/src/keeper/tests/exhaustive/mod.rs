//! Every interleaving of a small scope: the machine as it ships, a registry, the wire between them, and a user.
//!
//! Two instances, a few faults and edits. In every state any request on the wire may be carried out and any
//! answer delivered, late ones too; a call may run into its deadline, before or after it was carried out; the
//! registry may fail in each of its ways, until any later instant; the user may edit; and time may go on to whatever
//! is due next. The properties are the [`rules`](super::rules), asked after each of these, and at the end of each
//! path that everything wanted comes back and nothing else is left.
//!
//! | property | asked |
//! |---|---|
//! | R1 back in time, R5 after an outage of any length, R6 all | at each end, with the faults over |
//! | R2 nothing there after `Confirmed` | in each state, and at each end |
//! | R3 never live past the send instant of the last proof plus its time to live | in each state |
//! | R4 `Lost` once per epoch, alternating with `Recovered`; nothing after the end | at each event |
//! | R7 what befalls one instance alone is not told of the other | at each event |

mod print;
mod world;

use std::time::Duration;

use self::world::Checked;
use super::sim::{Sim, millis, secs};
use crate::explore::{Explored, explore};

/// How far to go.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) faults: u8,
    pub(super) edits: u8,
    /// Faults and edits begin before this.
    pub(super) open: Duration,
    /// Outages are over by then.
    pub(super) until: Duration,
}

fn run(name: &str, beats: bool, scope: Scope) -> Explored {
    explore(name, |aloud| {
        let sim = if beats { Sim::heartbeat(1) } else { Sim::new(1) };
        Checked::new(sim, scope, aloud)
    })
}

/// Faults and edits begin while the registration does.
fn scope(faults: u8, edits: u8) -> Scope {
    Scope { faults, edits, open: millis(100), until: secs(17) }
}

#[test]
fn every_interleaving_of_two_instances_and_a_fault_keeps_the_keepers_promises() {
    let explored = run("keeper, one fault", false, scope(1, 0));
    assert!(explored.states > 1_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_two_instances_and_two_edits_keeps_the_keepers_promises() {
    let explored = run("keeper, two edits", false, Scope { open: secs(6), ..scope(0, 2) });
    assert!(explored.states > 1_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_two_instances_a_fault_and_an_edit_keeps_the_keepers_promises() {
    let explored = run("keeper, one fault and one edit", false, scope(1, 1));
    assert!(explored.states > 30_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_two_instances_and_two_faults_keeps_the_keepers_promises() {
    let explored = run("keeper, two faults", false, scope(2, 0));
    assert!(explored.states > 30_000, "{explored:?}");
}
