//! The never-wipe rules by their names.

use std::time::Duration;

use super::{
    super::{guard::Guard, signal::Input},
    bench::Bench,
    *,
};
use crate::{
    Error, ErrorKind, ShrinkGuard, ViewEvent, ViewState,
    backend::{Capabilities, Consistency, Delivery},
    reflector::ReflectorConfig,
};

const TEN: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
const HOLD: Duration = Duration::from_secs(30);

fn guarded(guard: ShrinkGuard) -> Bench {
    let config = ReflectorConfig { shrink_guard: guard, ..ReflectorConfig::default() };
    let mut bench = Bench::with(config, &Capabilities::session(), false);
    bench.event(reset(&TEN, 10));
    bench
}

fn held(bench: &Bench) -> usize {
    bench.freshness().held
}

// === N1 ===

#[test]
fn n1_no_kind_of_error_and_no_end_of_a_session_changes_the_set() {
    use ErrorKind::{
        Closed, Compacted, Conflict, InvalidArgument, LeaseLost, NoInstance, NotReady, PermissionDenied,
        Protocol, RateLimited, Timeout, Unauthenticated, Unavailable,
    };
    for kind in [
        Closed,
        Compacted,
        Conflict,
        InvalidArgument,
        LeaseLost,
        NoInstance,
        NotReady,
        PermissionDenied,
        Protocol,
        RateLimited,
        Timeout,
        Unauthenticated,
        Unavailable,
    ] {
        let mut bench = Bench::serving(&TEN);
        let applied = bench.applied();
        bench.fail_with(Error::new(kind, "no"));
        bench.advance(secs(3600));
        bench.end();
        bench.advance(secs(3600));
        assert_eq!(bench.applied(), applied, "{kind:?}");
        assert_eq!(bench.ids(), TEN, "{kind:?}");
    }
}

#[test]
fn n1_a_lookup_that_fails_changes_nothing_but_the_last_error() {
    let mut bench = Bench::serving(&TEN);
    bench.advance_alive(secs(901));
    bench.answer(Err(Error::new(ErrorKind::PermissionDenied, "filtered")));
    assert_eq!(bench.ids(), TEN);
    assert_eq!(bench.freshness().last_error.unwrap().kind(), ErrorKind::PermissionDenied);
    assert_eq!(bench.view_state(), ViewState::Fresh);
}

// === N2 ===

#[test]
fn n2_an_unreadable_record_keeps_its_previous_version_and_counts_once() {
    let mut bench = Bench::serving(&["a", "b", "c"]);
    for revision in 11..14 {
        let mut list = reset(&["a"], revision);
        list.rejected = keys(&["b", "c", "new"]);
        bench.event(list);
    }
    assert_eq!(bench.ids(), ["a", "b", "c"]);
    assert_eq!((bench.freshness().rejected, held(&bench)), (3, 0));
    assert_eq!(bench.events.len(), 1);
}

#[test]
fn n2_an_unreadable_record_of_a_held_instance_shows_that_it_is_there() {
    let mut bench = Bench::serving(&["a", "b", "c"]);
    bench.event(reset(&[], 11));
    let mut list = reset(&[], 12);
    list.rejected = keys(&["a", "b", "c"]);
    bench.event(list);
    assert_eq!((bench.ids().len(), held(&bench)), (3, 0));
}

#[test]
fn n2_instances_beyond_the_limit_are_rejected_and_counted_and_those_known_stay() {
    let mut guard = Guard::new(ShrinkGuard::default(), secs(15)).with_limit(3);
    let now = tokio::time::Instant::now();
    guard.list(&instances(&["a", "b", "c", "d", "e"]), &[], now);
    guard.list(&instances(&["e", "d", "c", "b", "a"]), &[], now);
    let mut ids: Vec<_> = guard.instances().map(|i| i.id().to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["a", "b", "c"]);
    assert_eq!(guard.rejected(), 2);
}

// === N3 ===

