use std::sync::atomic::{AtomicBool, Ordering};

use registry_core::{ErrorKind, InstanceKey, Status, SystemClock, backend::Presence};
use tokio::time::Instant;

use super::*;

/// What a server would answer to a look at one of our records.
pub(super) fn standing(
    incarnation: Incarnation,
    instance: &Instance,
    status: &str,
    overridden: &str,
    dirty: u64,
) -> Reply {
    let names = super::super::names::Names::new(&Namespace::default());
    let version = RecordVersion { incarnation, epoch: 1, sequence: 1 };
    let marks = super::super::codec::Marks { version, dirty, ttl: Duration::from_secs(30) };
    let body = super::super::codec::encode(&names, instance, &marks).unwrap();
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    body["instance"]["status"] = status.into();
    body["instance"]["overriddenStatus"] = overridden.into();
    Reply::ok(body.to_string())
}

pub(super) fn key(id: &str) -> InstanceKey {
    instance(id).key()
}

pub(super) async fn publish(lease: &Arc<dyn Lease>, ids: &[&str]) {
    let records: Vec<_> = ids.iter().map(|id| record(&instance(id))).collect();
    for outcome in lease.publish(&records).await {
        outcome.unwrap();
    }
}

/// Takes every registration, knows nothing when it is read, and answers beats as told.
pub(super) async fn beating(mut beat: impl FnMut(&str) -> Reply + Send + 'static) -> Fake {
    Fake::start(move |seen| match (&*seen.method, seen.target.rsplit_once("%3A")) {
        ("POST", _) => Reply::status(204, ""),
        ("PUT", Some((_, rest))) => beat(rest.split('?').next().unwrap()),
        ("GET", None) => list(&[]),
        _ => Reply::status(404, ""),
    })
    .await
}

#[tokio::test]
async fn a_beat_that_is_answered_with_404_is_a_lost_instance_until_it_is_published_again() {
    let fake = beating(|id| Reply::status(if id == "b" { 404 } else { 200 }, "")).await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a", "b"]).await;
    for _ in 0..2 {
        let renewal = lease.renew(Instant::now() + PATIENCE).await.unwrap();
        assert_eq!(
            (renewal.lost, renewal.missed),
            (vec![key("b")], vec![]),
            "each time, as an answer may be lost"
        );
    }
    lease.withdraw(&[Arc::new(instance("b"))]).await.remove(0).unwrap();
    let renewal = lease.renew(Instant::now() + PATIENCE).await.unwrap();
    assert_eq!((renewal.lost, renewal.missed), (vec![], vec![]));
}

#[tokio::test]
async fn a_late_denial_of_a_beat_says_nothing_of_a_registration_that_was_answered_meanwhile() {
    let late = Duration::from_millis(300);
    let fake = beating(move |_| Reply::After(late, Box::new(Reply::status(404, "")))).await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a", "b"]).await;
    let again = async {
        while count(&fake, "PUT", "/eureka/apps/ORDERS/orders%3Aa") == 0 {
            tokio::task::yield_now().await;
        }
        publish(&lease, &["a"]).await;
    };
    let (renewal, ()) = tokio::join!(lease.renew(Instant::now() + PATIENCE), again);
    let renewal = renewal.unwrap();
    assert_eq!((renewal.lost, renewal.missed), (vec![key("b")], vec![key("a")]));
}

