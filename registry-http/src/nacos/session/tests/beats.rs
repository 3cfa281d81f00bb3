//! Beats, and what they must not do.

use super::*;

fn is_beat(seen: &Seen) -> bool {
    seen.target.contains("/beat") || String::from_utf8_lossy(&seen.body).contains("heartBeat=true")
}

fn beats(fake: &Fake) -> usize {
    fake.seen().iter().filter(|seen| is_beat(seen)).count()
}

#[tokio::test]
async fn what_is_to_go_is_beaten_for_no_more_even_if_its_removal_fails() {
    let broken = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&broken);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "GET" if state.load(Ordering::Relaxed) == 1 => Reply::status(500, ""),
        "DELETE" if state.load(Ordering::Relaxed) == 2 => Reply::status(500, ""),
        _ => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    for failing in [1, 2] {
        broken.store(0, Ordering::Relaxed);
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        broken.store(failing, Ordering::Relaxed);
        assert!(lease.withdraw(&[instance("a", 80)]).await.remove(0).is_err());
        let before = beats(&fake);
        let renewal = lease.renew(soon()).await.unwrap();
        assert_eq!((renewal.lost, renewal.missed), (vec![], vec![]));
        assert_eq!(beats(&fake), before, "a beat would keep alive what is to go");
        // Whoever gives the lease back still removes it.
        broken.store(0, Ordering::Relaxed);
        lease.revoke().await.unwrap();
        assert_eq!(fake.seen().last().unwrap().method, "DELETE");
    }
}

#[tokio::test]
async fn a_publication_without_an_answer_is_removed_all_the_same() {
    let mute = Arc::new(AtomicUsize::new(1));
    let state = Arc::clone(&mute);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "POST" if state.load(Ordering::Relaxed) == 1 => Reply::Hang,
        "POST" if state.load(Ordering::Relaxed) == 2 => Reply::status(403, "no rights"),
        _ => usual(request),
    });
    let fake = fake.await;
    let backend = connect_as(":token@", &fake, "?api=v1").await;
    let lease = grant(&backend).await;
    let removals = || fake.seen().into_iter().filter(|seen| seen.method == "DELETE").collect::<Vec<_>>();
    let publishing = [record("a", 80)];
    let published = lease.publish(&publishing);
    assert!(tokio::time::timeout(Duration::from_millis(300), published).await.is_err(), "the core gives up");
    // It may stand there, and lists lag behind.
    lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
    assert!(removals()[0].target.contains("port=80"), "{:?}", removals());

    mute.store(2, Ordering::Relaxed);
    lease.publish(&[record("b", 81)]).await.remove(0).unwrap_err();
    lease.withdraw(&[instance("b", 81)]).await.remove(0).unwrap();
    assert_eq!(removals().len(), 1, "what was refused isn't there");

    // Elsewhere in the end: what may stand at the old place goes.
    mute.store(1, Ordering::Relaxed);
    let publishing = [record("c", 82)];
    let published = lease.publish(&publishing);
    assert!(tokio::time::timeout(Duration::from_millis(300), published).await.is_err());
    mute.store(0, Ordering::Relaxed);
    lease.publish(&[record("c", 83)]).await.remove(0).unwrap();
    assert!(removals()[1].target.contains("port=82"), "{:?}", removals());
}

/// What another client has at port 81.
const STRANGER: &str = r#"{"hosts":[{"ip":"10.0.0.7","port":81,"metadata":{"sr.id":"z","sr.by":"000000000000000000000000000000ff/1/1"}}]}"#;

#[tokio::test]
async fn who_moves_leaves_alone_what_another_client_has_where_it_tried_to_stand() {
    let mute = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&mute);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "POST" if state.load(Ordering::Relaxed) == 1 => Reply::Hang,
        "GET" if state.load(Ordering::Relaxed) == 2 => Reply::ok(STRANGER),
        _ => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    mute.store(1, Ordering::Relaxed);
    let publishing = [record("a", 81)];
    let published = lease.publish(&publishing);
    assert!(tokio::time::timeout(Duration::from_millis(300), published).await.is_err());
    mute.store(2, Ordering::Relaxed);
    lease.publish(&[record("a", 82)]).await.remove(0).unwrap();
    let seen = fake.seen();
    let removed: Vec<_> = seen.iter().filter(|seen| seen.method == "DELETE").collect();
    assert!(removed.iter().any(|seen| seen.target.contains("port=80")), "{removed:?}");
    assert!(!removed.iter().any(|seen| seen.target.contains("port=81")), "it is the other's: {removed:?}");
}

#[tokio::test]
async fn who_moves_leaves_alone_what_another_client_has_where_it_stood() {
    let taken = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&taken);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "GET" if state.load(Ordering::Relaxed) == 1 => Reply::ok(STRANGER),
        _ => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 81)]).await.remove(0).unwrap();
    taken.store(1, Ordering::Relaxed);
    let mut moved = record("a", 82);
    moved.on_duplicate = OnDuplicate::Reject;
    lease.publish(&[moved]).await.remove(0).unwrap();
    assert_eq!(writes(&fake), ["POST /nacos/v1/ns/instance", "POST /nacos/v1/ns/instance"]);
}

