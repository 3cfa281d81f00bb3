//! D1 to D8.

use registry_core::{
    Diff,
    backend::{Change, SourceId},
};

use super::*;

#[test]
fn d1_sees_an_empty_view_and_a_failed_pick() {
    let full = || {
        Script::default()
            .view(0.0, 0.5, 0, &[], ViewState::Loading)
            .view(0.6, 2.0, 1, &["a"], ViewState::Fresh)
            .pick(1.0, true, 0.0)
    };
    good(d1_never_wiped(&full().0, "r"));
    bad(d1_never_wiped(&full().view(2.1, 2.1, 2, &[], ViewState::Fresh).0, "r"), Invariant::D1, "empty");
    bad(d1_never_wiped(&full().pick(2.1, false, 0.0).0, "r"), Invariant::D1, "nobody to pick");
    bad(d1_never_wiped(&full().0, "other"), Invariant::D1, "not judged");
}

#[test]
fn d2_compares_the_last_view_with_the_truth() {
    let script = || {
        Script::default()
            .truth(0.0, 1.0, &["a", "b"])
            .view(0.0, 3.0, 1, &["a", "b"], ViewState::Fresh)
            .outage(1.0)
            .usable(3.0)
            .truth(3.1, 5.0, &["a"])
    };
    let right = script().view(3.1, 3.4, 1, &["a", "b"], ViewState::Stale);
    let right = right.view(3.5, 5.0, 2, &["a"], ViewState::Fresh);
    assert_eq!(good(d2_convergence(&right.0, "r", secs(1.0))), "reader right after 400 ms");
    bad(d2_convergence(&right.0, "r", secs(0.1)), Invariant::D2, "only after");
    bad(d2_convergence(&script().0, "r", secs(1.0)), Invariant::D2, "too many: orders/b");
    let stale = script().view(3.1, 5.0, 2, &["a"], ViewState::Stale);
    bad(d2_convergence(&stale.0, "r", secs(1.0)), Invariant::D2, "is stale");
    bad(d2_convergence(&Script::default().0, "r", secs(1.0)), Invariant::D2, "not judged");
}

#[test]
fn d3_takes_a_lower_revision_only_from_another_source() {
    let view = |version, revision, source: &str| {
        let mut view = View::new("r", version, of(&["a"]), ViewState::Fresh);
        view.revision = Some(revision);
        view.source = Some(SourceId::new(source));
        Observation::View(view)
    };
    let script = || Script::default().at(0.0, view(1, 10, "x")).at(1.0, view(2, 11, "x"));
    good(d3_revisions(&script().at(2.0, view(3, 2, "y")).0, "r"));
    bad(d3_revisions(&script().at(2.0, view(3, 10, "x")).0, "r"), Invariant::D3, "revision");
    bad(d3_revisions(&script().at(2.0, view(1, 12, "x")).0, "r"), Invariant::D3, "version");
    bad(d3_revisions(&Script::default().0, "r"), Invariant::D3, "not judged");
}

fn change(from: u64, to: u64, added: &[&str], removed: &[&str], sum: &[&str]) -> Observation {
    let mut diff = Diff::default();
    (diff.from, diff.to) = (from, to);
    diff.added = added.iter().map(|id| instance(id)).collect();
    diff.removed = removed.iter().map(|id| instance(id)).collect();
    Observation::Change { reader: "r".into(), diff: Arc::new(diff), records: of(sum) }
}

#[test]
fn d4_adds_up_differences() {
    let script = || {
        Script::default()
            .at(0.0, change(0, 1, &["a", "b"], &[], &["a", "b"]))
            .at(1.0, change(1, 4, &["c"], &["a"], &["b", "c"]))
    };
    good(d4_event_algebra(&script().0, "r"));
    for (wrong, says) in [
        (change(4, 5, &["c"], &[], &["b", "c"]), "added and was there"),
        (change(4, 5, &[], &["a"], &["b", "c"]), "removed and was not"),
        (change(4, 5, &["d"], &[], &["b", "c"]), "sum"),
        (change(3, 5, &["d"], &[], &["b", "c", "d"]), "a step from 3"),
        (change(4, 4, &[], &[], &["b", "c"]), "a step from 4 to 4"),
    ] {
        bad(d4_event_algebra(&script().at(2.0, wrong).0, "r"), Invariant::D4, says);
    }
    let mut diff = Diff::default();
    (diff.from, diff.to) = (4, 5);
    let other = Arc::new(instance("b").to_builder().weight(7).build().unwrap());
    diff.changed = vec![(Arc::clone(&other), instance("b"))];
    let wrong = Observation::Change { reader: "r".into(), diff: Arc::new(diff), records: of(&["b", "c"]) };
    bad(d4_event_algebra(&script().at(2.0, wrong).0, "r"), Invariant::D4, "what it was not");
    bad(d4_event_algebra(&script().0, "other"), Invariant::D4, "not judged");
}

