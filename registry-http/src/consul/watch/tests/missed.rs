//! What a list lacks that was shown before: gone, or hidden.

use std::sync::Arc;

use super::{
    partial::{questions, some, streamed, told, with_token},
    *,
};
use crate::consul::shown::{Noted, Places};

/// Lists by number; questions for what is missing are answered as by a Consul that marks them if anything of the whole list
/// is hidden; and what is answered to who asks for the node.
async fn newer(
    script: impl Fn(usize) -> Reply + Send + 'static,
    node: impl Fn() -> Reply + Send + 'static,
) -> Fake {
    let mut lists_read = 0;
    lists(move |_, seen| {
        if seen.target.contains("Service.ID") {
            return told(6, &[], true);
        }
        if seen.target.starts_with("/v1/catalog/node-services/n1") {
            return node();
        }
        lists_read += 1;
        script(lists_read)
    })
    .await
}

/// What a node shows: its services by id and name.
fn node(services: &[(&str, &str)], is_filtered: bool) -> Reply {
    let services: Vec<Value> =
        services.iter().map(|(id, name)| json!({"ID": id, "Service": name, "Tags": ["v1"]})).collect();
    filtered(&json!({"Node": {"Node": "n1"}, "Services": services}), is_filtered)
}

pub(super) fn filtered(body: &Value, is_filtered: bool) -> Reply {
    let reply = Reply::ok(body.to_string());
    if is_filtered { reply.with("X-Consul-Results-Filtered-By-ACLs", &"true") } else { reply }
}

#[tokio::test]
async fn where_the_mark_is_of_the_whole_list_the_node_tells_what_is_gone_from_what_is_hidden() {
    let nothing = || json!({"Node": null, "Services": []});
    let cases: [(&str, Reply, Result<&str, ErrorKind>); 9] = [
        ("it may be read", node(&[("a", "orders")], false), Ok("-b@n1 @Some(6)")),
        ("other services of it are hidden", node(&[("a", "orders")], true), Ok("-b@n1 @Some(6)")),
        ("its id is another's now", node(&[("b", "bills")], false), Ok("-b@n1 @Some(6)")),
        ("it is gone", filtered(&nothing(), false), Ok("-b@n1 @Some(6)")),
        ("it is hidden", filtered(&nothing(), true), Err(ErrorKind::PermissionDenied)),
        ("rights came back", node(&[("b", "orders")], false), Err(ErrorKind::Unavailable)),
        ("nobody says", Reply::status(404, "404 page not found"), Err(ErrorKind::PermissionDenied)),
        ("nobody knows", Reply::ok("[]"), Err(ErrorKind::PermissionDenied)),
        ("no leader", Reply::status(500, "No cluster leader"), Err(ErrorKind::Unavailable)),
    ];
    for (why, reply, expected) in cases {
        let fake = newer(
            |read| if read == 1 { told(5, &["a", "b"], true) } else { told(6, &["a"], true) },
            move || reply.clone(),
        )
        .await;
        let mut stream = with_token(&fake, "").watch(&target(), None);
        next(&mut stream).await;
        let event = stream.next().await.unwrap();
        let event = event.as_ref().map(shown).map_err(Error::kind);
        assert_eq!(event, expected.map(ToOwned::to_owned), "{why}");
    }
}

