//! R1 to R7.

use registry_core::Deregistration;

use super::*;

fn cut_for_six_seconds() -> Script {
    Script::default()
        .wanted(0.0, "a")
        .registered(0.1, "a")
        .truth(0.1, 4.0, &["a"])
        .status(0.1, 3.0, "a", Phase::Live)
        .outage(1.0)
        .lost(3.9, "a", 1)
        .status(3.1, 3.8, "a", Phase::Suspect)
        .status(3.9, 7.1, "a", Phase::Lost)
        .truth(4.1, 7.0, &[])
        .usable(7.0)
        .truth(7.2, 12.0, &["a"])
        .recovered(7.3, "a", 1)
        .status(7.3, 12.0, "a", Phase::Live)
}

#[test]
fn r1_measures_when_everything_was_back_for_good() {
    let figure = good(r1_reconvergence(&cut_for_six_seconds().0, secs(10.0)));
    assert_eq!(figure, "back after 300 ms");
}

#[test]
fn r1_finds_who_is_late_missing_outdated_or_only_claims() {
    bad(r1_reconvergence(&cut_for_six_seconds().0, secs(0.1)), Invariant::R1, "300 ms");
    let gone_again = cut_for_six_seconds().truth(12.1, 12.5, &[]);
    bad(r1_reconvergence(&gone_again.0, secs(10.0)), Invariant::R1, "orders/a");
    let newer = instance("a").to_builder().metadata("release", "2").build().unwrap();
    let updated =
        cut_for_six_seconds().at(2.0, Observation::Wanted { client: "c".into(), instance: Arc::new(newer) });
    bad(r1_reconvergence(&updated.0, secs(10.0)), Invariant::R1, "outdated");
    let unsure = cut_for_six_seconds().status(12.1, 12.2, "a", Phase::Lost);
    bad(r1_reconvergence(&unsure.0, secs(10.0)), Invariant::R1, "says lost");
    bad(r1_reconvergence(&Script::default().0, TTL), Invariant::R1, "not judged");
    let unseen = Script::default().wanted(0.0, "a").truth(0.0, 1.0, &["a"]).usable(2.0);
    bad(r1_reconvergence(&unseen.0, TTL), Invariant::R1, "not judged");
}

#[test]
fn r2_wants_three_times_to_live_without_a_ghost() {
    let left = || Script::default().wanted(0.0, "a").truth(0.0, 1.0, &["a"]).unwanted(1.0, "a", true);
    good(r2_no_ghost(&left().truth(1.1, 10.2, &[]).0, TTL));
    bad(r2_no_ghost(&left().truth(1.1, 5.0, &[]).0, TTL), Invariant::R2, "not judged");
    bad(r2_no_ghost(&left().truth(1.1, 5.0, &[]).truth(5.1, 5.1, &["a"]).0, TTL), Invariant::R2, "4.10 s");
    let unconfirmed = || Script::default().wanted(0.0, "a").unwanted(1.0, "a", false);
    good(r2_no_ghost(&unconfirmed().truth(1.1, 3.9, &["a"]).truth(4.1, 13.2, &[]).0, TTL));
    bad(r2_no_ghost(&unconfirmed().truth(1.1, 4.2, &["a"]).0, TTL), Invariant::R2, "orders/a");
}

#[test]
fn r3_believes_an_honest_status() {
    good(r3_no_false_life(&cut_for_six_seconds().0, TTL, Duration::ZERO));
}

#[test]
fn r3_convicts_by_an_outage_by_renewals_and_by_the_registry() {
    let cut = Script::default().status(0.0, 6.0, "a", Phase::Live).outage(1.0).usable(6.5);
    bad(r3_no_false_life(&cut.0, TTL, Duration::ZERO), Invariant::R3, "cut off");
    let once = Script::default().outage(1.0).status(4.5, 4.5, "a", Phase::Live).usable(6.5);
    bad(r3_no_false_life(&once.0, TTL, Duration::ZERO), Invariant::R3, "cut off");
    // Who gets through while the outage is being ended may be live before it is over for all.
    let early = Script::default()
        .outage(1.0)
        .at(5.0, Observation::Ending("restarting".into()))
        .status(5.5, 6.0, "a", Phase::Live)
        .usable(6.0);
    good(r3_no_false_life(&early.0, TTL, Duration::ZERO));
    let renewal = |sent: f64| Observation::Renewal { client: "c".into(), sent: secs(sent), ok: true };
    let renewed = Script::default().at(0.1, renewal(0.0)).status(0.1, 6.0, "a", Phase::Live);
    bad(r3_no_false_life(&renewed.at(5.0, renewal(4.9)).0, TTL, Duration::ZERO), Invariant::R3, "renewed");
    let steady = Script::default().at(0.1, renewal(0.0)).at(2.0, renewal(1.9)).at(4.0, renewal(3.9)).status(
        0.1,
        6.0,
        "a",
        Phase::Live,
    );
    good(r3_no_false_life(&steady.0, TTL, Duration::ZERO));
    let expired =
        || Script::default().wanted(0.0, "a").status(0.0, 6.0, "a", Phase::Live).truth(0.0, 2.0, &["a"]);
    let absent = |script: Script| script.truth(2.1, 6.0, &[]);
    bad(r3_no_false_life(&absent(expired()).0, TTL, Duration::ZERO), Invariant::R3, "expired");
    // What an operator took away is for the audit to find.
    good(r3_no_false_life(&absent(expired().gone(2.05, "a")).0, TTL, Duration::ZERO));
    bad(r3_no_false_life(&Script::default().0, TTL, Duration::ZERO), Invariant::R3, "not judged");
}