#[test]
fn n3_an_explicit_removal_applies_at_once_even_of_the_last_instance() {
    let mut bench = Bench::serving(&["a", "b"]);
    bench.event(removal(&["a"], 11));
    assert_eq!(bench.ids(), ["b"]);
    bench.event(removal(&["b"], 12));
    assert!(bench.ids().is_empty());
}

#[test]
fn n3_the_removal_that_makes_a_burst_and_all_later_ones_are_held() {
    let mut bench = Bench::serving(&TEN);
    for (step, id) in TEN.iter().enumerate() {
        bench.event(removal(&[id], 11 + step as u64));
        bench.advance(Duration::from_millis(100));
    }
    assert_eq!(bench.ids(), ["f", "g", "h", "i", "j"]);
    assert_eq!(bench.suspects.len(), 5);
    assert_eq!(bench.count(&ViewEvent::SuspiciousShrink { from: 5, to: 4, held: 1 }), 1);
}

#[test]
fn n3_a_mass_expiry_in_one_event_is_a_burst_too() {
    let mut bench = Bench::serving(&TEN);
    bench.event(removal(&TEN, 11));
    assert_eq!((bench.ids().len(), held(&bench)), (5, 5));
}

#[test]
fn n3_a_burst_lasts_as_long_as_its_removals_follow_each_other() {
    let mut bench = Bench::serving(&TEN);
    bench.event(removal(&TEN[..6], 11));
    bench.advance(Duration::from_millis(1900));
    bench.event(removal(&["g"], 12));
    bench.advance(Duration::from_millis(1900));
    bench.event(removal(&["h"], 13));
    assert_eq!(held(&bench), 3);
    bench.advance(secs(2));
    bench.event(removal(&["i"], 14));
    assert_eq!((held(&bench), bench.ids().contains(&"i".to_owned())), (3, false));
}

#[test]
fn n3_removals_that_were_announced_by_draining_are_no_burst() {
    let mut bench = Bench::serving(&TEN);
    bench.event(event(TEN.iter().map(|id| Change::Upsert(draining(id))).collect(), 11));
    bench.event(removal(&TEN, 12));
    assert!(bench.ids().is_empty());
}

#[test]
fn n3_the_same_removals_spread_over_time_are_no_burst() {
    let mut bench = Bench::serving(&TEN);
    for (step, id) in TEN.iter().enumerate() {
        bench.event(removal(&[id], 11 + step as u64));
        bench.advance(Duration::from_millis(1100));
    }
    assert!(bench.ids().is_empty());
}

// === N4 ===

#[test]
fn n4_an_implied_removal_of_everything_is_held_and_marked() {
    let mut bench = Bench::serving(&["a"]);
    bench.event(reset(&[], 11));
    assert_eq!((bench.ids().len(), bench.suspects.len()), (1, 1));
    assert_eq!(bench.events, [ViewEvent::SuspiciousShrink { from: 1, to: 0, held: 1 }]);
}

#[test]
fn n4_an_implied_removal_of_more_than_half_is_held_while_additions_apply() {
    let mut bench = Bench::serving(&TEN);
    bench.event(reset(&["a", "b", "c", "d", "new"], 11));
    assert_eq!((bench.ids().len(), held(&bench)), (11, 6));
    assert!(bench.ids().contains(&"new".to_owned()));
}

#[test]
fn n4_smaller_implied_removals_apply_at_once() {
    let mut bench = Bench::serving(&TEN);
    bench.event(reset(&["a", "b", "c", "d", "e"], 11));
    assert_eq!((bench.ids().len(), held(&bench)), (5, 0));
    let mut bench = Bench::serving(&["a", "b", "c"]);
    bench.event(reset(&["a"], 11));
    assert_eq!(bench.ids(), ["a"]);
}

#[test]
fn n4_the_end_of_the_hold_applies_the_removal() {
    let mut bench = Bench::serving(&TEN);
    bench.event(reset(&[], 11));
    bench.advance_alive(HOLD - secs(1));
    assert_eq!(bench.ids(), TEN);
    bench.advance_alive(secs(2));
    assert!(bench.ids().is_empty());
    assert_eq!(bench.count(&ViewEvent::ShrinkApplied { removed: 10 }), 1);
}

