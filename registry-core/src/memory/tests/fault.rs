use super::*;
use crate::backend::Presence;

fn deadline() -> Instant {
    Instant::now() + secs(5)
}

/// Whether the next item of the watch does not come within a minute.
async fn is_silent(watch: &mut WatchStream) -> bool {
    tokio::time::timeout(secs(60), watch.next()).await.is_err()
}

/// Every call once, as the kinds they fail with.
async fn every_call(memory: &MemoryRegistry, lease: &Arc<dyn Lease>) -> Vec<(Operation, Option<ErrorKind>)> {
    let kind = |result: Result<(), Error>| result.err().map(|e| e.kind());
    vec![
        (Operation::Grant, kind(memory.grant(&Grant::new(TTL, US)).await.map(drop))),
        (Operation::Publish, kinds(&lease.publish(&[record(US, "z")]).await)[0]),
        (Operation::Withdraw, kinds(&lease.withdraw(&[instance("z")]).await)[0]),
        (Operation::Renew, kind(lease.renew(deadline()).await.map(drop))),
        (Operation::Inspect, kind(lease.inspect(&[key("a")]).await.map(drop))),
        (Operation::Lookup, kind(memory.lookup(&target(), &Read::default()).await.map(drop))),
        (Operation::Watch, kind(memory.watch(&target(), None).next().await.unwrap().map(drop))),
        (Operation::Revoke, kind(lease.revoke().await)),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_registry_fails_every_call_and_ends_open_watches() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a"]).await;
    let (mut watch, _) = opened(&memory).await;
    memory.faults().unavailable(true);
    for (operation, kind) in every_call(&memory, &lease).await {
        assert_eq!(kind, Some(ErrorKind::Unavailable), "{operation:?}");
    }
    assert_eq!(end(&mut watch).await, ErrorKind::Unavailable);
    memory.faults().unavailable(false);
    for (operation, kind) in every_call(&memory, &lease).await {
        assert_eq!(kind, None, "{operation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_can_be_limited_to_one_operation() {
    for only in Operation::ALL {
        let memory = MemoryRegistry::new();
        let lease = published(&memory, &["a"]).await;
        memory.faults().on(only).unavailable(true);
        for (operation, kind) in every_call(&memory, &lease).await {
            let expected = (operation == only).then_some(ErrorKind::Unavailable);
            assert_eq!(kind, expected, "{operation:?} while {only:?} is down");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_calls_fail_as_told_and_have_no_effect() {
    let memory = MemoryRegistry::new();
    let lease = lease_of(&memory, US).await;
    memory.faults().fail_next(2, ErrorKind::Unauthenticated);
    assert_eq!(kinds(&lease.publish(&[record(US, "a")]).await), [Some(ErrorKind::Unauthenticated)]);
    assert_eq!(lease.renew(deadline()).await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    lease.renew(deadline()).await.unwrap();
    assert!(ids(&memory).is_empty());

    let throttled = Error::new(ErrorKind::RateLimited, "slow down").with_retry_after(secs(7));
    memory.faults().on(Operation::Renew).fail_next_with(1, &throttled);
    assert_eq!(look(&memory).await.len(), 0, "only renewals fail");
    let error = lease.renew(deadline()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(secs(7))));
    assert_eq!(error.to_string(), "memory renew: slow down");
    lease.renew(deadline()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hanging_registry_answers_nothing_until_it_goes_on() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a"]).await;
    let (mut watch, _) = opened(&memory).await;
    memory.faults().hang(true);
    memory.faults().delete(&key("a"));
    let started = Instant::now();
    let renewal = tokio::spawn({
        let lease = Arc::clone(&lease);
        async move { lease.renew(deadline()).await }
    });
    memory.until(|memory| memory.calls(Operation::Renew) == 1).await;
    assert!(tokio::time::timeout(secs(10), watch.next()).await.is_err(), "no sign of life either");
    assert!(!renewal.is_finished());
    memory.faults().hang(false);
    assert_eq!(renewal.await.unwrap().map(|r| r.ttl).unwrap(), Some(TTL));
    assert_eq!(told(&next(&mut watch).await), "-a");
    assert_eq!(started.elapsed(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn renewals_can_hang_alone_while_the_lease_runs_out() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a"]).await;
    memory.faults().on(Operation::Renew).hang(true);
    assert!(tokio::time::timeout(secs(14), lease.renew(deadline())).await.is_err());
    assert_eq!(look(&memory).await, ["a"]);
    tokio::time::advance(secs(1)).await;
    assert!(look(&memory).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn going_down_ends_what_hangs() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a"]).await;
    memory.faults().hang(true);
    let renewal = tokio::spawn(async move { lease.renew(deadline()).await });
    memory.until(|memory| memory.calls(Operation::Renew) == 1).await;
    memory.faults().unavailable(true);
    assert_eq!(renewal.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_call_takes_effect_late_and_a_late_answer_comes_after_the_effect() {
    let memory = MemoryRegistry::new();
    let lease = lease_of(&memory, US).await;
    let start = Instant::now();
    memory.faults().delay(secs(2));
    lease.publish(&[record(US, "a")]).await;
    assert_eq!(start.elapsed(), secs(2));
    memory.faults().delay(Duration::ZERO);

    memory.faults().on(Operation::Withdraw).answer_late(Duration::MAX);
    let instances = [instance("a")];
    assert!(tokio::time::timeout(secs(1), lease.withdraw(&instances)).await.is_err());
    assert!(ids(&memory).is_empty(), "it happened although no answer came");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_hides_an_effect() {
    let memory = MemoryRegistry::new();
    let lease = lease_of(&memory, US).await;
    memory.faults().lose_answers(true);
    assert_eq!(kinds(&lease.publish(&[record(US, "a")]).await), [Some(ErrorKind::Timeout)]);
    assert_eq!(ids(&memory), ["a"]);
    let orphan = memory.grant(&Grant::new(secs(60), US)).await;
    assert_eq!(orphan.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(memory.lease_count(), 2);
    assert_eq!(lease.revoke().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(memory.lease_count(), 1, "the orphan lives until it expires");
    tokio::time::advance(secs(60)).await;
    assert_eq!(memory.lease_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_with_data_ends_watches_and_starts_the_leases_over() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a"]).await;
    let (mut watch, opening) = opened(&memory).await;
    let source = memory.source();
    tokio::time::advance(secs(14)).await;
    memory.faults().restart();
    assert_eq!(end(&mut watch).await, ErrorKind::Unavailable);
    tokio::time::advance(secs(14)).await;
    assert_eq!(ids(&memory), ["a"]);
    lease.renew(deadline()).await.unwrap();
    assert_eq!(memory.source(), source);
    assert_eq!(told(&next(&mut memory.watch(&target(), opening.cursor)).await), "~");
}

#[tokio::test(start_paused = true)]
async fn lost_data_means_a_new_source_at_revision_zero_and_unknown_leases() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a"]).await;
    let (mut watch, opening) = opened(&memory).await;
    let source = memory.source();
    memory.faults().lose_data();
    assert_eq!(end(&mut watch).await, ErrorKind::Unavailable);
    assert_ne!(memory.source(), source);
    assert_eq!((memory.revision(), memory.lease_count()), (0, 0));
    assert_eq!(lease.renew(deadline()).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(told(&next(&mut memory.watch(&target(), opening.cursor)).await), "=");
    let _lease = published(&memory, &["b"]).await;
    assert_eq!(
        lease.renew(deadline()).await.unwrap_err().kind(),
        ErrorKind::LeaseLost,
        "no lease id comes back"
    );
}

#[tokio::test(start_paused = true)]
async fn forgotten_leases_take_their_records_along_and_orphaned_records_stay() {
    let memory = MemoryRegistry::new();
    let (mut watch, _) = opened(&memory).await;
    let lease = published(&memory, &["a"]).await;
    memory.faults().forget_leases();
    assert_eq!(told(&change(&mut watch).await), "+a");
    assert_eq!(told(&change(&mut watch).await), "-a");
    assert_eq!(lease.renew(deadline()).await.unwrap_err().kind(), ErrorKind::LeaseLost);

    let lease = published(&memory, &["b"]).await;
    memory.faults().orphan_records();
    assert_eq!(lease.renew(deadline()).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(lease.inspect(&[key("b")]).await.unwrap(), [Presence::Missing]);
    tokio::time::advance(TTL * 3).await;
    assert_eq!(ids(&memory), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn an_operator_deletes_one_record_while_the_lease_lives() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a", "b"]).await;
    let (mut watch, _) = opened(&memory).await;
    assert!(memory.faults().delete(&key("a")));
    assert!(!memory.faults().delete(&key("a")));
    assert_eq!(told(&change(&mut watch).await), "-a");
    lease.renew(deadline()).await.unwrap();
    let presence = lease.inspect(&[key("a"), key("b")]).await.unwrap();
    assert_eq!(presence, [Presence::Missing, Presence::Ours { version: version(US, 1) }]);
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_record_is_listed_as_rejected_and_still_expires() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a", "b"]).await;
    let (mut watch, _) = opened(&memory).await;
    memory.faults().corrupt(&key("a"));
    assert_eq!(told(&change(&mut watch).await), "?a");
    let listing = memory.lookup(&target(), &Read::default()).await.unwrap();
    assert_eq!((listing.instances.len(), &listing.rejected[..]), (1, &[key("a")][..]));
    assert_eq!(told(&opened(&memory).await.1), "=b ?a");
    assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Foreign]);
    assert_eq!(told(&change(&mut watch).await), "-a -b");
}

#[tokio::test(start_paused = true)]
async fn somebody_else_s_record_replaces_ours_and_outlives_our_lease() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a", "b"]).await;
    let theirs = (*instance("a")).clone().with_record_version(Some(version(THEM, 1)));
    memory.faults().put_foreign(theirs);
    memory.faults().put_foreign((*instance("b")).clone());
    let presence = lease.inspect(&[key("a"), key("b")]).await.unwrap();
    assert_eq!(presence, [Presence::Foreign, Presence::Foreign], "with another mark or with none");
    lease.revoke().await.unwrap();
    assert_eq!(ids(&memory), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_key_fails_alone_until_it_is_accepted() {
    let memory = MemoryRegistry::new();
    let lease = lease_of(&memory, US).await;
    memory.faults().reject(&key("a"));
    let batch = [record(US, "a"), record(US, "b")];
    assert_eq!(kinds(&lease.publish(&batch).await), [Some(ErrorKind::InvalidArgument), None]);
    memory.faults().accept(&key("a"));
    assert_eq!(kinds(&lease.publish(&batch).await), [None, None]);
    assert_eq!(ids(&memory), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_publication_is_answered_as_success_and_found_by_inspection() {
    let memory = MemoryRegistry::new();
    memory.faults().lose_publishes(true);
    let lease = published(&memory, &["a"]).await;
    assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Missing]);
    memory.faults().lose_publishes(false);
    lease.publish(&[record(US, "a")]).await;
    assert_eq!(ids(&memory), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_false_list_reaches_watches_while_the_data_stays() {
    let memory = MemoryRegistry::new();
    let _lease = published(&memory, &["a", "b", "c"]).await;
    let (mut watch, opening) = opened(&memory).await;
    memory.faults().push_empty(&target());
    let empty = next(&mut watch).await;
    assert_eq!(told(&empty), "=");
    assert!(empty.evidence.revision > opening.evidence.revision, "it is not dropped as old");
    memory.faults().push_partial(&target(), 1);
    assert_eq!(told(&next(&mut watch).await), "=a");
    assert_eq!(look(&memory).await, ["a", "b", "c"], "the second opinion disagrees");
    memory.faults().drop_from_lookups(&target(), Some(1));
    assert_eq!(look(&memory).await, ["a"], "the second opinion agrees");
    assert_eq!(ids(&memory), ["a", "b", "c"]);
    memory.faults().drop_from_lookups(&target(), None);
    memory.faults().push_full(&target());
    assert_eq!(told(&next(&mut watch).await), "=a,b,c");
    assert_eq!(look(&memory).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn events_come_twice_late_or_swapped_as_told() {
    let memory = MemoryRegistry::new();
    let lease = lease_of(&memory, US).await;
    let (mut watch, _) = opened(&memory).await;
    memory.faults().duplicate_events(true);
    lease.publish(&[record(US, "a")]).await;
    memory.faults().duplicate_events(false);
    let (first, second) = (next(&mut watch).await, next(&mut watch).await);
    assert_eq!((told(&first), told(&second)), ("+a".to_owned(), "+a".to_owned()));
    assert_eq!(first.evidence, second.evidence);

    let start = Instant::now();
    memory.faults().late_events(secs(7));
    lease.publish(&[record(US, "b")]).await;
    let sign = next(&mut watch).await;
    assert_eq!((told(&sign), sign.evidence.revision), (String::new(), Some(1)), "not ahead of what is late");
    assert_eq!(told(&next(&mut watch).await), "+b");
    assert_eq!(start.elapsed(), secs(7));
    memory.faults().late_events(Duration::ZERO);

    memory.faults().reorder_events(true);
    for id in ["c", "d", "e"] {
        lease.publish(&[record(US, id)]).await;
    }
    assert_eq!(told(&next(&mut watch).await), "+d");
    assert_eq!(told(&next(&mut watch).await), "+c");
    memory.faults().reorder_events(false);
    assert_eq!(told(&next(&mut watch).await), "+e");
}

#[tokio::test(start_paused = true)]
async fn old_events_can_be_replayed_with_their_old_revisions() {
    let memory = MemoryRegistry::new();
    let _lease = published(&memory, &["a"]).await;
    memory.faults().delete(&key("a"));
    let (mut watch, _) = opened(&memory).await;
    memory.faults().replay(&target(), 1);
    let event = next(&mut watch).await;
    assert_eq!((told(&event), event.evidence.revision), ("+a".to_owned(), Some(1)));
    memory.faults().report_age(secs(90));
    assert_eq!(next(&mut watch).await.evidence.age, secs(90));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_watch_never_opens() {
    let memory = MemoryRegistry::new();
    memory.faults().on(Operation::Watch).hang(true);
    let mut watch = memory.watch(&target(), None);
    assert!(is_silent(&mut watch).await);
    memory.faults().on(Operation::Watch).hang(false);
    assert_eq!(told(&next(&mut watch).await), "=");
    memory.faults().disconnect_watches();
    assert_eq!(end(&mut watch).await, ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_and_logged_with_their_instants() {
    let memory = MemoryRegistry::new();
    let start = Instant::now();
    let lease = lease_of(&memory, US).await;
    tokio::time::advance(secs(5)).await;
    lease.renew(deadline()).await.unwrap();
    let log: Vec<_> = memory.call_log().iter().map(|c| (c.at - start, c.operation)).collect();
    assert_eq!(log, [(Duration::ZERO, Operation::Grant), (secs(5), Operation::Renew)]);
    assert_eq!((memory.calls(Operation::Renew), memory.calls(Operation::Lookup)), (1, 0));
    for _ in 0..5000 {
        look(&memory).await;
    }
    assert_eq!(memory.call_log().len(), 4096, "the log is bounded");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_condition_sees_an_expiry_without_any_call() {
    let memory = MemoryRegistry::new();
    let start = Instant::now();
    let _lease = published(&memory, &["a"]).await;
    memory.until(|memory| memory.snapshot_of("orders").is_empty()).await;
    assert_eq!(start.elapsed(), TTL);
}

#[tokio::test(start_paused = true)]
async fn healing_takes_back_every_fault_that_is_still_set() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a", "b"]).await;
    let faults = memory.faults();
    faults.unavailable(true);
    faults.on(Operation::Renew).hang(true);
    faults.delay(secs(1));
    faults.answer_late(secs(1));
    faults.lose_answers(true);
    faults.fail_next(usize::MAX, ErrorKind::Protocol);
    faults.on(Operation::Lookup).fail_next(1, ErrorKind::Protocol);
    faults.reject(&key("z"));
    faults.lose_publishes(true);
    faults.drop_from_lookups(&target(), Some(0));
    faults.report_age(secs(1));
    faults.reorder_events(true);
    faults.heal();
    assert_eq!(look(&memory).await, ["a", "b"]);
    let (start, calls) = (Instant::now(), memory.calls(Operation::Publish));
    let (mut watch, opening) = opened(&memory).await;
    lease.publish(&[record(US, "z")]).await;
    assert_eq!(told(&next(&mut watch).await), "+z");
    assert_eq!(opening.evidence.age, Duration::ZERO);
    for (operation, kind) in every_call(&memory, &lease).await {
        assert_eq!(kind, None, "{operation:?}");
    }
    assert_eq!((start.elapsed(), memory.calls(Operation::Publish)), (Duration::ZERO, calls + 2));
}