#[tokio::test]
async fn a_node_that_shows_none_of_a_service_proves_nothing_to_who_may_not_read_the_service() {
    // The agent still remembers that it might.
    let fake = lists(|read, seen| match &seen.target {
        target if target.contains("authorize") => Reply::ok(r#"[{"Allow": true}, {"Allow": true}]"#),
        target if target.contains("node-services") => node(&[("x", "bills")], true),
        _ if read == 1 => told(5, &["a"], false),
        _ => told(6, &[], true),
    })
    .await;
    let mut stream = with_token(&fake, "").watch(&target(), None);
    next(&mut stream).await;
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
}

#[tokio::test]
async fn an_instance_without_the_tag_any_more_is_gone_from_who_asks_for_the_tag() {
    let fake = newer(
        |read| if read == 1 { told(5, &["a", "b"], true) } else { told(6, &["a"], true) },
        || node(&[("b", "orders")], false),
    )
    .await;
    let tagged = target().with_qualifier("tag", "v2").unwrap();
    let mut stream = with_token(&fake, "").watch(&tagged, None);
    next(&mut stream).await;
    assert_eq!(next(&mut stream).await, "-b@n1 @Some(6)");
}

#[tokio::test]
async fn a_streamed_list_that_lacks_somebody_is_read_once_from_the_leader_and_that_counts() {
    // `b` is gone; `c` was restarted meanwhile, on another port.
    let fake = some(
        |read| match read {
            1 => told(5, &["a", "b", "c"], false),
            2 => streamed(6, &["a"]),
            3 => list(7, &[entry("a", 1), entry("c", 2)]),
            _ => Reply::Hang,
        },
        |_| panic!("the list tells all"),
    )
    .await;
    let mut stream = with_token(&fake, "").watch(&target(), None);
    next(&mut stream).await;
    assert_eq!(next(&mut stream).await, "+c@n1:2 -b@n1 @Some(7)");
    assert_eq!(reads(&fake)[2], "/v1/health/service/orders");
    assert_eq!(reads(&fake).len(), 3);
}

#[tokio::test]
async fn nobody_asks_the_leader_where_no_rights_are_in_force_or_nobody_is_missing() {
    let free = |index, ids: &[&str]| {
        let entries: Vec<Value> = ids.iter().map(|id| entry(id, 1)).collect();
        list(index, &entries).with("X-Consul-Query-Backend", &"streaming")
    };
    let fake = lists(move |read, _| match read {
        1 => free(5, &["a", "b"]),
        2 => free(6, &["a"]),
        _ => Reply::Hang,
    })
    .await;
    let mut stream = watch(&fake, "&read=cached");
    assert_eq!(next(&mut stream).await, r#"=["a@n1", "b@n1"] @Some(5)"#);
    assert_eq!(next(&mut stream).await, "-b@n1 @Some(6)");
    let fake = lists(|read, _| match read {
        1 => told(5, &["a"], false),
        2 => streamed(6, &["a", "b"]),
        _ => Reply::Hang,
    })
    .await;
    let mut stream = with_token(&fake, "").watch(&target(), None);
    next(&mut stream).await;
    assert_eq!(next(&mut stream).await, "+b@n1:1 @Some(6)");
    assert_eq!(reads(&fake).len(), 2);
}

#[tokio::test]
async fn whether_a_streamed_first_list_is_whole_is_asked_once() {
    let fake = some(
        |read| match read {
            1 => streamed(5, &["a"]),
            2 => told(5, &["a"], true),
            // The others say nothing of it.
            3 | 4 => streamed(5, &["a"]),
            5 => told(6, &["a"], false),
            6 => streamed(6, &["a"]),
            _ => Reply::Hang,
        },
        |_| panic!("nobody is missing"),
    )
    .await;
    let discovery = with_token(&fake, "&read=cached");
    let mut stream = discovery.watch(&target(), None);
    let mut partial = async || stream.next().await.unwrap().unwrap().evidence.partial;
    assert!(partial().await);
    assert_eq!(reads(&fake)[1], "/v1/health/service/orders");
    assert!(partial().await);
    let looked = discovery.lookup(&target(), &Read::default()).await.unwrap();
    assert!(looked.evidence.partial, "as the watch was told");
    assert_eq!(reads(&fake).len(), 4);
    assert!(!partial().await);
    assert!(!partial().await);
}

#[tokio::test]
async fn one_that_is_gone_since_rights_are_in_force_is_gone() {
    let fake = some(
        |read| if read == 1 { list(5, &[entry("a", 1)]) } else { told(6, &["b"], true) },
        |_| told(6, &[], false),
    )
    .await;
    let mut stream = watch(&fake, "");
    next(&mut stream).await;
    assert_eq!(next(&mut stream).await, "+b@n1:1 -a@n1 @Some(6)");
}

#[tokio::test]
async fn of_a_list_too_long_to_be_noted_the_registry_says_whether_all_may_be_read() {
    for (allowed, expected) in [(true, None), (false, Some(ErrorKind::PermissionDenied))] {
        let fake = lists(move |read, seen| {
            if seen.target.starts_with("/v1/internal/acl/authorize") {
                return Reply::ok(json!([{"Allow": true}, {"Allow": allowed}]).to_string());
            }
            let many: Vec<Value> = (0..3000).map(|n| entry(&format!("i{n}"), 1)).collect();
            if read == 1 { list(5, &many) } else { told(6, &["b"], true) }
        })
        .await;
        let mut stream = watch(&fake, "");
        next(&mut stream).await;
        assert_eq!(stream.next().await.unwrap().err().map(|error| error.kind()), expected);
    }
}

#[tokio::test]
async fn a_view_knows_what_it_was_shown_whatever_else_is_remembered() {
    let fake = newer(
        |read| if read == 1 { told(5, &["a", "b"], true) } else { told(6, &["a"], true) },
        || filtered(&json!({"Node": null}), true),
    )
    .await;
    let config: ConsulConfig = format!("consul://:secret@{}?wait=1s", fake.address).parse().unwrap();
    let session = Session::new(config, None);
    let discovery = ConsulDiscovery::new(Arc::clone(&session), Names::new(&Namespace::default()));
    let mut stream = discovery.watch(&target(), None);
    next(&mut stream).await;
    let other = session.shown.get("/v1/health/service/orders").expect("it is noted");
    for n in 0..5000 {
        let places = Arc::new(Places::unnoted());
        session.shown.set(&n.to_string(), Noted::whole(places, other.told.clone()));
    }
    assert!(session.shown.get("/v1/health/service/orders").is_none());
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_look_that_lags_behind_a_watch_misses_nobody() {
    let fake = some(
        |read| match read {
            1 | 3 => told(10, &["a", "b"], true),
            _ => told(9, &["a"], true),
        },
        |_| panic!("nobody is missing"),
    )
    .await;
    let discovery = with_token(&fake, "");
    let mut stream = discovery.watch(&target(), None);
    next(&mut stream).await;
    let looked = discovery.lookup(&target(), &Read::default()).await.unwrap();
    assert_eq!(looked.instances.len(), 2);
    assert_eq!(reads(&fake)[2], "/v1/health/service/orders");
    assert_eq!(questions(&fake), [] as [&str; 0]);
}

#[tokio::test]
async fn what_was_shown_is_forgotten_with_the_last_session_and_kept_by_one_that_fails() {
    for is_watched in [false, true] {
        let fake = newer(
            |read| if read == 1 { told(5, &["a", "b"], true) } else { told(6, &["a"], true) },
            || filtered(&json!({"Node": null}), true),
        )
        .await;
        let discovery = with_token(&fake, "");
        next(&mut discovery.watch(&target(), None)).await;
        for _ in 0..2 {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(6 * 60)).await;
            tokio::time::resume();
            if is_watched {
                let session = discovery.watch(&target(), None).next().await.unwrap();
                assert_eq!(session.unwrap_err().kind(), ErrorKind::PermissionDenied);
            }
        }
        let looked = discovery.lookup(&target(), &Read::default()).await;
        assert_eq!(looked.is_err(), is_watched, "{looked:?}");
    }
}

/// From here on `b` is hidden.
async fn narrowed(script: impl Fn(usize) -> Reply + Send + 'static) -> Fake {
    newer(script, || filtered(&json!({"Node": null}), true)).await
}

#[tokio::test]
async fn while_one_is_hidden_the_changes_of_all_others_are_told() {
    let some = |index, entries: &[Value]| {
        list(index, entries)
            .with("X-Consul-Default-ACL-Policy", &"deny")
            .with("X-Consul-Results-Filtered-By-ACLs", &"true")
    };
    let elsewhere = |id: &str, port| {
        let mut one = entry(id, port);
        one["Node"]["Node"] = json!("n2");
        one
    };
    let fake = lists({
        let mut read = 0;
        move |_, seen| {
            if seen.target.contains("Service.ID") {
                return told(6, &[], true);
            }
            if seen.target.contains("node-services/n2") {
                return filtered(&json!({"Node": {"Node": "n2"}, "Services": []}), false);
            }
            if seen.target.contains("node-services") {
                return filtered(&json!({"Node": null}), true);
            }
            read += 1;
            match read {
                1 => some(5, &[elsewhere("a", 1), entry("b", 1), elsewhere("c", 1)]),
                // `a` has moved, `c` is gone, `d` is new.
                2 => some(6, &[elsewhere("a", 2), elsewhere("d", 1)]),
                3 => some(6, &[elsewhere("a", 2), elsewhere("d", 1)]),
                4 => some(7, &[elsewhere("a", 3), elsewhere("d", 1)]),
                5 => some(8, &[elsewhere("a", 3)]),
                6 => some(8, &[elsewhere("a", 3)]),
                _ => told(9, &["b"], false),
            }
        }
    })
    .await;
    let discovery = with_token(&fake, "");
    let mut stream = discovery.watch(&target(), None);
    next(&mut stream).await;
    let refused = async |stream: &mut WatchStream| {
        assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(stream.next().await.is_none());
    };
    assert_eq!(next(&mut stream).await, "+a@n2:2 +d@n2:1 -c@n2 !b@n1 @Some(6)");
    refused(&mut stream).await;
    // Nothing new.
    refused(&mut discovery.watch(&target(), None)).await;
    for expected in [r#"=["a@n2", "d@n2"] !b@n1 @Some(7)"#, r#"=["a@n2"] !b@n1 @Some(8)"#] {
        let mut stream = discovery.watch(&target(), None);
        assert_eq!(next(&mut stream).await, expected);
        refused(&mut stream).await;
    }
    refused(&mut discovery.watch(&target(), None)).await;
    // Rights return.
    assert_eq!(next(&mut discovery.watch(&target(), None)).await, r#"=["b@n1"] @Some(9)"#);
}

#[tokio::test]
async fn what_stays_hidden_for_an_hour_counts_as_gone() {
    let fake =
        narrowed(|read| if read == 1 { told(5, &["a", "b"], true) } else { told(6, &["a"], true) }).await;
    let discovery = with_token(&fake, "");
    let mut stream = discovery.watch(&target(), None);
    next(&mut stream).await;
    assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
    for _ in 0..11 {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(5 * 60)).await;
        tokio::time::resume();
        let refused = discovery.watch(&target(), None).next().await.unwrap();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5 * 60)).await;
    tokio::time::resume();
    let mut stream = discovery.watch(&target(), None);
    assert_eq!(next(&mut stream).await, r#"=["a@n1"] @Some(6)"#);
    assert_eq!(next(&mut stream).await, "@Some(6)", "and goes on");
}

#[tokio::test]
async fn a_session_that_begins_under_narrowed_rights_tells_in_the_end_what_it_shows() {
    let fake =
        narrowed(|read| if read == 1 { told(5, &["a", "b"], true) } else { told(6, &["a"], true) }).await;
    let discovery = with_token(&fake, "");
    next(&mut discovery.watch(&target(), None)).await;
    let mut told = Vec::new();
    for _ in 0..5 {
        let item = discovery.watch(&target(), None).next().await.unwrap();
        told.push(item.as_ref().map(shown).map_err(Error::kind));
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(4 * 60)).await;
        tokio::time::resume();
    }
    let refused = || Err(ErrorKind::PermissionDenied);
    let news = Ok(r#"=["a@n1"] !b@n1 @Some(6)"#.to_owned());
    assert_eq!(told, [refused(), refused(), refused(), news, refused()]);
}

#[tokio::test]
async fn many_that_go_at_once_are_told_as_gone_though_each_answer_takes_its_time() {
    let on = |count: usize| {
        let one = |at| {
            let mut one = entry(&format!("i{at}"), 1);
            one["Node"]["Node"] = json!(format!("n{at}"));
            one
        };
        let list = list(5 + count as u64, &(0..count).map(one).collect::<Vec<_>>());
        list.with("X-Consul-Default-ACL-Policy", &"deny").with("X-Consul-Results-Filtered-By-ACLs", &"true")
    };
    let mut lists_read = 0;
    let fake = lists(move |_, seen| {
        if seen.target.contains("Service.ID") {
            return told(6, &[], true);
        }
        if seen.target.contains("node-services") {
            let nobody = json!({"Node": null, "Services": []});
            return Reply::After(Duration::from_millis(100), Box::new(filtered(&nobody, false)));
        }
        lists_read += 1;
        if lists_read == 1 { on(64) } else { on(1) }
    })
    .await;
    let mut stream = with_token(&fake, "&request_timeout=2s").watch(&target(), None);
    next(&mut stream).await;
    let event = next(&mut stream).await;
    assert_eq!(event, "=[\"i0@n0\"] @Some(6)", "one after the other these are answered in 6.4 s");
}