#[test]
fn n4_a_hold_does_not_end_while_the_registry_is_silent() {
    let mut bench = Bench::serving(&TEN);
    bench.event(reset(&[], 11));
    bench.end();
    bench.advance(secs(3600));
    assert_eq!(bench.ids(), TEN);
    bench.until_opened(secs(10));
    bench.event(reset(&[], 11));
    assert!(bench.ids().is_empty(), "the registry still says so, after the hold");
}

#[test]
fn n4_where_lists_are_polled_the_hold_is_at_least_two_intervals() {
    let every = secs(60);
    let capabilities = Capabilities {
        delivery: Delivery::Poll { every },
        proof_within: 3 * every,
        ..Capabilities::heartbeat()
    };
    let mut bench = Bench::with(ReflectorConfig::default(), &capabilities, false);
    bench.event(reset(&TEN, 10));
    bench.event(reset(&[], 11));
    bench.advance(2 * every - secs(1));
    assert_eq!(bench.ids(), TEN);
    bench.event(reset(&[], 12));
    bench.advance(secs(1));
    assert!(bench.ids().is_empty());
}

#[test]
fn n4_announced_instances_leave_at_once_while_the_others_are_held() {
    let mut bench = Bench::serving(&["a", "b", "c", "d"]);
    bench.event(event(vec![Change::Upsert(draining("a"))], 11));
    bench.event(reset(&[], 12));
    assert_eq!((bench.ids(), held(&bench)), (vec!["b".to_owned(), "c".to_owned(), "d".to_owned()], 3));
}

// === N5 ===

#[test]
fn n5_a_second_opinion_is_strong_from_elsewhere_and_not_before_half_the_hold() {
    let mut bench = Bench::serving(&TEN);
    bench.event(reset(&[], 11));
    bench.advance_alive(secs(14));
    assert!(bench.lookups.is_empty());
    bench.advance_alive(secs(1));
    let read = bench.lookups[0].1.clone();
    assert_eq!((read.consistency, read.avoid.as_deref()), (Consistency::Strong, Some("n1")));
    bench.answer(Ok(listing(&[], 12)));
    assert!(bench.ids().is_empty());
    assert_eq!(bench.count(&ViewEvent::ShrinkApplied { removed: 10 }), 1);
}

#[test]
fn n5_a_second_opinion_that_disagrees_releases_the_hold() {
    let mut bench = Bench::serving(&TEN);
    bench.event(reset(&[], 11));
    bench.advance_alive(secs(15));
    bench.answer(Ok(listing(&TEN, 12)));
    assert_eq!((bench.ids().len(), held(&bench)), (10, 0));
    bench.advance_alive(secs(60));
    assert_eq!(bench.ids(), TEN);
}

#[test]
fn n5_a_second_opinion_that_fails_is_asked_for_again() {
    let mut bench = Bench::serving(&TEN);
    bench.event(reset(&[], 11));
    bench.advance_alive(secs(15));
    bench.answer(Err(Error::new(ErrorKind::Timeout, "no answer")));
    assert_eq!(bench.ids(), TEN);
    bench.advance_alive(secs(8));
    assert_eq!(bench.lookups.len(), 2);
    bench.answer(Err(Error::new(ErrorKind::NotFound, "no such service")));
    assert!(bench.ids().is_empty(), "not found agrees");
}

#[test]
fn n5_second_opinions_that_cannot_be_had_are_asked_for_ever_more_seldom() {
    let mut bench = Bench::serving(&TEN);
    bench.event(reset(&[], 11));
    bench.end();
    bench.advance(secs(16));
    for _ in 0..20 {
        bench.answer(Err(Error::new(ErrorKind::Unavailable, "down")));
        bench.advance(secs(46));
    }
    assert_eq!((bench.lookups.len(), bench.ids().len()), (21, 10));
    bench.answer(Err(Error::new(ErrorKind::Unavailable, "down")));
    bench.advance(secs(14));
    assert_eq!(bench.lookups.len(), 21);
}

