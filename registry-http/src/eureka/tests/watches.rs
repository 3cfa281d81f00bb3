use std::collections::VecDeque;

use registry_core::{ErrorKind, backend::Read};

use super::*;

/// Answers requests in order, each with what it is to be asked for; the last one again and again.
async fn scripted(script: impl IntoIterator<Item = (&'static str, Reply)>) -> Fake {
    let mut script: VecDeque<(&str, Reply)> = script.into_iter().collect();
    Fake::start(move |seen| {
        let (expected, reply) =
            if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() };
        if seen.target == expected {
            reply
        } else {
            Reply::status(418, &format!("{expected} rather than {}", seen.target))
        }
    })
    .await
}

const LIST: &str = "/eureka/apps/";
const DELTA: &str = "/eureka/apps/delta";

#[tokio::test]
async fn a_delta_whose_hash_differs_is_followed_by_the_list() {
    let fake = scripted([
        (LIST, list(&["a", "b"])),
        (DELTA, delta("UP_3_", &[("c", "ADDED")])),
        (DELTA, delta("UP_7_", &[("a", "DELETED"), ("d", "ADDED")])),
        (LIST, list(&["b", "c", "e"])),
        (DELTA, delta("UP_3_", &[("e", "ADDED")])),
    ])
    .await;
    let mut watch = watch(&backend(&[&fake.address], "").await);
    for expected in ["=[a b]", "+c", "-a =[b c e]", "+e", ""] {
        assert_eq!(told(&next(&mut watch).await.unwrap()), expected);
    }
}

#[tokio::test]
async fn a_server_that_refuses_deltas_is_asked_for_lists() {
    for refusal in [403, 404] {
        let fake = scripted([
            (LIST, list(&["a"])),
            (DELTA, Reply::status(refusal, "")),
            (LIST, list(&["a", "b"])),
            (LIST, list(&["b"])),
        ])
        .await;
        let mut watch = watch(&backend(&[&fake.address], "").await);
        for expected in ["=[a]", "=[a b]", "=[b]", "=[b]"] {
            assert_eq!(told(&next(&mut watch).await.unwrap()), expected);
        }
    }
}

#[tokio::test]
async fn a_list_of_another_memory_is_told_whole_though_it_has_the_same_fleet() {
    let registered = |at: u64, weight: u32| {
        let item = |id: &str| {
            let mut item = listed(id, "ADDED");
            item["leaseInfo"] = json!({"registrationTimestamp": at});
            item["metadata"] = json!({"weight": weight.to_string()});
            item
        };
        Reply::ok(applications("UP_2_", &[item("a"), item("b")]))
    };
    let fake = scripted([
        (LIST, registered(1, 1)),
        (DELTA, Reply::status(403, "")),
        (LIST, registered(2, 1)),
        (LIST, registered(2, 2)),
        (LIST, registered(3, 3)),
    ])
    .await;
    let mut watch = watch(&backend(&[&fake.address], "").await);
    let mut source = None;
    for (expected, is_anew) in [("=[a b]", true), ("=[a b]", true), ("+a +b", false), ("=[a b]", true)] {
        let event = next(&mut watch).await.unwrap();
        assert_eq!((&*told(&event), event.evidence.source != source), (expected, is_anew));
        source = event.evidence.source;
    }
}

#[tokio::test]
async fn a_delta_over_again_is_a_sign_of_life() {
    let fake = scripted([(LIST, list(&["a"])), (DELTA, delta("UP_2_", &[("b", "ADDED")]))]).await;
    let mut watch = watch(&backend(&[&fake.address], "").await);
    for expected in ["=[a]", "+b", "", ""] {
        let event = next(&mut watch).await.unwrap();
        assert_eq!(told(&event), expected);
        assert_eq!(event.evidence.endpoint.as_deref(), Some(&*fake.address));
    }
}

