//! Sessions, freshness and the disk view on the pure state.

use std::time::Duration;

use super::{super::signal::Input, bench::Bench, *};
use crate::{
    Error, ErrorKind, ViewEvent, ViewState,
    backend::{Capabilities, Consistency, Cursor},
    disk::Stored,
    reflector::ReflectorConfig,
};

fn broken() -> Error {
    Error::new(ErrorKind::Unavailable, "connection reset")
}

fn with_disk(config: ReflectorConfig, ids: &[&str]) -> Bench {
    let mut bench = Bench::with(config, &Capabilities::session(), true);
    assert_eq!(bench.loads, 1);
    let written_at = bench.now.wall - secs(3600);
    let stored =
        Stored { instances: instances(ids), source: Some(SourceId::new("a")), revision: Some(5), written_at };
    bench.send(Input::DiskLoaded(Some(stored)));
    bench
}

// === reconnecting ===

#[test]
fn a_broken_session_is_resumed_by_its_cursor() {
    let mut bench = Bench::serving(&["a", "b"]);
    bench.event(event(vec![], 17));
    bench.fail_with(broken());
    bench.until_opened(secs(3));
    assert_eq!(bench.opened.last().unwrap().1, Some(Cursor::new("17")));
    bench.event(event(vec![Change::Resumed, Change::Remove(key("a"))], 18));
    assert_eq!((bench.ids(), bench.view_state()), (vec!["b".to_owned()], ViewState::Fresh));
}

#[test]
fn compaction_lists_afresh_within_a_second_and_never_shows_an_empty_set() {
    let mut bench = Bench::serving(&["a", "b"]);
    bench.fail_with(Error::new(ErrorKind::Compacted, "the revision is gone"));
    assert_eq!(bench.ids(), ["a", "b"]);
    bench.until_opened(secs(1));
    assert_eq!(bench.opened.last().unwrap().1, None);
    let applied = bench.applied();
    bench.event(reset(&["a", "b"], 90));
    assert_eq!(bench.applied(), applied, "an equal list is no change");
}

#[test]
fn a_session_that_does_not_open_in_time_is_dropped_and_retried() {
    let mut bench = Bench::new();
    bench.advance(secs(5));
    assert!(!bench.open);
    assert_eq!(bench.freshness().last_error.unwrap().kind(), ErrorKind::Timeout);
    bench.until_opened(secs(5));
}

#[test]
fn a_session_that_opens_without_a_list_is_dropped() {
    let mut bench = Bench::new();
    bench.event(Event::default());
    assert_eq!((bench.open, bench.view_state()), (true, ViewState::Loading), "a sign of life is no answer");
    bench.event(event(vec![Change::Resumed], 5));
    assert_eq!((bench.open, bench.view_state()), (false, ViewState::Loading));
}

#[test]
fn the_first_reconnect_is_spread_over_a_sixth_of_the_time_to_live() {
    let mut latest = Duration::ZERO;
    for seed in 0..50 {
        let config = ReflectorConfig { seed: Some(seed), ..ReflectorConfig::default() };
        let mut bench = Bench::with(config, &Capabilities::session(), false);
        bench.event(reset(&["a"], 10));
        bench.advance_alive(secs(20));
        bench.fail_with(broken());
        latest = latest.max(bench.until_opened(secs(4)));
    }
    assert!(latest <= Duration::from_millis(2502) && latest > Duration::from_millis(2000), "{latest:?}");
}

#[test]
fn attempts_go_on_for_ever_and_at_most_five_seconds_apart() {
    let mut bench = Bench::new();
    for _ in 0..500 {
        bench.fail_with(broken());
        assert!(bench.until_opened(secs(6)) <= Duration::from_millis(5001));
    }
}

#[test]
fn a_throttling_registry_is_asked_when_it_wants() {
    let mut bench = Bench::serving(&["a"]);
    bench.fail_with(Error::new(ErrorKind::RateLimited, "too many").with_retry_after(secs(20)));
    assert!(bench.until_opened(secs(30)) >= secs(20));
}

#[test]
fn a_denied_watch_is_retried_each_minute_and_a_refused_credential_ever_slower() {
    let mut bench = Bench::serving(&["a"]);
    bench.fail_with(Error::new(ErrorKind::PermissionDenied, "no"));
    let pause = bench.until_opened(secs(100));
    assert!(pause >= secs(48) && pause <= secs(73), "{pause:?}");
    assert_eq!(bench.freshness().last_error.unwrap().kind(), ErrorKind::PermissionDenied);

    let mut bench = Bench::serving(&["a"]);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        bench.fail_with(Error::new(ErrorKind::Unauthenticated, "wrong password"));
        pauses.push(bench.until_opened(secs(100)));
    }
    assert!(pauses[0] >= Duration::from_millis(500) && pauses[0] <= Duration::from_millis(1002));
    assert!(pauses[19] >= secs(30) && pauses[19] <= secs(61), "{pauses:?}");
}