#[test]
fn n5_a_second_opinion_decides_only_on_what_was_held_long_enough_before_it_was_asked() {
    let mut bench = Bench::serving(&TEN);
    bench.event(reset(&TEN[6..], 11));
    bench.advance_alive(secs(10));
    bench.event(reset(&TEN[8..], 12));
    assert_eq!(held(&bench), 8);
    bench.advance_alive(secs(5));
    bench.answer(Ok(listing(&TEN[8..], 13)));
    assert_eq!((bench.ids(), held(&bench)), (TEN[6..].iter().map(|&id| id.to_owned()).collect(), 2));
}

#[test]
fn n5_a_reappearing_instance_leaves_the_hold() {
    let mut bench = Bench::serving(&["a", "b", "c"]);
    bench.event(reset(&[], 11));
    bench.event(event(vec![Change::Upsert(instance("b"))], 12));
    assert_eq!(bench.suspects.iter().collect::<Vec<_>>(), ["a", "c"]);
    bench.advance_alive(HOLD + secs(1));
    assert_eq!(bench.ids(), ["b"]);
}

#[test]
fn n5_a_passive_failure_removes_a_suspect_right_away_and_nobody_else() {
    let mut bench = Bench::serving(&["a", "b"]);
    bench.send(Input::Failed(key("a")));
    assert_eq!(bench.ids(), ["a", "b"]);
    bench.event(reset(&[], 11));
    bench.send(Input::Failed(key("a")));
    assert_eq!(bench.ids(), ["b"]);
}

// === N6 ===

#[test]
fn n6_after_a_new_incarnation_even_small_removals_are_held_for_two_times_to_live() {
    let mut bench = Bench::serving(&TEN);
    let mut list = reset(&TEN[..9], 1);
    list.evidence.source = Some(SourceId::new("b"));
    bench.event(list);
    assert_eq!((bench.ids().len(), held(&bench)), (10, 1));
    bench.advance_alive(secs(29));
    assert_eq!(held(&bench), 1);
    bench.advance_alive(secs(2));
    assert_eq!(bench.ids(), TEN[..9]);
    assert!(bench.lookups.is_empty(), "a second opinion would only repeat the first");
}

#[test]
fn n6_a_suspicious_removal_after_a_new_incarnation_is_held_for_the_longer_of_both_holds() {
    let config = ReflectorConfig { ttl: secs(60), ..ReflectorConfig::default() };
    let mut bench = Bench::with(config, &Capabilities::session(), false);
    bench.event(reset(&TEN, 10));
    let mut list = reset(&[], 1);
    list.evidence.source = Some(SourceId::new("b"));
    bench.event(list);
    bench.advance_alive(secs(119));
    assert_eq!((bench.ids().len(), bench.lookups.len()), (10, 0));
    bench.advance_alive(secs(2));
    assert!(bench.ids().is_empty());
}

#[test]
fn n6_a_revision_that_goes_back_in_a_list_is_a_new_incarnation() {
    let mut bench = Bench::serving(&TEN);
    bench.end();
    bench.until_opened(secs(5));
    bench.allow_rollback();
    bench.event(reset(&TEN[..9], 3));
    assert_eq!(held(&bench), 1);
    bench.event(event(vec![Change::Upsert(instance("j"))], 4));
    assert_eq!((bench.ids().len(), held(&bench)), (10, 0));
}

#[test]
fn n6_an_event_of_other_data_makes_the_reflector_list_again() {
    let mut bench = Bench::serving(&TEN);
    let mut stray = removal(&TEN, 900);
    stray.evidence.source = Some(SourceId::new("b"));
    bench.event(stray);
    assert_eq!((bench.ids().len(), bench.open), (10, false));
    bench.until_opened(secs(2));
    assert_eq!(bench.opened.last().unwrap().1, None, "without a cursor");
}

// === N7 ===

