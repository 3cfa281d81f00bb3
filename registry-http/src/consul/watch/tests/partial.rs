//! Lists that leave out what the reader may not see.

use super::*;

/// Told to who has a token, of which something was left out or not.
pub(super) fn told(index: u64, ids: &[&str], is_filtered: bool) -> Reply {
    let entries: Vec<Value> = ids.iter().map(|id| entry(id, 1)).collect();
    let reply = list(index, &entries).with("X-Consul-Default-ACL-Policy", &"deny");
    if is_filtered { reply.with("X-Consul-Results-Filtered-By-ACLs", &"true") } else { reply }
}

pub(super) fn streamed(index: u64, ids: &[&str]) -> Reply {
    told(index, ids, false).with("X-Consul-Query-Backend", &"streaming")
}

pub(super) fn with_token(fake: &Fake, options: &str) -> ConsulDiscovery {
    let url = format!("consul://:secret@{}?wait=1s{options}", fake.address);
    let config: ConsulConfig = url.parse().unwrap();
    ConsulDiscovery::new(Session::new(config, None), Names::new(&Namespace::default()))
}

/// The questions for what is missing.
pub(super) fn questions(fake: &Fake) -> Vec<String> {
    reads(fake).into_iter().filter(|target| target.contains("Service.ID")).collect()
}

/// Lists by number, and what is answered to who asks for what is missing.
pub(super) async fn some(
    script: impl Fn(usize) -> Reply + Send + 'static,
    question: impl Fn(&Seen) -> Reply + Send + 'static,
) -> Fake {
    let mut lists_read = 0;
    lists(move |_, seen| {
        if seen.target.contains("Service.ID") {
            return question(seen);
        }
        lists_read += 1;
        script(lists_read)
    })
    .await
}