#[tokio::test]
async fn a_denied_beat_for_what_was_published_meanwhile_is_no_failure_and_is_not_looked_into() {
    let late = Duration::from_millis(300);
    let mut is_published = false;
    let fake = Fake::start(move |seen| match &*seen.method {
        "POST" => {
            is_published = true;
            Reply::status(204, "")
        }
        "PUT" => Reply::After(late, Box::new(Reply::status(404, ""))),
        _ if seen.target.contains("delta") => delta("", &[]),
        _ if is_published => standing(OURS, &instance("a"), "UP", "UNKNOWN", u64::MAX / 2),
        _ => Reply::status(404, ""),
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a"]).await;
    let again = async {
        while count(&fake, "PUT", "") == 0 {
            tokio::task::yield_now().await;
        }
        publish(&lease, &["a"]).await;
        count(&fake, "GET", "")
    };
    let (renewal, before) = tokio::join!(lease.renew(Instant::now() + PATIENCE), again);
    let renewal = renewal.unwrap();
    assert_eq!((renewal.lost, renewal.missed), (vec![], vec![key("a")]));
    assert_eq!(count(&fake, "GET", ""), before, "the registration's answer says more");
}

#[tokio::test]
async fn beats_without_an_answer_by_the_deadline_are_missed_and_the_others_count() {
    let fake = beating(|id| if id == "b" { Reply::Hang } else { Reply::status(200, "") }).await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a", "b", "c"]).await;
    let deadline = Instant::now() + Duration::from_millis(500);
    let renewal = lease.renew(deadline).await.unwrap();
    assert!(Instant::now() < deadline, "in time for the result to be told");
    assert_eq!((renewal.lost, renewal.missed), (vec![], vec![key("b")]));
}

#[tokio::test]
async fn a_renewal_of_which_nothing_came_is_an_error() {
    let fake = beating(|_| Reply::status(503, "busy").with("retry-after", &7)).await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    assert!(lease.renew(Instant::now() + PATIENCE).await.is_ok(), "nothing to renew");
    publish(&lease, &["a", "b"]).await;
    let error = lease.renew(Instant::now() + PATIENCE).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::RateLimited, Some(Duration::from_secs(7))));
    assert_eq!((error.backend(), error.operation()), (Some("eureka"), Some("renew")));
}

