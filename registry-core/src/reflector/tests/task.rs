//! The task around the state machine, on the paused clock.

use std::{
    error::Error as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    fake::{Memory, Rig, until},
    *,
};
use crate::{
    Error, ErrorKind, Expiry, ViewEvent, ViewState, disk::DiskView, model::Target, reflector::ReflectorConfig,
};

#[tokio::test(start_paused = true)]
async fn a_view_is_loaded_told_to_its_sinks_and_survives_the_loss_of_its_session() {
    let rig = Rig::new();
    let first = rig.fake.session();
    let reflector = rig.spawn();
    let sink = Arc::new(Memory::default());
    reflector.attach(sink.weak());
    first.send(Ok(reset(&["a", "b"], 5))).await.unwrap();
    reflector.loaded(secs(5)).await.unwrap();
    assert_eq!((sink.len(), reflector.freshness().state), (2, ViewState::Fresh));

    let second = rig.fake.session();
    drop(first);
    until(|| rig.fake.sessions() == 2).await;
    assert_eq!((sink.len(), reflector.freshness().state), (2, ViewState::Stale));
    assert_eq!(rig.fake.cursors.lock().unwrap()[1], Some(Cursor::new("5")));
    second.send(Ok(event(vec![Change::Resumed, Change::Upsert(instance("c"))], 6))).await.unwrap();
    until(|| sink.len() == 3).await;
    assert_eq!(reflector.freshness().state, ViewState::Fresh);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_there_is_not_ready_in_time_with_the_cause() {
    let rig = Rig::new();
    let reflector = rig.spawn();
    let start = Instant::now();
    let error = reflector.loaded(secs(5)).await.unwrap_err();
    assert!(start.elapsed() <= Duration::from_millis(5500));
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(error.source().unwrap().to_string().contains("connection refused"), "{error:#}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_comes_late_is_told_everything_at_once() {
    let rig = Rig::new();
    let session = rig.fake.session();
    session.send(Ok(reset(&["a", "b"], 5))).await.unwrap();
    let reflector = rig.spawn();
    reflector.loaded(secs(5)).await.unwrap();
    let sink = Arc::new(Memory::default());
    reflector.attach(sink.weak());
    assert_eq!((sink.len(), sink.applied.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_events_becomes_few_snapshots() {
    let rig = Rig::new();
    let session = rig.fake.session();
    session.send(Ok(reset(&[], 1))).await.unwrap();
    for n in 0..5_000 {
        let upsert = Change::Upsert(instance(&format!("i{n}")));
        session.send(Ok(event(vec![upsert], 2 + n))).await.unwrap();
    }
    let sink = Arc::new(Memory::default());
    let reflector = rig.spawn();
    reflector.attach(sink.weak());
    until(|| sink.len() == 5_000).await;
    // Tokio makes the task yield after 128 items.
    let applied = sink.applied.load(Ordering::SeqCst);
    assert!(applied <= 5_000 / 128 + 3, "{applied}");
}

#[tokio::test(start_paused = true)]
async fn a_passive_failure_removes_a_suspect() {
    let rig = Rig::new();
    let session = rig.fake.session();
    session.send(Ok(reset(&["a", "b"], 5))).await.unwrap();
    session.send(Ok(reset(&[], 6))).await.unwrap();
    let reflector = rig.spawn();
    let sink = Arc::new(Memory::default());
    reflector.attach(sink.weak());
    reflector.loaded(secs(5)).await.unwrap();
    assert_eq!((sink.len(), reflector.freshness().held), (2, 2));
    reflector.fail(&key("a"));
    until(|| sink.len() == 1).await;
    assert_eq!(reflector.freshness().held, 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_cut_shows_within_the_proof_time() {
    let rig = Rig::new();
    let session = rig.fake.session();
    session.send(Ok(reset(&["a"], 5))).await.unwrap();
    let reflector = rig.spawn();
    reflector.loaded(secs(5)).await.unwrap();
    let mut events = reflector.events();
    let mut changed = reflector.changed();
    let start = Instant::now();
    assert_eq!(events.next().await, Some(ViewEvent::Stale));
    assert!(start.elapsed() <= Duration::from_millis(15_010), "{:?}", start.elapsed());
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    assert_eq!(reflector.freshness().state, ViewState::Stale);
    drop(session);
}

#[tokio::test(start_paused = true)]
async fn an_expired_view_is_refused_only_where_that_was_asked_for() {
    for (expiry, serves) in [(Expiry::Serve, true), (Expiry::Refuse, false)] {
        let rig = Rig::new();
        let session = rig.fake.session();
        session.send(Ok(reset(&["a"], 5))).await.unwrap();
        let config = ReflectorConfig { max_staleness: Some(secs(60)), expiry, ..ReflectorConfig::default() };
        let reflector = rig.spawn_with(config, None);
        reflector.loaded(secs(5)).await.unwrap();
        assert!(reflector.may_serve());
        // Suspended for an hour: the task hasn't run yet, but whoever reads now knows.
        rig.clock.step(3_600_000);
        assert_eq!((reflector.may_serve(), reflector.freshness().state), (serves, ViewState::Expired));
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_panics_is_a_failed_session() {
    let rig = Rig::new();
    *rig.fake.panics.lock().unwrap() = 2;
    let session = rig.fake.session();
    session.send(Ok(reset(&["a"], 5))).await.unwrap();
    let reflector = rig.spawn();
    reflector.loaded(secs(5)).await.unwrap();
    assert_eq!(rig.fake.sessions(), 3);
}

#[tokio::test(start_paused = true)]
async fn lookups_are_at_most_three_at_once_and_end_by_their_deadline() {
    let rig = Rig::new();
    let config = ReflectorConfig { relist_every: secs(4), ..ReflectorConfig::default() };
    let mut reflectors = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..10 {
        let session = rig.fake.session();
        session.send(Ok(reset(&["a"], 5))).await.unwrap();
        let reflector = rig.spawn_with(config, None);
        reflector.loaded(secs(5)).await.unwrap();
        reflectors.push(reflector);
        sessions.push(session);
    }
    until(|| rig.fake.lookups.load(Ordering::SeqCst) >= 4).await;
    assert_eq!(rig.fake.most_looking.load(Ordering::SeqCst), 3);
    until(|| reflectors.iter().all(|r| r.freshness().last_error.is_some())).await;
    let error = reflectors[0].freshness().last_error.unwrap();
    assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unavailable), "{error:#}");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_the_backend_calls_invalid_fails_at_once() {
    let rig = Rig::new();
    let session = rig.fake.session();
    let reflector = rig.spawn();
    session.send(Err(Error::new(ErrorKind::InvalidArgument, "no qualifier named dcc"))).await.unwrap();
    let start = Instant::now();
    let error = reflector.loaded(secs(5)).await.unwrap_err();
    assert_eq!((error.kind(), start.elapsed()), (ErrorKind::InvalidArgument, Duration::ZERO));
}

// === users ===

#[tokio::test(start_paused = true)]
async fn the_task_lingers_after_its_last_user_and_a_new_one_finds_it() {
    let rig = Rig::new();
    let session = rig.fake.session();
    session.send(Ok(reset(&["a"], 5))).await.unwrap();
    let reflector = rig.spawn();
    let (weak, clone) = (reflector.downgrade(), reflector.clone());
    drop(reflector);
    tokio::time::sleep(secs(60)).await;
    assert!(!clone.is_finished(), "a clone is a user too");
    drop(clone);
    tokio::time::sleep(secs(29)).await;
    let again = weak.upgrade().expect("it lingers");
    tokio::time::sleep(secs(60)).await;
    assert!(!again.is_finished());
    drop(again);
    tokio::time::sleep(secs(31)).await;
    assert!(weak.upgrade().is_none());
    rig.tasks.close();
    rig.tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn closing_the_client_ends_the_task_and_all_that_wait_for_it() {
    let rig = Rig::new();
    let reflector = rig.spawn();
    let mut events = reflector.events();
    let waiting = {
        let reflector = reflector.clone();
        tokio::spawn(async move { reflector.loaded(secs(600)).await })
    };
    tokio::time::sleep(secs(1)).await;
    rig.cancel.cancel();
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(events.next().await, None);
    assert!(reflector.is_finished() && reflector.downgrade().upgrade().is_none());
    rig.tasks.close();
    rig.tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_lags_is_told_how_much_it_missed() {
    let rig = Rig::new();
    let session = rig.fake.session();
    session.send(Ok(reset(&["a"], 1))).await.unwrap();
    let reflector = rig.spawn();
    reflector.loaded(secs(5)).await.unwrap();
    let mut events = reflector.events();
    for revision in 0..1_100 {
        let mut bad = event(vec![], 2 + revision);
        bad.rejected = keys(&[&format!("bad{revision}")]);
        session.send(Ok(bad)).await.unwrap();
        until(|| reflector.freshness().rejected == revision + 1).await;
    }
    let Some(ViewEvent::Lagged { missed }) = events.next().await else { panic!("it lagged") };
    assert!(missed >= 76, "{missed}");
}

// === disk ===

#[tokio::test(start_paused = true)]
async fn a_cold_start_without_the_registry_serves_the_view_of_the_last_run() {
    let directory = tempfile::tempdir().unwrap();
    let disk = || DiskView::new(directory.path().join("views"), "fake/services");
    {
        let rig = Rig::new();
        let session = rig.fake.session();
        session.send(Ok(reset(&["a", "b", "c"], 5))).await.unwrap();
        let reflector = rig.spawn_with(ReflectorConfig::default(), Some(disk()));
        reflector.loaded(secs(5)).await.unwrap();
        rig.cancel.cancel();
        rig.tasks.close();
        // What wasn't saved yet is saved at the end.
        rig.tasks.wait().await;
    }
    let rig = Rig::new();
    let reflector = rig.spawn_with(ReflectorConfig::default(), Some(disk()));
    let sink = Arc::new(Memory::default());
    reflector.attach(sink.weak());
    let start = Instant::now();
    reflector.loaded(secs(5)).await.unwrap();
    assert!(start.elapsed() >= secs(5) && start.elapsed() <= Duration::from_millis(5500));
    let freshness = reflector.freshness();
    assert_eq!((sink.len(), freshness.state), (3, ViewState::Disk));
    assert_eq!(freshness.source, Some(SourceId::new("a")));
    assert!(freshness.last_error.is_some());

    let session = rig.fake.session();
    session.send(Ok(reset(&["a"], 6))).await.unwrap();
    until(|| reflector.freshness().state == ViewState::Fresh).await;
    assert_eq!((sink.len(), reflector.freshness().held), (1, 0), "two of three is a small shrink");
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_cannot_be_written_is_no_reason_to_fail() {
    let directory = tempfile::tempdir().unwrap();
    let blocked = directory.path().join("file");
    std::fs::write(&blocked, "not a directory").unwrap();
    let rig = Rig::new();
    let session = rig.fake.session();
    session.send(Ok(reset(&["a"], 5))).await.unwrap();
    let reflector = rig.spawn_with(ReflectorConfig::default(), Some(DiskView::new(blocked, "fake")));
    reflector.loaded(secs(5)).await.unwrap();
    tokio::time::sleep(secs(10)).await;
    assert_eq!(reflector.freshness().state, ViewState::Fresh);
    assert_eq!(reflector.target(), &Target::try_from("orders").unwrap());
}
