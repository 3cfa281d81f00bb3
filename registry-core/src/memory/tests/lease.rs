use super::*;
use crate::backend::{Lifetime, Presence, Renewal};

fn deadline() -> Instant {
    Instant::now() + secs(5)
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_renewed_ends_exactly_at_its_time_to_live() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a"]).await;
    assert_eq!(lease.lifetime(), Lifetime::Leased { ttl: TTL });
    tokio::time::advance(TTL - Duration::from_millis(1)).await;
    assert_eq!(look(&memory).await, ["a"]);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(look(&memory).await.is_empty());
    assert_eq!(memory.lease_count(), 0);
    assert_eq!(lease.renew(deadline()).await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_counts_the_whole_time_to_live_from_its_own_instant() {
    let memory = MemoryRegistry::new();
    let lease = published(&memory, &["a"]).await;
    tokio::time::advance(secs(14)).await;
    assert_eq!(lease.renew(deadline()).await.unwrap(), Renewal::granted(TTL));
    tokio::time::advance(secs(14)).await;
    assert_eq!(look(&memory).await, ["a"]);
    tokio::time::advance(secs(1)).await;
    assert!(look(&memory).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_of_zero_is_refused_and_a_short_one_is_honoured() {
    let memory = MemoryRegistry::new();
    let refused = memory.grant(&Grant::new(Duration::ZERO, US)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert_eq!(refused.to_string(), "memory grant: a lease needs a time to live above zero");
    memory.grant(&Grant::new(Duration::from_millis(1), US)).await.unwrap();
    memory.grant(&Grant::new(Duration::MAX, US)).await.unwrap();
    tokio::time::advance(secs(1)).await;
    assert_eq!(memory.lease_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_revision_and_one_event() {
    let memory = MemoryRegistry::new();
    let (mut watch, _) = opened(&memory).await;
    published(&memory, &["a", "b", "c"]).await;
    assert_eq!(memory.revision(), 1);
    let event = change(&mut watch).await;
    assert_eq!(told(&event), "+a +b +c");
    assert_eq!(event.evidence.revision, Some(1));
    let Change::Upsert(a) = &event.changes[0] else { panic!("{event:?}") };
    assert_eq!(a.record_version(), Some(version(US, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_s_record_is_taken_over_or_respected_as_asked() {
    let memory = MemoryRegistry::new();
    let theirs = lease_of(&memory, THEM).await;
    assert_eq!(kinds(&theirs.publish(&[record(THEM, "a")]).await), [None]);
    let ours = lease_of(&memory, US).await;
    let reject = Publish::new(instance("a"), version(US, 1), OnDuplicate::Reject);
    let outcomes = ours.publish(&[reject.clone(), record(US, "b")]).await;
    assert_eq!(kinds(&outcomes), [Some(ErrorKind::Conflict), None], "the others of the batch stand");
    assert_eq!(ours.inspect(&[key("a")]).await.unwrap(), [Presence::Foreign]);

    assert_eq!(kinds(&ours.publish(&[record(US, "a")]).await), [None]);
    assert_eq!(ours.inspect(&[key("a")]).await.unwrap(), [Presence::Ours { version: version(US, 1) }]);
    assert_eq!(theirs.inspect(&[key("a")]).await.unwrap(), [Presence::Foreign]);
    assert_eq!(kinds(&ours.publish(&[reject]).await), [None], "our own record is no duplicate");
}

#[tokio::test(start_paused = true)]
async fn only_the_life_that_wrote_a_record_withdraws_it() {
    let memory = MemoryRegistry::new();
    let ours = published(&memory, &["a"]).await;
    let theirs = lease_of(&memory, THEM).await;
    assert_eq!(kinds(&theirs.withdraw(&[instance("a"), instance("gone")]).await), [None, None]);
    assert_eq!(ids(&memory), ["a"]);
    assert_eq!(kinds(&ours.withdraw(&[instance("a")]).await), [None]);
    assert!(ids(&memory).is_empty());
    assert_eq!(kinds(&ours.withdraw(&[instance("a")]).await), [None], "idempotent");
}

#[tokio::test(start_paused = true)]
async fn revoking_removes_only_what_still_hangs_on_the_lease() {
    let memory = MemoryRegistry::new();
    let old = published(&memory, &["a", "b"]).await;
    let new = lease_of(&memory, US).await;
    assert_eq!(kinds(&new.publish(&[record(US, "b")]).await), [None]);
    assert_eq!(
        old.inspect(&[key("a"), key("b"), key("c")]).await.unwrap(),
        [Presence::Ours { version: version(US, 1) }, Presence::Missing, Presence::Missing]
    );
    old.revoke().await.unwrap();
    assert_eq!(ids(&memory), ["b"]);
    old.revoke().await.unwrap();
    assert_eq!(kinds(&old.publish(&[record(US, "a")]).await), [Some(ErrorKind::LeaseLost)]);
    assert_eq!(ids(&memory), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_names_another_incarnation_than_its_lease_is_refused() {
    let memory = MemoryRegistry::new();
    let lease = lease_of(&memory, US).await;
    let outcomes = lease.publish(&[record(THEM, "a")]).await;
    assert_eq!(kinds(&outcomes), [Some(ErrorKind::InvalidArgument)]);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_lease_withdraws_nothing() {
    let memory = MemoryRegistry::new();
    drop(published(&memory, &["a"]).await);
    assert_eq!(ids(&memory), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_it_acted_changes_nothing() {
    let memory = MemoryRegistry::new();
    let lease = lease_of(&memory, US).await;
    memory.faults().delay(secs(2));
    let records = [record(US, "a")];
    let timed = tokio::time::timeout(secs(1), lease.publish(&records)).await;
    assert!(timed.is_err());
    tokio::time::advance(secs(5)).await;
    assert!(ids(&memory).is_empty());
}

#[tokio::test(start_paused = true)]
async fn clones_share_the_store_and_new_values_share_nothing() {
    let memory = MemoryRegistry::new();
    let _lease = published(&memory.clone(), &["a"]).await;
    assert_eq!(ids(&memory), ["a"]);
    assert!(ids(&MemoryRegistry::new()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_memory_url_connects_to_a_registry_of_its_own() {
    use crate::backend::{ConnectContext, Connector};
    let context = ConnectContext::new(crate::Namespace::default(), TTL);
    let connect = |url: &str| {
        let url = url.parse::<crate::RegistryUrl>().unwrap();
        let context = context.clone();
        async move { MemoryConnector.connect(&url, &context).await }
    };
    for url in ["memory://", "memory:///prod"] {
        let backend = connect(url).await.unwrap();
        assert!(backend.registry.is_some() && backend.discovery.is_some() && backend.catalogue.is_some());
        assert_eq!(backend.name, "memory");
    }
    for url in ["memory://10.0.0.1:80", "memory://user@/prod"] {
        assert_eq!(
            connect(url).await.unwrap_err().to_string(),
            "a memory:// URL takes neither host nor user; write memory:// or memory:///namespace"
        );
    }
}