// === freshness ===

#[test]
fn a_silent_session_is_stale_after_its_proof_time_once_and_reopened() {
    let mut bench = Bench::serving(&["a"]);
    bench.advance(secs(15));
    assert_eq!((bench.view_state(), bench.open), (ViewState::Fresh, true));
    bench.advance(Duration::from_millis(2));
    assert_eq!((bench.view_state(), bench.open), (ViewState::Stale, false));
    bench.advance(secs(600));
    assert_eq!(bench.count(&ViewEvent::Stale), 1);
    bench.until_opened(secs(10));
    bench.event(event(vec![Change::Resumed], 10));
    assert_eq!((bench.view_state(), bench.count(&ViewEvent::Fresh)), (ViewState::Fresh, 1));
}

#[test]
fn a_view_is_loading_until_the_first_list_and_then_fresh() {
    let mut bench = Bench::new();
    assert_eq!((bench.view_state(), bench.freshness().age), (ViewState::Loading, None));
    bench.event(reset(&[], 1));
    assert_eq!(bench.view_state(), ViewState::Fresh, "an empty first list is an answer");
    assert_eq!((bench.applied(), bench.events.clone()), (1, vec![ViewEvent::Fresh]));
}

#[test]
fn reading_is_checked_so_a_stuck_task_cannot_claim_to_be_fresh() {
    let mut bench = Bench::serving(&["a"]);
    bench.jump(secs(16));
    assert_eq!(bench.view_state(), ViewState::Stale);
    assert_eq!(bench.freshness().age, Some(secs(16)));
}

#[test]
fn a_view_expires_once_at_its_limit_and_recovers() {
    let config = ReflectorConfig { max_staleness: Some(secs(60)), ..ReflectorConfig::default() };
    let mut bench = Bench::with(config, &Capabilities::session(), false);
    bench.event(reset(&["a"], 10));
    bench.end();
    bench.advance(secs(60));
    assert_eq!(bench.view_state(), ViewState::Stale);
    bench.advance(secs(600));
    assert_eq!((bench.view_state(), bench.count(&ViewEvent::Expired)), (ViewState::Expired, 1));
    assert_eq!(bench.ids(), ["a"]);
    bench.until_opened(secs(10));
    bench.event(reset(&["a"], 10));
    assert_eq!(bench.view_state(), ViewState::Fresh);
}

#[test]
fn the_age_that_the_registry_admits_counts() {
    let mut bench = Bench::new();
    let mut list = reset(&["a"], 10);
    list.evidence.age = secs(20);
    bench.event(list);
    assert_eq!((bench.view_state(), bench.freshness().age), (ViewState::Stale, Some(secs(20))));
    assert!(bench.open, "the session itself is alive");
}

#[test]
fn one_failed_poll_leaves_a_polled_view_fresh_until_its_proof_is_too_old() {
    let delivery = crate::backend::Delivery::Poll { every: secs(30) };
    let capabilities = Capabilities { delivery, proof_within: secs(90), ..Capabilities::heartbeat() };
    let mut bench = Bench::with(ReflectorConfig::default(), &capabilities, false);
    bench.event(reset(&["a"], 10));
    bench.fail_with(broken());
    assert_eq!(bench.view_state(), ViewState::Fresh);
    bench.advance(secs(91));
    assert_eq!(bench.view_state(), ViewState::Stale);
}

#[test]
fn a_suspended_machine_comes_back_stale_and_reopens_its_session() {
    let mut bench = Bench::serving(&["a"]);
    bench.now.wall += secs(3600);
    assert_eq!(bench.view_state(), ViewState::Stale);
    bench.send(Input::Tick);
    assert!(!bench.open);
    bench.until_opened(secs(5));
}

// === safety relist ===

#[test]
fn the_list_is_read_again_every_five_to_fifteen_minutes_with_the_usual_consistency() {
    let mut bench = Bench::serving(&["a", "b"]);
    bench.advance_alive(secs(290));
    assert!(bench.lookups.is_empty());
    bench.advance_alive(secs(620));
    assert_eq!(bench.lookups.len(), 1);
    assert_eq!(bench.lookups[0].1.consistency, Consistency::Configured);
    bench.answer(Ok(listing(&["a", "c"], 11)));
    assert_eq!(bench.ids(), ["a", "c"], "a missed event is made up for");
    bench.advance_alive(secs(910));
    assert_eq!(bench.lookups.len(), 2);
}

#[test]
fn no_relist_is_asked_for_while_there_is_no_session() {
    let mut bench = Bench::serving(&["a"]);
    bench.end();
    bench.advance(secs(3600));
    assert!(bench.lookups.is_empty());
}

// === disk ===