#[test]
fn n7_not_found_before_any_data_is_an_authoritative_empty() {
    let mut bench = Bench::new();
    bench.fail_with(Error::new(ErrorKind::NotFound, "no such service"));
    assert_eq!((bench.view_state(), bench.applied()), (ViewState::Fresh, 1));
    let again = bench.until_opened(secs(6));
    assert!(again >= secs(1) && again <= secs(5), "{again:?}");
}

#[test]
fn n7_not_found_after_data_is_an_implied_empty() {
    let mut bench = Bench::serving(&TEN);
    bench.fail_with(Error::new(ErrorKind::NotFound, "no such service"));
    assert_eq!((bench.ids().len(), held(&bench)), (10, 10));
    assert!(bench.freshness().last_error.is_none(), "it is an answer");
    for _ in 0..60 {
        bench.until_opened(secs(6));
        bench.fail_with(Error::new(ErrorKind::NotFound, "no such service"));
    }
    assert!(bench.ids().is_empty());
}

// === N8 ===

#[test]
fn n8_off_believes_every_list_and_every_burst() {
    let mut bench = guarded(ShrinkGuard::Off);
    bench.event(reset(&[], 11));
    assert!(bench.ids().is_empty());
    let mut bench = guarded(ShrinkGuard::Off);
    bench.event(removal(&TEN, 11));
    assert!(bench.ids().is_empty());
}

#[test]
fn n8_keep_last_keeps_what_a_list_lacks_for_ever_but_believes_explicit_removals() {
    let mut bench = guarded(ShrinkGuard::KeepLast);
    bench.event(reset(&[], 11));
    bench.advance_alive(secs(2 * 3600));
    assert_eq!(bench.ids(), TEN);
    bench.event(removal(&["a"], 12));
    assert_eq!(bench.ids(), TEN[1..]);
}

// === N9, N10 ===

#[test]
fn n9_an_event_older_than_the_view_is_dropped_and_an_equal_one_changes_nothing() {
    let mut bench = Bench::serving(&TEN);
    let applied = bench.applied();
    bench.event(removal(&["a"], 9));
    bench.event(event(vec![Change::Upsert(instance("a"))], 10));
    assert_eq!((bench.ids().len(), bench.applied()), (10, applied));
}

#[test]
fn n9_a_relist_answered_at_an_older_revision_does_not_undo_newer_events() {
    let mut bench = Bench::serving(&TEN);
    bench.advance_alive(secs(901));
    bench.event(event(vec![Change::Upsert(instance("new"))], 20));
    bench.answer(Ok(listing(&TEN[..9], 19)));
    assert_eq!(bench.ids().len(), 11);
}

#[test]
fn n9_a_relist_that_is_ahead_of_the_watch_is_not_undone_by_it() {
    let mut bench = Bench::serving(&TEN);
    bench.advance_alive(secs(901));
    bench.answer(Ok(listing(&TEN[..9], 20)));
    bench.event(event(vec![Change::Upsert(instance("j"))], 15));
    assert_eq!(bench.ids(), TEN[..9]);
}

#[test]
fn n10_an_answer_without_revision_that_was_overtaken_is_discarded() {
    let mut bench = Bench::serving(&TEN);
    bench.advance_alive(secs(901));
    bench.event(event(vec![Change::Upsert(instance("new"))], 20));
    bench.answer(Ok(Listing::new(instances(&TEN[..9]), Evidence::default())));
    assert_eq!(bench.ids().len(), 11);
}

#[test]
fn n10_an_answer_to_a_lookup_that_was_answered_already_is_discarded() {
    let mut bench = Bench::serving(&TEN);
    bench.advance_alive(secs(901));
    bench.answer(Ok(listing(&TEN, 20)));
    bench.answer(Ok(listing(&TEN[..9], 21)));
    assert_eq!(bench.ids(), TEN);
}

#[test]
fn items_of_a_session_that_was_given_up_are_discarded() {
    let mut bench = Bench::serving(&TEN);
    let old = bench.session();
    bench.end();
    bench.until_opened(secs(5));
    bench.send(Input::Watched { session: old, items: vec![Ok(removal(&TEN, 11))] });
    assert_eq!(bench.ids(), TEN);
}
