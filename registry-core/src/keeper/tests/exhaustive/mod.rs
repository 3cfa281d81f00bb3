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
//! | R1 `Registered` isn't told of a predecessor's record | at each event |
//! | R2 nothing there after `Confirmed` | in each state, and at each end |
//! | R3 never live past the send instant of the last proof plus its time to live | in each state |
//! | R3 told `Lost` by the first step after that | after each step |
//! | R4 `Lost` once per epoch, alternating with `Recovered`; nothing after the end | at each event |
//! | R7 what befalls one instance alone is not told of the other | at each event |

mod choice;
mod print;
mod promises;
mod world;

use std::time::Duration;

use self::world::Checked;
use super::sim::{Sim, config, millis, secs};
use crate::{
    Capabilities,
    explore::{Explored, explore, more_edits, more_faults},
};

/// Where the exploration begins.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Start {
    /// Both instances have just been asked for.
    Registering,
    /// Both are live, and the first renewal is due in some seconds.
    Settled,
}

/// How far to go.
#[derive(Clone, Copy)]
pub(super) struct Scope {
    pub(super) start: Start,
    pub(super) faults: u8,
    pub(super) edits: u8,
    /// Faults and edits begin before this.
    pub(super) open: Duration,
    /// Outages are over by then.
    pub(super) until: Duration,
    /// Whether only messages get lost, and neither the registry nor the process fails otherwise.
    pub(super) losses: bool,
    /// Whether answers come after their deadlines too, which the task doesn't allow.
    pub(super) late: bool,
}

/// Faults and edits begin while the registration does.
const REGISTERING: Scope = Scope {
    start: Start::Registering,
    faults: 0,
    edits: 0,
    open: millis(100),
    until: secs(17),
    losses: false,
    late: false,
};

/// They begin before the first renewal is sent, or while it is on its way, or just after it was given up.
const SETTLED: Scope = Scope { start: Start::Settled, open: millis(7_700), until: secs(23), ..REGISTERING };

fn run(name: &str, capabilities: &Capabilities, scope: Scope) -> Explored {
    let scope = Scope { faults: scope.faults + more_faults(), edits: scope.edits + more_edits(), ..scope };
    explore(name, |aloud| Checked::new(Sim::with(config(1), capabilities.clone()), scope, aloud))
}

/// A lease that is shared.
fn sessions(name: &str, scope: Scope) -> Explored {
    run(&format!("keeper, {name}"), &Capabilities::session(), scope)
}

/// A beat per instance, and a call per record.
fn beats(name: &str, scope: Scope) -> Explored {
    let capabilities = Capabilities { publish_batch: 1, ..Capabilities::heartbeat() };
    run(&format!("keeper with beats, {name}"), &capabilities, scope)
}

#[test]
fn every_interleaving_of_two_instances_and_a_fault_keeps_the_keepers_promises() {
    // Until a grant that was answered at the last moment has been made use of.
    let scope = Scope { faults: 1, open: millis(3_100), late: true, ..REGISTERING };
    let explored = sessions("registering, one fault, late answers", scope);
    assert!(explored.states > 3_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_two_instances_and_two_edits_keeps_the_keepers_promises() {
    let explored = sessions("registering, two edits", Scope { edits: 2, open: secs(6), ..REGISTERING });
    assert!(explored.states > 20_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_two_instances_a_fault_and_an_edit_keeps_the_keepers_promises() {
    let explored =
        sessions("registering, one fault and one edit", Scope { faults: 1, edits: 1, ..REGISTERING });
    assert!(explored.states > 25_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_two_instances_and_two_faults_keeps_the_keepers_promises() {
    let explored = sessions("registering, two faults", Scope { faults: 2, ..REGISTERING });
    assert!(explored.states > 40_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_two_instances_two_losses_and_two_edits_keeps_the_keepers_promises() {
    let scope = Scope { faults: 2, edits: 2, losses: true, ..REGISTERING };
    let explored = sessions("registering, two losses and two edits", scope);
    assert!(explored.states > 15_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_a_renewal_and_a_fault_keeps_the_keepers_promises() {
    let explored = sessions("renewing, one fault, late answers", Scope { faults: 1, late: true, ..SETTLED });
    assert!(explored.states > 8_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_a_renewal_and_two_faults_keeps_the_keepers_promises() {
    let explored = sessions("renewing, two faults", Scope { faults: 2, open: secs(5), ..SETTLED });
    assert!(explored.states > 15_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_a_renewal_a_fault_and_an_edit_keeps_the_keepers_promises() {
    let explored =
        sessions("renewing, one fault and one edit", Scope { faults: 1, edits: 1, open: secs(5), ..SETTLED });
    assert!(explored.states > 35_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_two_instances_with_beats_and_a_fault_keeps_the_keepers_promises() {
    let explored = beats("registering, one fault", Scope { faults: 1, ..REGISTERING });
    assert!(explored.states > 8_000, "{explored:?}");
}

#[test]
fn every_interleaving_of_a_beat_a_fault_and_an_edit_keeps_the_keepers_promises() {
    let explored =
        beats("renewing, one fault and one edit", Scope { faults: 1, edits: 1, open: secs(5), ..SETTLED });
    assert!(explored.states > 40_000, "{explored:?}");
}