fn watched(session: u32, revision: u64, changes: Vec<Change>) -> Observation {
    let watcher = "w".into();
    Observation::Watched { watcher, session, revision: Some(revision), source: None, changes: changes.into() }
}

#[test]
fn d5_accepts_sessions_that_open_with_a_reset_or_go_on() {
    let reset = |ids: &[&str]| Change::Reset(ids.iter().map(|id| instance(id)).collect());
    let script = || {
        Script::default()
            .at(0.0, watched(1, 5, vec![reset(&["a"])]))
            .at(1.0, watched(1, 6, vec![Change::Upsert(instance("b"))]))
            .at(2.0, watched(2, 6, vec![Change::Resumed]))
            .at(2.1, watched(2, 7, vec![Change::Remove(key("a"))]))
    };
    let figure = good(d5_watch_contract(&script().truth(3.0, 3.0, &["b"]).0, "w"));
    assert_eq!(figure, "events 4, sessions 2, resumed 1");
    // Another source may be behind, as it says by a reset.
    good(d5_watch_contract(&script().at(3.0, watched(3, 2, vec![reset(&["c"])])).0, "w"));
    for (wrong, says) in [
        (watched(2, 8, vec![Change::Remove(key("a"))]), "was not there"),
        (watched(2, 8, vec![Change::Upsert(instance("b"))]), "twice"),
        (watched(2, 7, vec![Change::Upsert(instance("c"))]), "revision"),
        (watched(3, 8, vec![Change::Upsert(instance("c"))]), "without a reset"),
    ] {
        bad(d5_watch_contract(&script().at(3.0, wrong).0, "w"), Invariant::D5, says);
    }
    let lost = script().truth(3.0, 3.0, &["b", "c"]);
    bad(d5_watch_contract(&lost.0, "w"), Invariant::D5, "1 records of 2");
    let first = Script::default().at(0.0, watched(1, 5, vec![Change::Resumed]));
    bad(d5_watch_contract(&first.0, "w"), Invariant::D5, "without an earlier");
    bad(d5_watch_contract(&Script::default().0, "w"), Invariant::D5, "not judged");
}

#[test]
fn d6_wants_staleness_to_show_in_a_long_silence() {
    let silent = |stale_from: f64| {
        Script::default()
            .view(0.0, stale_from, 1, &["a"], ViewState::Fresh)
            .outage(1.0)
            .view(stale_from + 0.1, 21.0, 1, &["a"], ViewState::Stale)
            .usable(21.0)
    };
    assert_eq!(good(d6_staleness_shows(&silent(14.9).0, "r", secs(15.0))), "stale after 14.00 s");
    bad(d6_staleness_shows(&silent(18.0).0, "r", secs(15.0)), Invariant::D6, "still says");
    let never = Script::default().outage(1.0).usable(21.0).view(0.0, 22.0, 1, &["a"], ViewState::Fresh);
    bad(d6_staleness_shows(&never.0, "r", secs(15.0)), Invariant::D6, "never said");
    let short = Script::default().outage(1.0).usable(2.0).view(0.0, 3.0, 1, &["a"], ViewState::Fresh);
    bad(d6_staleness_shows(&short.0, "r", secs(15.0)), Invariant::D6, "not judged");
}

#[test]
fn d7_wants_every_pick_to_give_somebody_at_once() {
    let script = || Script::default().pick(0.0, true, 0.0).pick(0.1, true, 0.002);
    assert_eq!(good(d7_hot_path(&script().0, "r", secs(0.01))), "picks 2, slowest 2 ms");
    bad(d7_hot_path(&script().0, "r", Duration::ZERO), Invariant::D7, "2 ms");
    bad(d7_hot_path(&script().pick(0.2, false, 0.0).0, "r", secs(0.01)), Invariant::D7, "failed");
    bad(d7_hot_path(&script().0, "other", secs(0.01)), Invariant::D7, "not judged");
}

#[test]
fn d8_wants_single_removals_to_show_soon() {
    let script = |until: f64| {
        Script::default().view(0.0, until, 1, &["a", "b"], ViewState::Fresh).gone(1.0, "a").view(
            until + 0.1,
            5.0,
            2,
            &["b"],
            ViewState::Fresh,
        )
    };
    assert_eq!(good(d8_single_removals(&script(1.2).0, "r", secs(1.0))), "removed after 300 ms");
    bad(d8_single_removals(&script(2.2).0, "r", secs(1.0)), Invariant::D8, "1.30 s");
    let never = Script::default().gone(1.0, "a").view(0.0, 5.0, 1, &["a"], ViewState::Fresh);
    bad(d8_single_removals(&never.0, "r", secs(1.0)), Invariant::D8, "never stops");
    bad(d8_single_removals(&Script::default().0, "r", secs(1.0)), Invariant::D8, "not judged");
}
