use super::*;
use crate::backend::Catalogue;

#[tokio::test(start_paused = true)]
async fn a_watch_opens_with_the_complete_list_even_if_that_is_empty() {
    let memory = MemoryRegistry::new();
    let (_watch, opening) = opened(&memory).await;
    assert_eq!(told(&opening), "=");
    assert_eq!(opening.evidence.source, Some(memory.source()));
    let _lease = published(&memory, &["b", "a"]).await;
    let (_watch, opening) = opened(&memory).await;
    assert_eq!(told(&opening), "=a,b");
    assert_eq!(opening.evidence.revision, Some(1));
}

#[tokio::test(start_paused = true)]
async fn an_expiry_reaches_an_open_watch_at_that_instant_as_an_explicit_removal() {
    let memory = MemoryRegistry::new();
    let start = Instant::now();
    // No multiple of the signs of life, which would wake the watch anyway.
    let lease = memory.grant(&Grant::new(secs(7), US)).await.unwrap();
    lease.publish(&[record(US, "a"), record(US, "b")]).await;
    let (mut watch, _) = opened(&memory).await;
    assert_eq!(told(&change(&mut watch).await), "-a -b");
    assert_eq!(start.elapsed(), secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_gives_a_sign_of_life_every_five_seconds() {
    let memory = MemoryRegistry::new();
    let (mut watch, _) = opened(&memory).await;
    let lease = published(&memory, &["a"]).await;
    assert_eq!(told(&next(&mut watch).await), "+a");
    let start = Instant::now();
    for at in [5, 10] {
        let event = next(&mut watch).await;
        assert_eq!(told(&event), "");
        assert_eq!(event.evidence.revision, Some(1));
        assert_eq!(start.elapsed(), secs(at));
    }
    lease.revoke().await.unwrap();
    assert_eq!(told(&next(&mut watch).await), "-a");
}

#[tokio::test(start_paused = true)]
async fn another_service_is_not_heard_but_moves_the_cursor_with_the_next_sign_of_life() {
    let memory = MemoryRegistry::new();
    let (mut watch, _) = opened(&memory).await;
    memory.faults().put_foreign(Instance::new("orders-eu", "http://10.0.0.1:80").unwrap());
    let sign = next(&mut watch).await;
    assert_eq!(told(&sign), "");
    assert_eq!(sign.evidence.revision, Some(1));
    memory.faults().compact();
    let mut later = memory.watch(&target(), sign.cursor);
    assert_eq!(told(&next(&mut later).await), "~");
}

#[tokio::test(start_paused = true)]
async fn a_cursor_resumes_with_everything_that_was_missed_and_nothing_twice() {
    let memory = MemoryRegistry::new();
    let (mut watch, _) = opened(&memory).await;
    let lease = published(&memory, &["a"]).await;
    let seen = change(&mut watch).await;
    drop(watch);
    assert_eq!(memory.watch_count(), 0, "dropping the stream ends the session");
    lease.publish(&[record(US, "b")]).await;
    lease.withdraw(&[instance("a")]).await;

    let mut watch = memory.watch(&target(), seen.cursor.clone());
    let opening = next(&mut watch).await;
    assert_eq!((told(&opening), opening.cursor), ("~".to_owned(), seen.cursor));
    assert_eq!(told(&next(&mut watch).await), "+b");
    let last = next(&mut watch).await;
    assert_eq!(told(&last), "-a");
    lease.publish(&[record(US, "c")]).await;
    assert_eq!(told(&next(&mut watch).await), "+c");
}

async fn opens_with(memory: &MemoryRegistry, cursor: Option<Cursor>) -> String {
    told(&next(&mut memory.watch(&target(), cursor)).await)
}

#[tokio::test(start_paused = true)]
async fn a_cursor_from_elsewhere_or_from_compacted_history_opens_with_the_list() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a"]).await;
    let (_watch, old) = opened(&memory).await;
    let (_other, foreign) = opened(&MemoryRegistry::new()).await;
    for cursor in [foreign.cursor, Some(Cursor::new("")), Some(Cursor::new("x:y")), ahead(&memory)] {
        assert_eq!(opens_with(&memory, cursor).await, "=a");
    }
    lease.publish(&[record(US, "b")]).await;
    assert_eq!(opens_with(&memory, old.cursor.clone()).await, "~");
    memory.faults().compact();
    assert_eq!(opens_with(&memory, old.cursor).await, "=a,b");
}

fn ahead(memory: &MemoryRegistry) -> Option<Cursor> {
    Some(Cursor::new(format!("{}:99", memory.source())))
}

#[tokio::test(start_paused = true)]
async fn the_history_is_bounded() {
    let memory = MemoryRegistry::new();
    let (_watch, opening) = opened(&memory).await;
    let lease = lease_of(&memory, US).await;
    for _ in 0..1024 {
        lease.publish(&[record(US, "a")]).await;
    }
    assert_eq!(opens_with(&memory, opening.cursor.clone()).await, "~");
    lease.publish(&[record(US, "a")]).await;
    assert_eq!(opens_with(&memory, opening.cursor).await, "=a");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_falls_behind_is_told_so_and_never_left_with_a_gap() {
    let memory = MemoryRegistry::new();
    let (mut watch, _) = opened(&memory).await;
    let lease = lease_of(&memory, US).await;
    for _ in 0..2049 {
        lease.publish(&[record(US, "a")]).await;
    }
    assert_eq!(end(&mut watch).await, ErrorKind::Compacted);
}

#[tokio::test(start_paused = true)]
async fn a_target_with_a_qualifier_is_refused_rather_than_widened() {
    let memory = MemoryRegistry::new();
    let target = target().with_qualifier("dc", "eu").unwrap();
    let refused = memory.lookup(&target, &Read::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        refused.to_string(),
        "memory lookup: the memory registry knows no qualifiers; the target has \"dc\""
    );
    assert_eq!(end(&mut memory.watch(&target, None)).await, ErrorKind::InvalidArgument);
}

#[tokio::test(start_paused = true)]
async fn the_catalogue_lists_services_that_have_instances_now_and_as_they_change() {
    let memory = MemoryRegistry::new();
    let mut lists = memory.watch_services();
    let mut list = async || {
        let list = lists.next().await.expect("the watch goes on")?;
        Ok::<_, Error>(list.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(list().await.unwrap(), Vec::<String>::new());
    let start = Instant::now();
    let lease = published(&memory, &["a"]).await;
    assert_eq!(list().await.unwrap(), ["orders"]);
    lease.publish(&[record(US, "b")]).await;
    memory.faults().put_foreign(Instance::new("billing", "http://10.0.0.1:80").unwrap());
    assert_eq!(list().await.unwrap(), ["billing", "orders"]);
    assert_eq!(memory.services().await.unwrap().len(), 2);
    assert_eq!(list().await.unwrap(), ["billing"], "an expiry ends the wait");
    assert_eq!(start.elapsed(), TTL);
    memory.faults().restart();
    assert_eq!(list().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(lists.next().await.is_none());
}
