//! Whom an operator has disabled: in no list, and there all the same.

use super::*;

/// As servers tell of one instance; those of 3.x say too whether it is disabled.
fn detail(by: &str) -> String {
    format!(
        r#"{{"service":"DEFAULT_GROUP@@orders","ip":"10.0.0.7","port":80,"clusterName":"DEFAULT","weight":1.0,"healthy":true,"instanceId":null,"metadata":{{"sr.id":"a","sr.by":"{by}"}}}}"#
    )
}

fn is_about_one(seen: &Seen) -> bool {
    seen.method == "GET" && seen.target.contains("/ns/instance?")
}

#[tokio::test]
async fn who_is_in_no_list_is_asked_for_and_ours_if_the_server_has_it() {
    let us = format!("{}1/1/1", "0".repeat(31));
    let other = format!("{}2/1/1", "0".repeat(31));
    let version = RecordVersion { incarnation: US, epoch: 1, sequence: 1 };
    let wrapped = |data: &str| Reply::ok(format!(r#"{{"code":0,"message":"success","data":{data}}}"#));
    let none = "caused: errCode: 404, errMsg: no matched ip found!;";
    for (options, reply, expected, asks) in [
        ("?api=v1", Reply::ok(detail(&us)), Presence::Ours { version }, 1),
        ("?api=v2", wrapped(&detail(&us)), Presence::Ours { version }, 1),
        ("?api=v1", Reply::ok(detail(&other)), Presence::Missing, 1),
        ("?api=v1", Reply::ok(r#"{"status":"UP"}"#), Presence::Missing, 1),
        ("?api=v1", Reply::ok(EMPTY_V1), Presence::Missing, 1),
        ("?api=v1", Reply::status(404, none), Presence::Missing, 1),
        ("?api=v1", Reply::status(404, "<html>"), Presence::Missing, 1),
        ("?api=v2", wrapped("null"), Presence::Missing, 1),
        ("?api=v2", Reply::ok(r#"{"code":20004,"message":"resource not found"}"#), Presence::Missing, 1),
        ("?api=v3", wrapped(&detail(&us)), Presence::Ours { version }, 1),
        ("?api=v3", wrapped(&detail(&other)), Presence::Missing, 1),
        (
            "?api=v3",
            Reply::status(404, r#"{"code":21003,"message":"instance not found"}"#),
            Presence::Missing,
            1,
        ),
        // Who is no operator: its beats are taken.
        (
            "?api=v3",
            Reply::status(403, r#"{"code":403,"message":"no rights"}"#),
            Presence::Ours { version },
            1,
        ),
        ("?api=v3", Reply::status(401, ""), Presence::Ours { version }, 1),
        // Who has no such API.
        ("?api=v1", Reply::status(410, GONE), Presence::Missing, 1),
        ("?api=v1&request_timeout=1s", Reply::Hang, Presence::Unknown, 1),
        ("?api=v3", Reply::status(503, "server is DOWN now"), Presence::Unknown, 1),
        ("?api=v1", Reply::status(429, "over"), Presence::Unknown, 1),
    ] {
        let told = reply.clone();
        let fake = Fake::start(move |request| match is_about_one(request) {
            true => told.clone(),
            false => usual(request),
        });
        let fake = fake.await;
        let backend = connect(&fake, options).await;
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        let keys = [instance("a", 80).key(), instance("stranger", 81).key()];
        let asked = || fake.seen().into_iter().filter(is_about_one).collect::<Vec<_>>();
        assert_eq!(lease.inspect(&keys[..1]).await.unwrap(), [Presence::Ours { version }]);
        assert_eq!(asked().len(), 0, "it was written just now");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3)).await;
        tokio::time::resume();
        let seen = lease.inspect(&keys).await.unwrap();
        assert_eq!(seen, [expected, Presence::Missing], "{options} {reply:?}");
        let asked = asked();
        assert_eq!(asked.len(), asks, "{options} {reply:?}: only for what is held here");
        assert!(asked.iter().all(|seen| seen.target.contains("ip=10.0.0.7&port=80&")), "{asked:?}");
        // Of what is to go nobody wants to know.
        lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3)).await;
        tokio::time::resume();
        assert_eq!(lease.inspect(&keys[..1]).await.unwrap(), [Presence::Missing]);
        assert_eq!(fake.seen().into_iter().filter(is_about_one).count(), asks, "{options}");
    }
}

#[tokio::test]
async fn who_is_in_a_list_is_not_asked_for() {
    let list = format!(r#"{{"hosts":[{}]}}"#, detail(&format!("{}1/1/1", "0".repeat(31))));
    let fake = Fake::start(move |request| match request.target.contains("/list?") {
        true => Reply::ok(list.clone()),
        false => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3)).await;
    tokio::time::resume();
    let seen = lease.inspect(&[instance("a", 80).key()]).await.unwrap();
    assert!(matches!(seen[..], [Presence::Ours { .. }]), "{seen:?}");
    assert_eq!(fake.seen().into_iter().filter(is_about_one).count(), 0);
}

/// A server of 3.x that tells operators only, and what it answers to beats.
async fn secretive(beat: impl Fn() -> Reply + Send + 'static) -> Fake {
    Fake::start(move |request| match String::from_utf8_lossy(&request.body).contains("heartBeat=true") {
        _ if is_about_one(request) => Reply::status(403, r#"{"code":403,"message":"no rights"}"#),
        true => beat(),
        false => usual(request),
    })
    .await
}

#[tokio::test]
async fn who_is_no_operator_learns_from_beats_whether_a_disabled_one_is_there() {
    let unknown = r#"{"code":21003,"message":"instance not found","data":null}"#;
    let version = RecordVersion { incarnation: US, epoch: 1, sequence: 1 };
    for (beat, expected) in [
        (Reply::ok(OK_V3), Presence::Ours { version }),
        (Reply::ok(unknown), Presence::Missing),
        (Reply::status(404, unknown), Presence::Missing),
        (Reply::status(503, "server is DOWN now"), Presence::Unknown),
        (Reply::status(403, r#"{"code":403,"message":"no rights"}"#), Presence::Unknown),
    ] {
        let told = beat.clone();
        let fake = secretive(move || told.clone()).await;
        let backend = connect(&fake, "?api=v3").await;
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        later(Duration::from_secs(3)).await;
        let asked = || fake.seen().into_iter().filter(is_about_one).count();
        for _ in 0..3 {
            assert_eq!(lease.inspect(&[instance("a", 80).key()]).await.unwrap(), [expected], "{beat:?}");
            later(Duration::from_secs(60)).await;
        }
        assert_eq!(asked(), 1, "it is known who is told");
        later(Duration::from_secs(8 * 60)).await;
        lease.inspect(&[instance("a", 80).key()]).await.unwrap();
        assert_eq!(asked(), 2, "the right may have been given since");
    }
}

#[tokio::test]
async fn a_persistent_one_that_is_missing_is_missing_to_who_is_no_operator() {
    let fake = secretive(|| panic!("nobody beats for it")).await;
    let backend = connect(&fake, "?api=v3&ephemeral=false").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    later(Duration::from_secs(3)).await;
    assert_eq!(lease.inspect(&[instance("a", 80).key()]).await.unwrap(), [Presence::Missing]);
}

#[tokio::test]
async fn who_is_asked_for_by_itself_has_a_request_s_time_however_long_the_lists_took() {
    let us = format!("{}1/1/1", "0".repeat(31));
    let fake = Fake::start(move |request| match request.target.contains("/list?") {
        _ if is_about_one(request) => {
            Reply::After(Duration::from_millis(1200), Box::new(Reply::ok(detail(&us))))
        }
        true => Reply::After(Duration::from_millis(1200), Box::new(usual(request))),
        false => usual(request),
    });
    let fake = fake.await;
    let backend = connect(&fake, "?api=v1&request_timeout=2s").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    later(Duration::from_secs(3)).await;
    let seen = lease.inspect(&[instance("a", 80).key()]).await.unwrap();
    assert!(matches!(seen[..], [Presence::Ours { .. }]), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_answers_costs_the_others_of_one_look_nothing() {
    let us = format!("{}1/1/1", "0".repeat(31));
    let version = RecordVersion { incarnation: US, epoch: 1, sequence: 1 };
    // In ms; by default a request has 2.5 s, and whoever looks 3 s in all.
    for list_takes in [0, 600, 1_200, 2_300] {
        let list = format!(r#"{{"hosts":[{}]}}"#, detail(&us));
        let fake = Fake::start(move |request| match request.target.contains("/list?") {
            _ if is_about_one(request) => Reply::Hang,
            true => Reply::After(Duration::from_millis(list_takes), Box::new(Reply::ok(list.clone()))),
            false => usual(request),
        });
        let fake = fake.await;
        let backend = connect(&fake, "?api=v1&ephemeral=false").await;
        let lease = grant(&backend).await;
        for outcome in lease.publish(&[record("a", 80), record("b", 81)]).await {
            outcome.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let keys = [instance("a", 80).key(), instance("b", 81).key()];
        let looked = tokio::time::timeout(Duration::from_secs(3), lease.inspect(&keys)).await;
        let looked = looked.unwrap_or_else(|_| panic!("lists of {list_takes} ms: too late"));
        assert_eq!(looked.unwrap(), [Presence::Ours { version }, Presence::Unknown], "{list_takes}");
    }
}

#[tokio::test]
async fn a_persistent_instance_that_the_server_finds_unhealthy_is_failing() {
    let us = format!("{}1/1/1", "0".repeat(31));
    let list = |flags: &str| format!(r#"{{"hosts":[{}]}}"#, detail(&us).replace(r#""healthy":true"#, flags));
    let version = RecordVersion { incarnation: US, epoch: 1, sequence: 1 };
    for (options, flags, expected) in [
        ("?api=v1&ephemeral=false", r#""healthy":false"#, Presence::Failing),
        ("?api=v1&ephemeral=false", r#""healthy":true"#, Presence::Ours { version }),
        ("?api=v1&ephemeral=false", r#""healthy":true,"enabled":false"#, Presence::Ours { version }),
        // Its beats mend it.
        ("?api=v1", r#""healthy":false"#, Presence::Ours { version }),
    ] {
        let list = list(flags);
        let mut is_there = false;
        let fake = Fake::start(move |request| {
            is_there |= request.method == "POST";
            match request.target.contains("/list?") && is_there {
                true => Reply::ok(list.clone()),
                false => usual(request),
            }
        });
        let fake = fake.await;
        let backend = connect(&fake, options).await;
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3)).await;
        tokio::time::resume();
        assert_eq!(lease.inspect(&[instance("a", 80).key()]).await.unwrap(), [expected], "{options} {flags}");
        if expected == Presence::Failing {
            // Nobody sees it: what is written meanwhile doesn't change that, and no publication succeeds.
            let writes = || fake.seen().into_iter().filter(|seen| seen.method == "POST").collect::<Vec<_>>();
            let error = lease.publish(&[record("a", 80)]).await.remove(0).unwrap_err();
            assert_eq!((error.kind(), writes().len()), (ErrorKind::Unavailable, 1), "{error}");
            let mut newer = record("a", 80);
            newer.version.sequence = 2;
            lease.publish(&[newer]).await.remove(0).unwrap_err();
            let body = |seen: &Seen| String::from_utf8(seen.body.clone()).unwrap();
            let bodies: Vec<_> = writes().iter().map(body).collect();
            assert!(bodies[0].contains("healthy=true") && bodies[1].contains("healthy=false"), "{bodies:?}");
        }
    }
}
