//! What only long runs have: histories that were compacted, ids that change hands, registries that stood still.

use super::*;

#[test]
fn r1_and_r6_ask_who_wants_an_id_now_whoever_gave_it_up() {
    let rival = Observation::Wanted { client: "rival".into(), instance: instance("a") };
    let history = |compact: bool| {
        let script = Script::default().wanted(0.0, "a").at(1.0, rival.clone()).unwanted(2.0, "a", true);
        if compact {
            script.0.compact();
        }
        script.truth(2.1, 4.0, &["a"]).0
    };
    for compact in [false, true] {
        assert_eq!(good(r6_completeness(&history(compact))), "registrations 1");
        good(r1_reconvergence(&history(compact), secs(10.0)));
    }
}

#[test]
fn r1_does_not_mind_the_claim_of_who_lost_the_id() {
    let rival = Observation::Wanted { client: "rival".into(), instance: instance("a") };
    let claim = Observation::Status { client: "rival".into(), key: key("a"), phase: Phase::Live };
    let script = Script::default().wanted(0.0, "a").at(1.0, rival).at(1.1, claim);
    let script = script.status(1.2, 2.0, "a", Phase::Blocked).truth(1.0, 3.0, &["a"]);
    good(r1_reconvergence(&script.0, secs(10.0)));
}

#[test]
fn r2_counts_an_unconfirmed_withdrawal_from_when_the_registry_was_usable_again() {
    let script = Script::default().wanted(0.0, "a").wanted(0.0, "b").outage(1.0).unwanted(2.0, "a", false);
    let script = script.truth(8.0, 10.0, &["a", "b"]).usable(8.0).truth(10.1, 25.0, &["b"]);
    good(r2_no_ghost(&script.0, TTL));
    let script = Script::default().wanted(0.0, "a").wanted(0.0, "b").outage(1.0).unwanted(2.0, "a", false);
    let script = script.truth(8.0, 11.5, &["a", "b"]).usable(8.0).truth(11.6, 25.0, &["b"]);
    bad(r2_no_ghost(&script.0, TTL), Invariant::R2, "orders/a is there");
}

#[test]
fn r4_takes_the_rest_of_a_compacted_history_for_what_it_is() {
    let begun = || Script::default().registered(0.0, "a").lost(1.0, "a", 1).recovered(2.0, "a", 1);
    let script = begun();
    script.0.compact();
    good(r4_callback_discipline(&script.lost(3.0, "a", 2).recovered(4.0, "a", 2).0));
    let script = begun();
    script.0.compact();
    bad(r4_callback_discipline(&script.recovered(3.0, "a", 2).0), Invariant::R4, "recovered from no loss");
}

#[test]
fn d3_takes_the_last_look_at_a_version_for_its_source() {
    let at = |at: f64, version: u64, revision: u64, source: u8| {
        let mut view = View::new("r", version, of(&["a"]), ViewState::Fresh);
        view.revision = Some(revision);
        view.source = Some(SourceId::new(source.to_string()));
        (at, Observation::View(view))
    };
    let judge = |views: &[(f64, Observation)]| {
        let script = views.iter().fold(Script::default(), |script, (at, view)| script.at(*at, view.clone()));
        d3_revisions(&script.0, "r")
    };
    good(judge(&[at(0.0, 1, 9, 1), at(1.0, 2, 1, 1), at(1.1, 2, 1, 2), at(2.0, 3, 2, 2)]));
    bad(judge(&[at(0.0, 1, 9, 1), at(1.0, 2, 1, 1), at(2.0, 3, 2, 1)]), Invariant::D3, "revision");
}