#[tokio::test]
async fn a_beat_that_overlaps_a_removal_reports_no_loss() {
    let fake = Fake::start(|request| match is_beat(request) {
        true => {
            let unknown = r#"{"clientBeatInterval":5000,"code":20404,"lightBeatEnabled":true}"#;
            Reply::After(Duration::from_millis(300), Box::new(Reply::ok(unknown)))
        }
        false => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    let removed = async {
        while beats(&fake) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
    };
    let (renewal, ()) = tokio::join!(lease.renew(soon()), removed);
    assert_eq!(renewal.unwrap().lost, []);
}

#[tokio::test]
async fn a_lease_that_is_given_back_leaves_alone_what_a_newer_one_took_over() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "GET" => Reply::After(Duration::from_millis(200), Box::new(usual(request))),
        _ => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let (old, new) = (grant(&backend).await, grant(&backend).await);
    old.publish(&[record("a", 80)]).await.remove(0).unwrap();
    let lists = || fake.seen().iter().filter(|seen| seen.method == "GET").count();
    let before = lists();
    let taken_over = async {
        while lists() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        new.publish(&[record("a", 80)]).await.remove(0).unwrap();
    };
    let (given_back, ()) = tokio::join!(old.revoke(), taken_over);
    given_back.unwrap();
    assert!(fake.seen().iter().all(|seen| seen.method != "DELETE"), "it is the other's now");
    new.renew(soon()).await.unwrap();
    assert_eq!(beats(&fake), 1);
}

/// A server of 1.x that takes full beats only, each of which registers whom it doesn't know. How it says so is `light`.
async fn old(light: fn(&Seen) -> Reply, delay: Duration) -> (Fake, Arc<std::sync::Mutex<Vec<String>>>) {
    let registered: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let state = Arc::clone(&registered);
    let fake = Fake::start(move |request| {
        let all = format!("{}&{}", request.target, String::from_utf8_lossy(&request.body));
        let port = all.split("port=").nth(1).map(|rest| rest.split('&').next().unwrap().to_owned());
        let mut registered = state.lock().unwrap();
        match request.method.as_str() {
            "POST" => registered.extend(port),
            "DELETE" => registered.retain(|one| Some(one) != port.as_ref()),
            "PUT" if !request.body.starts_with(b"beat=") => return light(request),
            "PUT" => {
                if !registered.contains(port.as_ref().unwrap()) {
                    registered.extend(port);
                }
                let counted = Reply::ok(r#"{"clientBeatInterval":5000}"#);
                return Reply::After(delay, Box::new(counted));
            }
            _ => {}
        }
        usual(request)
    });
    (fake.await, registered)
}

fn switched_off(_: &Seen) -> Reply {
    Reply::ok(r#"{"clientBeatInterval":5000,"code":10200,"lightBeatEnabled":false}"#)
}

fn before_there_were_any(_: &Seen) -> Reply {
    Reply::status(400, "Param 'beat' is required.")
}

#[tokio::test]
async fn a_server_without_light_beats_gets_full_ones() {
    for light in [switched_off as fn(&Seen) -> Reply, before_there_were_any] {
        let (fake, _) = old(light, Duration::ZERO).await;
        let backend = connect(&fake, "?api=v1").await;
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        for _ in 0..2 {
            let renewal = lease.renew(soon()).await.unwrap();
            assert_eq!((renewal.lost, renewal.missed), (vec![], vec![]));
        }
        let all = fake.seen();
        let last = all.iter().rfind(|seen| is_beat(seen)).unwrap();
        assert!(last.target.contains("ip=10.0.0.7&port=80"), "{last:?}");
        let body = String::from_utf8(last.body.clone()).unwrap();
        let text =
            percent_encoding::percent_decode_str(&body.replace('+', " ")).decode_utf8().unwrap().into_owned();
        let beat: serde_json::Value = serde_json::from_str(text.strip_prefix("beat=").unwrap()).unwrap();
        assert_eq!(beat["ip"], "10.0.0.7");
        assert_eq!((&beat["port"], &beat["weight"]), (&80.into(), &1.0.into()));
        assert_eq!(
            (&beat["cluster"], &beat["serviceName"]),
            (&"DEFAULT".into(), &"DEFAULT_GROUP@@orders".into())
        );
        assert_eq!(beat["metadata"]["sr.id"], "a", "whom it registers is whole: {beat}");
        let light = all.iter().filter(|seen| is_beat(seen) && seen.body.is_empty()).count();
        assert_eq!(light, 1, "it has said what it takes");
    }
}

#[tokio::test]
async fn no_full_beat_brings_back_what_was_removed() {
    let (fake, registered) = old(switched_off, Duration::from_millis(30)).await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    let all: Vec<Publish> = (1..=40).map(|at| record(&format!("i{at}"), at)).collect();
    assert!(lease.publish(&all).await.iter().all(Result::is_ok));
    lease.renew(soon()).await.unwrap();
    let before = beats(&fake);
    let removed = async {
        // Some beats are on their way, others wait for their turn.
        while beats(&fake) < before + 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let gone: Vec<_> = all.iter().map(|one| Arc::clone(&one.instance)).collect();
        assert!(lease.withdraw(&gone).await.iter().all(Result::is_ok));
    };
    let (renewal, ()) = tokio::join!(lease.renew(soon()), removed);
    assert_eq!(renewal.unwrap().lost, []);
    assert_eq!(*registered.lock().unwrap(), Vec::<String>::new(), "ghosts");
}

#[tokio::test]
async fn a_full_beat_that_the_server_still_holds_is_waited_for_before_the_removal() {
    // It is the end of the handling that registers, as in the servers.
    let (fake, _) = old(switched_off, Duration::from_millis(200)).await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    lease.renew(soon()).await.unwrap();
    let before = beats(&fake);
    let answered = std::sync::Mutex::new(false);
    let renewal = async {
        lease.renew(soon()).await.unwrap();
        *answered.lock().unwrap() = true;
    };
    let removed = async {
        while beats(&fake) == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
        assert!(*answered.lock().unwrap(), "the removal overtook the beat");
    };
    tokio::join!(renewal, removed);
}

/// A service each, so that each needs a list of its own.
fn in_service(at: u16) -> Arc<Instance> {
    let builder = Instance::builder(format!("s{at}")).id("a").endpoint(format!("http://10.0.0.7:{at}"));
    Arc::new(builder.build().unwrap())
}

#[tokio::test]
async fn the_lists_of_many_services_are_read_at_the_same_time() {
    let slow = Duration::from_millis(100);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "GET" => Reply::After(slow, Box::new(usual(request))),
        _ => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let keys: Vec<_> = (1..=64).map(|at| in_service(at).key()).collect();
    let lease = grant(&backend).await;
    assert_eq!(lease.inspect(&keys).await.unwrap(), vec![Presence::Missing; 64]);
    let most = fake.most_open();
    assert!((3..=16).contains(&most), "{most} at the same time");
}

#[tokio::test]
async fn an_audit_tells_what_could_be_read_and_fails_only_as_a_whole() {
    let fake = Fake::start(|request| match request.target.contains("s2") {
        true => Reply::status(403, "no rights"),
        false => usual(request),
    });
    let fake = fake.await;
    let backend = connect_as(":token@", &fake, "?api=v1").await;
    let lease = grant(&backend).await;
    let keys: Vec<_> = (1..=3).map(|at| in_service(at).key()).collect();
    let found = lease.inspect(&keys).await.unwrap();
    assert_eq!(found, [Presence::Missing, Presence::Unknown, Presence::Missing]);
    assert_eq!(lease.inspect(&keys[1..2]).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(lease.inspect(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn one_answer_that_never_comes_costs_none_of_the_others_theirs() {
    let stuck = |seen: &Seen| {
        let all = format!("{}&{}", seen.target, String::from_utf8_lossy(&seen.body));
        all.contains("port=1&")
    };
    let stuck_at = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&stuck_at);
    let fake = Fake::start(move |request| match request.method.as_str() {
        "PUT" | "POST" | "DELETE" if state.load(Ordering::Relaxed) == 1 && stuck(request) => Reply::Hang,
        _ => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1&request_timeout=60s").await;
    let lease = grant(&backend).await;
    let all: Vec<Publish> = (1..=60).map(|at| record(&format!("i{at}"), at)).collect();
    assert!(lease.publish(&all).await.iter().all(Result::is_ok));
    stuck_at.store(1, Ordering::Relaxed);
    let renewal = lease.renew(Instant::now() + Duration::from_secs(1)).await.unwrap();
    assert_eq!(renewal.missed, [instance("i1", 1).key()], "the others were asked and have answered");

    let asked = |fake: &Fake, method: &str| {
        let seen = fake.seen();
        seen.iter().filter(|seen| seen.method == method).count()
    };
    let before = asked(&fake, "POST");
    let publishing = lease.publish(&all);
    assert!(tokio::time::timeout(Duration::from_secs(1), publishing).await.is_err(), "one is stuck");
    assert_eq!(asked(&fake, "POST") - before, 60, "publications");
    let gone: Vec<_> = all.iter().map(|one| Arc::clone(&one.instance)).collect();
    let before = asked(&fake, "DELETE");
    let removing = lease.withdraw(&gone);
    assert!(tokio::time::timeout(Duration::from_secs(1), removing).await.is_err(), "one is stuck");
    assert_eq!(asked(&fake, "DELETE") - before, 60, "removals");
}
