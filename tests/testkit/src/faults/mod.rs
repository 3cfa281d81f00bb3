//! The fault kit: what happens to registrations and readers while a registry fails, written down and judged.
//!
//! - [`History`] takes what is seen: events, claimed statuses, views, picks, changes, and what the registry really
//!   holds, asked past every fault. [`Recorders`] look on their own.
//! - A [`Fleet`] is who is under test: this project's `Client` ([`ClientFleet`]), or somebody's own way to do it. Rows
//!   are written against it, so that both live through the same faults.
//! - The validators, one per promise, read a history and give a [`Figure`] or a [`Violation`]. A history that has
//!   nothing to judge is a violation too.
//! - [`settle`] ends a row: it writes its figure, or saves the history and panics.
//!
//! | promise | validator |
//! |---|---|
//! | R1 everything comes back in time | [`r1_reconvergence`] |
//! | R2 what has left never reappears | [`r2_no_ghost`] |
//! | R3 nobody claims a life that others may not see | [`r3_no_false_life`] |
//! | R4 losses are told once, in order, and delay nothing | [`r4_callback_discipline`], [`losses`], [`r4_renewal_gap`] |
//! | R5 after any length of outage | [`r5_unlimited_recovery`] |
//! | R6 all of them | [`r6_completeness`] |
//! | R7 one's loss is nobody else's | [`r7_isolation`] |
//! | D1 a view is never wiped | [`d1_never_wiped`] |
//! | D2 a view converges | [`d2_convergence`] |
//! | D3 revisions don't go back | [`d3_revisions`] |
//! | D4 differences add up | [`d4_event_algebra`] |
//! | D5 a watch is ordered, unique, reliable, resumable | [`d5_watch_contract`] |
//! | D6 staleness shows | [`d6_staleness_shows`] |
//! | D7 picks never block | [`d7_hot_path`] |
//! | D8 single removals apply at once | [`d8_single_removals`] |
//! | H1 no herd | [`h1_herd`] |
//! | H2 nothing leaks | [`h2_bounded`] |
//! | L1 a dead instance gets its share at first, then probes | [`l1_dead_instance`] |
//! | L2 some instance is always tried, few are ejected | [`l2_fail_open`] |
//! | S1 no secret is shown | [`s1_no_secrets`] |
//! | S2 hostile records hurt nobody | [`s2_hostile_payload`] |
//! | X2 a cold start fails in time | [`x2_cold_start`] |

mod check;
mod client_fleet;
mod fleet;
mod history;
mod notes;
mod observation;
mod recorders;
mod report;
mod resources;
mod verdict;

pub use self::{
    check::{
        Losses, Tolerance, d1_never_wiped, d2_convergence, d3_revisions, d4_event_algebra, d5_watch_contract,
        d6_staleness_shows, d7_hot_path, d8_single_removals, h1_herd, h2_bounded, l1_dead_instance,
        l2_fail_open, losses, r1_reconvergence, r2_no_ghost, r3_no_false_life, r4_callback_discipline,
        r4_renewal_gap, r5_unlimited_recovery, r6_completeness, r7_isolation, s1_no_secrets,
        s2_hostile_payload, x2_cold_start,
    },
    client_fleet::{ClientFleet, ClientFleets, UpstreamReader},
    fleet::{Fleet, FleetFactory, Policy, Reader},
    history::{Entry, History},
    observation::{Observation, Records, View, records},
    recorders::{Recorders, STATUS_EVERY, TRUTH_EVERY, VIEW_EVERY},
    report::{figure, settle},
    resources::Resources,
    verdict::{Figure, Invariant, Value, Violation},
};