#[tokio::test]
async fn who_may_see_some_is_shown_those_and_told_that_they_are_some() {
    let fake = some(
        |read| match read {
            1 => told(5, &["a", "b"], true),
            // An agent that streams doesn't say it.
            2 => streamed(5, &["a", "b"]),
            3 => streamed(6, &["a", "c"]),
            // Of the leader, as one is missing.
            4 => told(6, &["a", "c"], true),
            5 => told(7, &["a", "c"], false),
            _ => Reply::Hang,
        },
        |_| told(6, &[], false),
    )
    .await;
    let mut stream = with_token(&fake, "").watch(&target(), None);
    let mut shown_partial = async || {
        let event = stream.next().await.unwrap().unwrap();
        (shown(&event), event.evidence.partial)
    };
    assert_eq!(shown_partial().await, (r#"=["a@n1", "b@n1"] @Some(5)"#.to_owned(), true));
    assert_eq!(shown_partial().await, ("@Some(5)".to_owned(), true));
    assert_eq!(shown_partial().await, ("+c@n1:1 -b@n1 @Some(6)".to_owned(), true));
    assert_eq!(shown_partial().await, ("@Some(7)".to_owned(), false));
    assert_eq!(
        questions(&fake),
        [
            "/v1/health/service/orders?filter=%28Node.Node%20%3D%3D%20%22n1%22%20and%20Service.ID%20%3D%3D%20%22b%22%29"
        ]
    );
}

#[tokio::test]
async fn what_is_hidden_from_now_on_is_not_told_as_gone_by_any_session_or_look() {
    let hides: [fn() -> Reply; 3] =
        [|| told(6, &["a"], true), || streamed(5, &["a"]), || streamed(6, &["a"])];
    for hiding in hides {
        for was_partial in [true, false] {
            let fake = some(
                move |read| if read == 1 { told(5, &["a", "b"], was_partial) } else { hiding() },
                |_| told(6, &[], true),
            )
            .await;
            let discovery = with_token(&fake, "");
            let mut stream = discovery.watch(&target(), None);
            next(&mut stream).await;
            let error = stream.next().await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
            assert!(stream.next().await.is_none());
            let again = discovery.watch(&target(), None).next().await.unwrap();
            assert_eq!(again.unwrap_err().kind(), ErrorKind::PermissionDenied);
            let looked = discovery.lookup(&target(), &Read::default()).await;
            assert_eq!(looked.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    }
}

#[tokio::test]
async fn what_the_leader_shows_and_the_list_lacks_is_not_gone_either() {
    let fake = some(
        |read| if read == 1 { told(5, &["a", "b"], true) } else { told(6, &["a"], true) },
        |_| told(6, &["b"], false),
    )
    .await;
    let mut stream = with_token(&fake, "").watch(&target(), None);
    next(&mut stream).await;
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_question_that_fails_removes_nobody() {
    for (reply, kind) in [
        (Reply::status(403, "ACL not found"), ErrorKind::Unauthenticated),
        (Reply::status(400, "failed to parse the filter"), ErrorKind::InvalidArgument),
        (Reply::Close, ErrorKind::Unavailable),
    ] {
        let fake = some(
            |read| if read == 1 { told(5, &["a", "b"], false) } else { streamed(6, &["a"]) },
            move |_| reply.clone(),
        )
        .await;
        let mut stream = with_token(&fake, "").watch(&target(), None);
        next(&mut stream).await;
        assert_eq!(stream.next().await.unwrap().unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn a_whole_list_needs_no_question_and_nobody_is_asked_for_more_than_fits() {
    let all: Vec<String> = (0..40).map(|n| format!("i{n}")).collect();
    let many = all.clone();
    let fake = some(
        move |read| match read {
            1 => told(5, &many.iter().map(String::as_str).collect::<Vec<_>>(), false),
            2 => told(6, &["i0", "i1"], false),
            3 => told(7, &["i0"], true),
            4 => told(8, &many.iter().map(String::as_str).collect::<Vec<_>>(), true),
            5 => told(9, &["i0"], true),
            _ => Reply::Hang,
        },
        |seen| {
            assert!(seen.target.len() < 4000, "{}", seen.target.len());
            told(6, &[], false)
        },
    )
    .await;
    let tagged = target().with_qualifier("tag", "v1").unwrap();
    let mut stream = with_token(&fake, "").watch(&tagged, None);
    for (lists, asked) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 4)] {
        next(&mut stream).await;
        assert_eq!(questions(&fake).len(), asked, "after {lists} lists");
    }
    let tag = "filter=%22v1%22%20in%20Service.Tags%20and%20%28%28Node";
    assert!(questions(&fake).iter().all(|question| question.contains(tag)), "{:?}", questions(&fake));
}

#[tokio::test]
async fn a_registry_that_begins_to_have_rights_is_not_believed_what_it_hides() {
    let fake = some(
        |read| if read == 1 { list(5, &[entry("a", 1)]) } else { told(6, &["b"], true) },
        |_| told(6, &[], true),
    )
    .await;
    let discovery = discovery(&fake, "");
    let mut stream = discovery.watch(&target(), None);
    next(&mut stream).await;
    assert_eq!(next(&mut stream).await, "+b@n1:1 !a@n1 @Some(6)", "it isn't gone");
    for _ in 0..2 {
        let error = stream.next().await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        stream = discovery.watch(&target(), None);
    }
}

#[tokio::test]
async fn a_prepared_query_that_leaves_some_out_is_refused() {
    let fake = lists(|_, _| {
        let body = json!({"Service": "orders", "Nodes": [entry("a", 1)]}).to_string();
        Reply::ok(body).with("X-Consul-Results-Filtered-By-ACLs", &"true")
    })
    .await;
    let target = target().with_qualifier("query", "near").unwrap();
    let looked = with_token(&fake, "").lookup(&target, &Read::default()).await;
    assert_eq!(looked.unwrap_err().kind(), ErrorKind::PermissionDenied);
}