#[test]
fn the_view_from_disk_is_served_after_the_initial_timeout_and_not_before() {
    let mut bench = with_disk(ReflectorConfig::default(), &["a", "b", "c"]);
    bench.fail_with(broken());
    bench.advance(Duration::from_millis(4999));
    assert_eq!((bench.view_state(), bench.ids().len()), (ViewState::Loading, 0));
    bench.advance(Duration::from_millis(1));
    assert_eq!((bench.view_state(), bench.ids().len()), (ViewState::Disk, 3));
    assert_eq!(bench.events, [ViewEvent::SourceDegraded]);
    assert_eq!(bench.freshness().age, Some(secs(3605)));
    bench.advance(secs(7200));
    assert!(bench.saves.is_empty(), "a view that nobody confirmed isn't saved again");
}

#[test]
fn a_registry_that_answers_in_time_never_lets_the_disk_speak() {
    let mut bench = with_disk(ReflectorConfig::default(), &["old"]);
    bench.event(reset(&["a"], 10));
    bench.advance(secs(6));
    assert_eq!(bench.ids(), ["a"]);
}

#[test]
fn the_first_list_replaces_the_view_from_disk_under_the_guard() {
    let mut bench = with_disk(ReflectorConfig::default(), &["a", "b", "c", "d"]);
    bench.advance(secs(5));
    bench.until_opened(secs(10));
    bench.event(reset(&["a"], 10));
    assert_eq!((bench.view_state(), bench.ids().len(), bench.freshness().held), (ViewState::Fresh, 4, 3));
}

#[test]
fn a_view_from_disk_that_is_older_than_the_limit_is_expired() {
    let config = ReflectorConfig { max_staleness: Some(secs(600)), ..ReflectorConfig::default() };
    let mut bench = with_disk(config, &["a"]);
    bench.advance(secs(5));
    assert_eq!(bench.view_state(), ViewState::Expired);
}

#[test]
fn views_are_saved_a_second_after_a_change_with_what_is_held_and_each_ten_minutes() {
    let mut bench = Bench::with(ReflectorConfig::default(), &Capabilities::session(), true);
    bench.event(reset(&["a", "b", "c"], 10));
    bench.event(reset(&[], 11));
    bench.advance(Duration::from_millis(999));
    assert!(bench.saves.is_empty());
    bench.advance(Duration::from_millis(1));
    assert_eq!(
        (bench.saves.len(), bench.saves[0].instances.len(), bench.saves[0].revision),
        (1, 3, Some(11))
    );
    bench.event(reset(&["a", "b", "c"], 12));
    bench.advance_alive(secs(10));
    assert_eq!(bench.saves.len(), 1, "one save at a time");
    bench.send(Input::DiskSaved(true));
    assert_eq!(bench.saves.len(), 2);
    bench.send(Input::DiskSaved(true));
    bench.advance_alive(secs(610));
    assert_eq!(bench.saves.len(), 3, "unchanged views are written too");
    assert!(bench.state.unsaved().is_some(), "a save that runs may still fail");
    bench.send(Input::DiskSaved(true));
    assert!(bench.state.unsaved().is_none());
    bench.end();
    bench.advance(secs(3600));
    assert_eq!(bench.saves.len(), 3, "but not with a new date while nobody proves them");
}

#[test]
fn a_failed_save_disables_saving_for_a_minute() {
    let mut bench = Bench::with(ReflectorConfig::default(), &Capabilities::session(), true);
    bench.event(reset(&["a"], 10));
    bench.advance(secs(1));
    bench.send(Input::DiskSaved(false));
    bench.event(reset(&["a", "b"], 11));
    bench.advance_alive(secs(59));
    assert_eq!(bench.saves.len(), 1);
    bench.advance_alive(secs(1));
    assert_eq!(bench.saves.len(), 2);
}

#[test]
fn an_older_event_that_is_repeated_doesnt_take_the_cursor_back() {
    let mut bench = Bench::serving(&["a", "b"]);
    bench.event(removal(&["a"], 11));
    bench.event(removal(&["b"], 12));
    bench.event(removal(&["a"], 11));
    bench.end();
    bench.until_opened(secs(10));
    let (_, cursor) = bench.opened.last().cloned().unwrap();
    assert_eq!(cursor, Some(Cursor::new("12")));
}

#[test]
fn a_view_says_whether_the_registry_left_something_out() {
    let mut bench = Bench::serving(&["a"]);
    assert!(!bench.freshness().partial);
    let mut some = reset(&["a"], 11);
    some.evidence.partial = true;
    bench.event(some);
    assert!(bench.freshness().partial);
    bench.fail_with(broken());
    assert!(bench.freshness().partial, "what is served is what was told");
    bench.until_opened(secs(6));
    bench.event(reset(&["a"], 12));
    assert!(!bench.freshness().partial);
}