#[tokio::test]
async fn a_thousand_beats_go_out_a_few_at_a_time() {
    // However long a busy machine takes: what is counted is requests, not time.
    let ages = Duration::from_secs(600);
    let fake = beating(|_| Reply::status(200, "")).await;
    let lease = lease(&backend(&[&fake.address], "request_timeout=60s").await).await;
    let ids: Vec<_> = (0..1000).map(|n| format!("i{n}")).collect();
    for some in ids.chunks(200) {
        publish(&lease, &some.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let renewal = lease.renew(Instant::now() + ages).await.unwrap();
    assert_eq!((renewal.lost, renewal.missed), (vec![], vec![]));
    assert_eq!(count(&fake, "PUT", "/eureka/apps/ORDERS/orders%3Ai"), 1000);
    assert!(fake.most_open() <= super::super::lease::AT_ONCE, "{}", fake.most_open());
}

#[tokio::test]
async fn one_answer_that_never_comes_costs_none_of_the_others_theirs() {
    let stuck = Arc::new(AtomicBool::new(false));
    let is_stuck = Arc::clone(&stuck);
    let fake = Fake::start(move |seen| {
        let is_first = seen.target.ends_with("%3Ai0") || seen.target.contains("%3Ai0?");
        match &*seen.method {
            _ if is_stuck.load(Ordering::SeqCst) && is_first => Reply::Hang,
            "GET" if is_single(seen) => {
                let id = seen.target.rsplit_once("%3A").unwrap().1;
                standing(OURS, &instance(id), "UP", "UNKNOWN", 1)
            }
            _ => Reply::status(200, ""),
        }
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "request_timeout=60s").await).await;
    let ids: Vec<_> = (0..100).map(|n| format!("i{n}")).collect();
    publish(&lease, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    stuck.store(true, Ordering::SeqCst);
    // Whoever is stuck is so for good, so that this is no matter of time.
    let reach = async |method: &str, target: &str, many: usize| {
        tokio::time::timeout(PATIENCE, async {
            while count(&fake, method, target) < many {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("all others are asked for");
    };
    let each = "/eureka/apps/ORDERS/orders%3A";
    let keys: Vec<_> = ids.iter().map(|id| key(id)).collect();
    let all = count(&fake, "GET", each) + 100;
    tokio::select! {
        _ = lease.inspect(&keys) => panic!("one is stuck"),
        () = reach("GET", each, all) => {}
    }
    let records: Vec<_> = ids.iter().map(|id| record(&instance(id))).collect();
    let others = count(&fake, "POST", "") + 99;
    tokio::select! {
        _ = lease.publish(&records) => panic!("one is stuck"),
        () = reach("POST", "", others) => {}
    }
    let gone: Vec<_> = ids.iter().map(|id| Arc::new(instance(id))).collect();
    let others = count(&fake, "DELETE", "") + 99;
    tokio::select! {
        _ = lease.withdraw(&gone) => panic!("one is stuck"),
        () = reach("DELETE", "", others) => {}
    }
}

#[tokio::test]
async fn a_beat_tells_the_status_and_the_time_of_the_registration() {
    let fake = beating(|_| Reply::status(200, "")).await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a"]).await;
    lease.renew(Instant::now() + PATIENCE).await.unwrap();
    let seen = fake.seen();
    let body: Value = serde_json::from_slice(&seen[1].body).unwrap();
    let dirty = body["instance"]["lastDirtyTimestamp"].as_str().unwrap();
    let beat = format!("/eureka/apps/ORDERS/orders%3Aa?status=UP&lastDirtyTimestamp={dirty}");
    assert_eq!(seen[2].target, beat);
    assert_eq!(seen[2].header("accept"), Some("application/json"));
}

#[tokio::test]
async fn a_registration_is_newer_than_the_one_that_stands_there() {
    let future = 9_000_000_000_000;
    let fake = Fake::start(move |seen| match &*seen.method {
        "GET" => standing(THEIRS, &instance("a"), "UP", "UNKNOWN", future),
        _ => Reply::status(204, ""),
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a"]).await;
    let body: Value = serde_json::from_slice(&fake.seen()[1].body).unwrap();
    assert_eq!(body["instance"]["lastDirtyTimestamp"], (future + 1).to_string());
}

#[tokio::test]
async fn a_timestamp_beyond_reason_counts_for_its_own_instance_only() {
    let most = u64::MAX / 2;
    for (foreign, at_least) in [(most, most), (most - 1, most), (u64::MAX, 0)] {
        let fake = Fake::start(move |seen| match &*seen.method {
            "GET" if seen.target.contains("orders%3Aa") => {
                standing(THEIRS, &instance("a"), "UP", "UNKNOWN", foreign)
            }
            "GET" => Reply::status(404, ""),
            _ => Reply::status(204, ""),
        })
        .await;
        let lease = lease(&backend(&[&fake.address], "").await).await;
        publish(&lease, &["a"]).await;
        publish(&lease, &["a"]).await;
        publish(&lease, &["b"]).await;
        let seen = fake.seen();
        let stamps = seen.iter().filter(|seen| seen.method == "POST").map(|seen| {
            let body: Value = serde_json::from_slice(&seen.body).unwrap();
            body["instance"]["lastDirtyTimestamp"].as_str().unwrap().parse::<u64>().unwrap()
        });
        let stamps: Vec<u64> = stamps.collect();
        assert!(stamps[..2].iter().all(|stamp| (at_least..=most).contains(stamp)), "{stamps:?}");
        assert!(stamps[0] <= stamps[1], "{stamps:?}");
        let now = u64::try_from(SystemClock::shared().wall().as_millis()).unwrap();
        assert!(stamps[2] <= now + 1000, "{stamps:?}, now {now}");
    }
}

#[tokio::test]
async fn our_own_override_ends_with_draining_and_an_operator_s_stays() {
    for (stood, ends) in [(Status::Draining, true), (Status::Serving, false)] {
        let stood = instance("a").to_builder().status(stood).build().unwrap();
        let fake = Fake::start(move |seen| match &*seen.method {
            "GET" => standing(OURS, &stood, "OUT_OF_SERVICE", "OUT_OF_SERVICE", 1),
            _ => Reply::status(200, ""),
        })
        .await;
        let lease = lease(&backend(&[&fake.address], "").await).await;
        publish(&lease, &["a"]).await;
        let ended = count(&fake, "DELETE", "/eureka/apps/ORDERS/orders%3Aa/status?value=UP");
        assert_eq!(ended, usize::from(ends), "{:?}", fake.seen());
        assert_eq!(count(&fake, "DELETE", ""), ended, "never without the status that follows");
    }
}

#[tokio::test]
async fn draining_is_an_override() {
    let fake = beating(|_| Reply::status(200, "")).await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    let draining = instance("a").to_builder().status(Status::Draining).build().unwrap();
    lease.publish(&[record(&draining)]).await.remove(0).unwrap();
    assert_eq!(count(&fake, "PUT", "/eureka/apps/ORDERS/orders%3Aa/status?value=OUT_OF_SERVICE"), 1);
}

#[tokio::test]
async fn who_finds_another_s_record_under_his_name_stops_beating_for_it() {
    let mut looks = 0;
    let fake = Fake::start(move |seen| match &*seen.method {
        "GET" => {
            looks += 1;
            let owner = if looks == 1 { OURS } else { THEIRS };
            standing(owner, &instance("a"), "UP", "UNKNOWN", 1)
        }
        _ => Reply::status(200, ""),
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a"]).await;
    assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Foreign]);
    lease.renew(Instant::now() + PATIENCE).await.unwrap();
    assert_eq!(count(&fake, "PUT", ""), 0, "it would live on when its own process is gone");
    lease.withdraw(&[Arc::new(instance("a"))]).await.remove(0).unwrap();
    assert_eq!(count(&fake, "DELETE", ""), 0, "it is left alone");
}

#[tokio::test]
async fn an_instance_that_is_being_withdrawn_has_no_beats_even_if_that_fails() {
    let fake = Fake::start(|seen| match &*seen.method {
        "GET" => standing(OURS, &instance("a"), "UP", "UNKNOWN", 1),
        "DELETE" => Reply::status(500, ""),
        _ => Reply::status(200, ""),
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a"]).await;
    let outcome = lease.withdraw(&[Arc::new(instance("a"))]).await.remove(0);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    lease.renew(Instant::now() + PATIENCE).await.unwrap();
    assert_eq!(count(&fake, "PUT", ""), 0);
    assert_eq!(lease.revoke().await.unwrap_err().kind(), ErrorKind::Unavailable, "it is still there");
}

#[tokio::test]
async fn what_a_look_can_t_tell_is_unknown_unless_it_tells_nothing() {
    let fake = Fake::start(|seen| match seen.target.rsplit_once("%3A") {
        Some((_, "a")) => Reply::status(404, ""),
        Some(_) => Reply::status(500, ""),
        None => list(&[]),
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    assert_eq!(lease.inspect(&[key("a"), key("b")]).await.unwrap(), [Presence::Missing, Presence::Unknown]);
    assert_eq!(lease.inspect(&[key("b")]).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn one_refused_record_fails_no_other() {
    let fake =
        Fake::start(|seen| match (&*seen.method, String::from_utf8_lossy(&seen.body).contains("orders:b")) {
            ("GET", _) => Reply::status(404, ""),
            (_, true) => Reply::status(400, "Missing hostname"),
            (_, false) => Reply::status(204, ""),
        })
        .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    let records: Vec<_> = ["a", "b", "c"].iter().map(|id| record(&instance(id))).collect();
    let outcomes = lease.publish(&records).await;
    let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().map(Error::kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::InvalidArgument), None]);
    assert!(outcomes[1].as_ref().unwrap_err().to_string().contains("Missing hostname"));
}

#[tokio::test]
async fn a_time_to_live_is_whole_seconds_and_has_a_limit() {
    let backend = backend(&["127.0.0.1:1"], "").await;
    let registry = backend.registry.as_ref().unwrap();
    let granted = registry.grant(&Grant::new(Duration::from_millis(2100), OURS)).await.unwrap();
    assert_eq!(granted.lifetime(), registry_core::backend::Lifetime::Leased { ttl: Duration::from_secs(3) });
    for ttl in [Duration::ZERO, Duration::MAX] {
        let error = registry.grant(&Grant::new(ttl, OURS)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