#[test]
fn r4_lets_losses_and_recoveries_alternate_and_nothing_else() {
    let figure = good(r4_callback_discipline(&cut_for_six_seconds().0));
    assert_eq!(figure, "lost 1, recovered 1");
    let twice = cut_for_six_seconds().lost(8.0, "a", 2).lost(8.1, "a", 3);
    bad(r4_callback_discipline(&twice.0), Invariant::R4, "twice");
    let again = cut_for_six_seconds().lost(8.0, "a", 1);
    bad(r4_callback_discipline(&again.0), Invariant::R4, "lost before");
    let unlost = Script::default().recovered(1.0, "a", 1);
    bad(r4_callback_discipline(&unlost.0), Invariant::R4, "no loss");
    let outcome = RegistrationEvent::Deregistered { outcome: Deregistration::Confirmed };
    let late = Script::default().event(1.0, "a", outcome).lost(2.0, "a", 1);
    bad(r4_callback_discipline(&late.0), Invariant::R4, "after the end");
    let lagged = Script::default().event(1.0, "a", RegistrationEvent::Lagged { missed: 3 });
    bad(r4_callback_discipline(&lagged.0), Invariant::R4, "missed");
    let unlasting = Script::default().event(1.0, "a", RegistrationEvent::LossLasts { downtime: TTL });
    bad(r4_callback_discipline(&unlasting.0), Invariant::R4, "without a loss");
    bad(r4_callback_discipline(&Script::default().0), Invariant::R4, "not judged");
}

#[test]
fn losses_are_as_many_as_a_story_expects() {
    let cut = cut_for_six_seconds();
    good(losses(&cut.0, &[key("a")], Losses::OneEach));
    bad(losses(&cut.0, &[key("a")], Losses::None), Invariant::R4, "expected None");
    bad(losses(&cut.0, &[key("a"), key("b")], Losses::OneEach), Invariant::R4, "orders/b");
    good(losses(&cut.0, &[key("b")], Losses::None));
}

#[test]
fn r4_measures_the_longest_pause_between_renewals() {
    let renewal = |sent: f64| Observation::Renewal { client: "c".into(), sent: secs(sent), ok: true };
    let script = || Script::default().at(1.0, renewal(1.0)).at(2.0, renewal(2.0));
    assert_eq!(good(r4_renewal_gap(&script().0, secs(1.2))), "longest pause between renewals 1.00 s");
    bad(r4_renewal_gap(&script().at(4.0, renewal(4.0)).0, secs(1.2)), Invariant::R4, "2.00 s");
    bad(r4_renewal_gap(&Script::default().0, TTL), Invariant::R4, "not judged");
}

#[test]
fn r5_judges_each_outage() {
    let twice = || {
        cut_for_six_seconds().outage(12.0).truth(12.1, 20.0, &[]).usable(20.0).status(
            12.1,
            21.0,
            "a",
            Phase::Lost,
        )
    };
    let back = twice().truth(21.0, 22.0, &["a"]).status(21.1, 22.0, "a", Phase::Live);
    let figure = good(r5_unlimited_recovery(&back.0, secs(10.0)));
    assert_eq!(figure, "outages 2, longest 8.00 s, back after 1.10 s");
    bad(r5_unlimited_recovery(&twice().truth(20.1, 22.0, &[]).0, secs(10.0)), Invariant::R5, "after 8.00 s");
    bad(r5_unlimited_recovery(&Script::default().wanted(0.0, "a").0, TTL), Invariant::R5, "not judged");
}

#[test]
fn r6_wants_all_and_nobody_else() {
    let script = || Script::default().wanted(0.0, "a").wanted(0.0, "b");
    good(r6_completeness(&script().truth(1.0, 1.0, &["a", "b"]).0));
    bad(r6_completeness(&script().truth(1.0, 1.0, &["a"]).0), Invariant::R6, "missing: orders/b");
    bad(r6_completeness(&script().truth(1.0, 1.0, &["a", "b", "c"]).0), Invariant::R6, "orders/c");
    bad(r6_completeness(&script().0), Invariant::R6, "not judged");
}

#[test]
fn r7_finds_who_was_touched_beside_the_one_that_was_hit() {
    let script = || Script::default().wanted(0.0, "a").wanted(0.0, "b").truth(0.0, 1.0, &["a", "b"]);
    let hit = [key("a")];
    good(r7_isolation(&script().lost(1.0, "a", 1).truth(1.1, 2.0, &["b"]).0, &hit));
    bad(r7_isolation(&script().lost(1.0, "b", 1).0, &hit), Invariant::R7, "orders/b was told");
    bad(r7_isolation(&script().truth(1.1, 2.0, &["a"]).0, &hit), Invariant::R7, "orders/b vanished");
    bad(r7_isolation(&script().0, &[key("a"), key("b")]), Invariant::R7, "not judged");
}