#[tokio::test]
async fn all_watches_share_one_poll_which_ends_with_the_last_of_them() {
    let fake = scripted([(LIST, list(&["a"])), (DELTA, delta("UP_1_", &[]))]).await;
    let backend = backend(&[&fake.address], "").await;
    let mut watches: Vec<_> = (0..50).map(|_| watch(&backend)).collect();
    for watch in &mut watches {
        assert_eq!(told(&next(watch).await.unwrap()), "=[a]");
    }
    let (mut first, rest) = (watches.remove(0), watches);
    assert_eq!(count(&fake, "GET", LIST) - count(&fake, "GET", DELTA), 1);
    drop(rest);
    next(&mut first).await.unwrap();
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let asked = fake.seen().len();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(fake.seen().len(), asked);
    // The next one begins anew; its first answer is a delta, which is no list.
    assert_eq!(next(&mut watch(&backend)).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_failure_ends_every_watch_and_says_what_it_was() {
    let cut = || {
        let body = applications("UP_1_", &[listed("a", "ADDED")]);
        Reply::Raw(
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", body.len(), &body[..100]).into(),
        )
    };
    let huge = || Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 134217729\r\n\r\n{".to_vec());
    for (reply, kind) in [
        (Reply::status(503, ""), ErrorKind::RateLimited),
        (Reply::status(500, ""), ErrorKind::Unavailable),
        (Reply::status(401, ""), ErrorKind::Unauthenticated),
        (Reply::status(418, ""), ErrorKind::InvalidArgument),
        (Reply::status(302, "").with("location", &"http://elsewhere/"), ErrorKind::Protocol),
        (Reply::ok("<applications><apps__hashcode/></applications>"), ErrorKind::Protocol),
        (Reply::ok("{\"applications\":{\"application\":[{"), ErrorKind::Protocol),
        (Reply::ok([0xff, 0xfe]), ErrorKind::Protocol),
        (cut(), ErrorKind::Unavailable),
        (huge(), ErrorKind::Protocol),
        (Reply::Hang, ErrorKind::Timeout),
        (Reply::Close, ErrorKind::Unavailable),
    ] {
        for later in [false, true] {
            let first = [(LIST, list(&["a"]))];
            let last = (if later { DELTA } else { LIST }, reply.clone());
            let fake = scripted(first.into_iter().take(usize::from(later)).chain([last])).await;
            let backend = backend(&[&fake.address], "request_timeout=2s").await;
            let mut watches = [watch(&backend), watch(&backend)];
            for watch in watches.iter_mut().filter(|_| later) {
                assert_eq!(told(&next(watch).await.unwrap()), "=[a]");
            }
            for watch in &mut watches {
                let error = loop {
                    if let Err(error) = next(watch).await {
                        break error;
                    }
                };
                assert_eq!(error.kind(), kind, "{reply:?}: {error:?}");
                assert_eq!((error.backend(), error.operation()), (Some("eureka"), Some("watch")));
                assert!(watch.next().await.is_none(), "an error is the last item");
            }
        }
    }
}

#[tokio::test]
async fn a_watch_that_slept_through_the_failure_of_its_poll_is_told_of_it() {
    let mut asked = 0;
    let fake = Fake::start(move |_| {
        asked += 1;
        match asked {
            1 => list(&["a"]),
            2..30 => delta("UP_1_", &[("a", if asked % 2 == 0 { "MODIFIED" } else { "ADDED" })]),
            _ => Reply::status(500, ""),
        }
    })
    .await;
    let mut watch = watch(&backend(&[&fake.address], "").await);
    assert_eq!(told(&next(&mut watch).await.unwrap()), "=[a]");
    // More rounds than are kept for anybody.
    while fake.seen().len() < 30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let error = loop {
        if let Err(error) = next(&mut watch).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_list_that_is_refused_with_403_comes_from_another_server() {
    let starting = Fake::start(|seen| Reply::status(if is_single(seen) { 404 } else { 403 }, "")).await;
    let error = next(&mut watch(&backend(&[&starting.address], "").await)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "not ready yet");
    let other = scripted([(LIST, list(&["a"]))]).await;
    // Whichever comes first.
    for _ in 0..4 {
        let backend = backend(&[&starting.address, &other.address], "").await;
        assert_eq!(told(&next(&mut watch(&backend)).await.unwrap()), "=[a]");
    }
}

#[tokio::test]
async fn a_memory_that_started_anew_is_another_source() {
    let anew = |id: &str| {
        let mut item = listed(id, "ADDED");
        item["leaseInfo"]["registrationTimestamp"] = 8.into();
        Reply::ok(applications("UP_1_", &[item]))
    };
    let fake = scripted([
        (LIST, list(&["a", "b"])),
        (DELTA, delta("UP_2_", &[])),
        (DELTA, delta("UP_1_", &[("b", "DELETED")])),
        (DELTA, delta("UP_9_", &[])),
        (LIST, list(&["a", "c"])),
        (DELTA, delta("", &[])),
        (LIST, list(&[])),
        (DELTA, delta("UP_1_", &[])),
        (LIST, anew("a")),
    ])
    .await;
    let mut watch = watch(&backend(&[&fake.address], "").await);
    let mut events = Vec::new();
    for expected in ["=[a b]", "", "-b", "=[a c]", "=[]", "=[a]"] {
        let event = next(&mut watch).await.unwrap();
        assert_eq!(told(&event), expected);
        events.push(event.evidence.source.unwrap());
    }
    assert!(events[..4].iter().all(|source| *source == events[0]), "{events:?}");
    assert_ne!(events[4], events[3], "nothing of what it had is there");
    assert_eq!(events[5], events[4], "an empty memory that fills");
}

#[tokio::test]
async fn a_delta_without_a_body_is_followed_by_the_list_and_a_list_without_one_is_a_failure() {
    for nothing in ["", "null", r#"{"applications":null}"#] {
        let fake = scripted([
            (LIST, list(&["a"])),
            (DELTA, Reply::ok(nothing)),
            (LIST, list(&["a", "b"])),
            (LIST, Reply::ok("")),
        ])
        .await;
        let backend = backend(&[&fake.address], "").await;
        let mut watch = watch(&backend);
        assert_eq!(told(&next(&mut watch).await.unwrap()), "=[a]");
        assert_eq!(told(&next(&mut watch).await.unwrap()), "=[a b]", "{nothing:?}");
        assert_eq!(next(&mut watch).await.unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn a_memory_is_recognised_across_sessions() {
    let fake = scripted([
        (LIST, list(&["a", "b"])),
        (DELTA, Reply::status(500, "")),
        // A server in trouble isn't asked for everything.
        (DELTA, delta("UP_1_", &[("a", "DELETED")])),
        (DELTA, Reply::status(500, "")),
        (DELTA, delta("UP_7_", &[])),
        (LIST, list(&[])),
    ])
    .await;
    let backend = backend(&[&fake.address], "").await;
    let mut sources = Vec::new();
    for expected in ["=[a b]", "-a =[b]", "=[]"] {
        let mut watch = watch(&backend);
        let event = next(&mut watch).await.unwrap();
        assert_eq!(told(&event), expected);
        sources.push(event.evidence.source.unwrap());
        if expected != "=[]" {
            while next(&mut watch).await.is_ok() {}
        }
    }
    assert_eq!(sources[0], sources[1]);
    assert_ne!(sources[1], sources[2], "it forgot everything meanwhile");
}

#[tokio::test]
async fn a_look_tells_a_memory_that_started_anew_too() {
    let at = |id: &str, registered: u64| {
        let mut item = listed(id, "ADDED");
        item["leaseInfo"]["registrationTimestamp"] = registered.into();
        item
    };
    let looks = [vec![at("a", 8), at("b", 7)], vec![at("c", 9)], vec![], vec![at("a", 8), at("b", 9)]];
    let mut looks = looks.into_iter();
    let fake = Fake::start(move |seen| match &*seen.target {
        LIST => list(&["a", "b"]),
        DELTA => delta("UP_2_", &[]),
        _ => Reply::ok(json!({"application": {"name": "ORDERS", "instance": looks.next()}}).to_string()),
    })
    .await;
    let backend = backend(&[&fake.address], "").await;
    let mut watch = watch(&backend);
    let source = next(&mut watch).await.unwrap().evidence.source;
    let mut same = Vec::new();
    for _ in 0..4 {
        let look = backend.discovery.as_ref().unwrap().lookup(&target(), &Read::default()).await;
        same.push(look.unwrap().evidence.source == source);
    }
    assert_eq!(
        same,
        [true, true, true, false],
        "one that it knew has its time; none is known; all came anew"
    );
}

#[tokio::test]
async fn a_bad_entry_is_rejected_and_hides_no_other() {
    let mut bad = listed("bad", "ADDED");
    bad["port"] = 70_000.into();
    let all = [listed("a", "ADDED"), bad.clone(), json!(7)];
    let fake = scripted([
        (LIST, Reply::ok(applications("UP_2_", &all))),
        (DELTA, Reply::ok(applications("UP_2_", &[bad, listed("a", "MODIFIED")]))),
    ])
    .await;
    let mut watch = watch(&backend(&[&fake.address], "").await);
    for expected in ["=[a]", "+a"] {
        let event = next(&mut watch).await.unwrap();
        let rejected: Vec<_> = event.rejected.iter().map(|key| key.id.as_str()).collect();
        assert_eq!((&*told(&event), rejected), (expected, vec!["bad"]));
    }
}

#[tokio::test]
async fn a_watch_by_vip_address_sees_who_leaves_it() {
    let of = |vip: &str, action: &str| {
        let mut item = listed("a", action);
        item["vipAddress"] = vip.into();
        item
    };
    let fake = scripted([
        (LIST, Reply::ok(applications("UP_2_", &[of("x,shop", "ADDED"), listed("b", "ADDED")]))),
        (DELTA, Reply::ok(applications("UP_2_", &[of("x", "MODIFIED")]))),
        (DELTA, Reply::ok(applications("UP_2_", &[of("SHOP", "MODIFIED"), listed("b", "MODIFIED")]))),
    ])
    .await;
    let backend = backend(&[&fake.address], "").await;
    let target = Target::try_from("store").unwrap().with_qualifier("vip", "shop").unwrap();
    let mut watch = backend.discovery.as_ref().unwrap().watch(&target, None);
    for expected in ["=[a]", "-a", "+a"] {
        assert_eq!(told(&next(&mut watch).await.unwrap()), expected);
    }
}

#[tokio::test]
async fn regions_are_asked_for_and_polled_apart() {
    let fake = scripted([
        ("/eureka/apps/?regions=us-east%2Ceu", list(&["a"])),
        ("/eureka/apps/delta?regions=us-east%2Ceu", delta("UP_1_", &[])),
    ])
    .await;
    let backend = backend(&[&fake.address], "").await;
    let target = target().with_qualifier("region", "us-east,eu").unwrap();
    let mut watch = backend.discovery.as_ref().unwrap().watch(&target, None);
    assert_eq!(told(&next(&mut watch).await.unwrap()), "=[a]");
    assert_eq!(told(&next(&mut watch).await.unwrap()), "");
}

#[tokio::test]
async fn an_unknown_qualifier_is_refused_rather_than_widening_the_query() {
    let backend = backend(&["127.0.0.1:1"], "").await;
    for (key, value) in [("group", "g"), ("vip", "")] {
        let target = target().with_qualifier(key, value).unwrap();
        let mut watch = backend.discovery.as_ref().unwrap().watch(&target, None);
        assert_eq!(next(&mut watch).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}
