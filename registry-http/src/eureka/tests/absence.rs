//! Denials: Eureka's own, and those of whoever stands in front of it.

use registry_core::{ErrorKind, InstanceKey, backend::Presence};
use tokio::time::Instant;

use super::{
    leases::{beating, key, publish, standing},
    *,
};

/// What Spring Cloud's server answers to a beat for an instance that it doesn't know, and to every path that it doesn't
/// serve, as seen.
const SPRING: &str = r#"{"timestamp":"2026-11-22T00:50:18.097+00:00","status":404,"error":"Not Found","path":"/eureka/apps/ORDERS/orders%3Aa"}"#;
const NGINX: &str = "<html><head><title>404 Not Found</title></head><body>nginx</body></html>";

/// What one renewal told: the lost, the missed, or the kind of its failure.
type Told = Result<(Vec<InstanceKey>, Vec<InstanceKey>), ErrorKind>;

type Answers = fn(&Seen) -> Reply;

async fn renew(lease: &Arc<dyn Lease>) -> Told {
    let renewal = lease.renew(Instant::now() + PATIENCE).await;
    let in_order = |mut keys: Vec<InstanceKey>| {
        keys.sort();
        keys
    };
    renewal.map(|renewal| (in_order(renewal.lost), in_order(renewal.missed))).map_err(|error| error.kind())
}

/// Takes registrations until it is told to be somebody else.
async fn replaced_by(stranger: impl Fn(&Seen) -> Reply + Send + 'static) -> Fake {
    let mut published = 0;
    Fake::start(move |seen| match (&*seen.method, published) {
        ("GET", 0..2) => Reply::status(404, ""),
        ("POST", _) => {
            published += 1;
            Reply::status(204, "")
        }
        _ => stranger(seen),
    })
    .await
}

#[tokio::test]
async fn who_knows_no_list_either_denies_nothing() {
    for body in ["", SPRING, NGINX, "default backend - 404"] {
        let fake = replaced_by(move |_| Reply::status(404, body)).await;
        let lease = lease(&backend(&[&fake.address], "").await).await;
        publish(&lease, &["a", "b"]).await;
        assert_eq!(renew(&lease).await, Err(ErrorKind::Unavailable), "{body}");
        let looked = lease.inspect(&[key("a")]).await;
        assert_eq!(looked.unwrap_err().kind(), ErrorKind::Unavailable, "{body}");
        let gone = lease.withdraw(&[Arc::new(instance("a"))]).await.remove(0);
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::Unavailable, "it may still be there: {body}");
    }
}

#[tokio::test]
async fn whoever_has_pages_for_everything_denies_nothing() {
    let fake = replaced_by(|seen| match &*seen.method {
        "GET" => Reply::ok("<!doctype html><html></html>"),
        _ => Reply::status(404, ""),
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a", "b"]).await;
    assert_eq!(renew(&lease).await, Err(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_server_that_has_lists_is_believed_whatever_its_words() {
    let lists: [(&str, Answers); 7] = [
        ("a delta", |_| delta("", &[])),
        ("no deltas, but lists", |seen| match seen.target.contains("delta") {
            true => Reply::status(404, SPRING),
            false => list(&[]),
        }),
        ("deltas without a body, but lists", |seen| match seen.target.contains("delta") {
            true => Reply::ok(""),
            false => list(&[]),
        }),
        ("deltas of null, but lists", |seen| match seen.target.contains("delta") {
            true => Reply::ok("null"),
            false => list(&[]),
        }),
        ("deltas of no applications", |seen| match seen.target.contains("delta") {
            true => Reply::ok(r#"{"applications":null}"#),
            false => list(&[]),
        }),
        ("none yet, as it has just started", |_| Reply::status(403, SPRING)),
        ("none for us", |_| Reply::status(401, "").with("www-authenticate", &"Basic")),
    ];
    for (why, answer) in lists {
        for body in ["", SPRING, NGINX] {
            let fake = replaced_by(move |seen| match is_single(seen) && !seen.target.contains("delta") {
                true => Reply::status(404, body),
                false => answer(seen),
            })
            .await;
            let lease = lease(&backend(&[&fake.address], "").await).await;
            publish(&lease, &["a", "b"]).await;
            assert_eq!(renew(&lease).await, Ok((vec![key("a"), key("b")], vec![])), "{why}, {body}");
            assert_eq!(lease.inspect(&[key("a")]).await.unwrap(), [Presence::Missing], "{why}, {body}");
            lease.withdraw(&[Arc::new(instance("a"))]).await.remove(0).unwrap();
        }
    }
}

#[tokio::test]
async fn a_route_that_was_gone_for_a_moment_loses_nobody() {
    // The stamps of the publications below are younger than none of these.
    for (dirty, status, expected) in [
        (u64::MAX / 2, "UP", Err(ErrorKind::Unavailable)),
        (u64::MAX / 2, "UNKNOWN", Ok((vec![key("a")], vec![]))),
        (1, "UP", Ok((vec![key("a")], vec![]))),
    ] {
        let fake = Fake::start(move |seen| match &*seen.method {
            "PUT" => Reply::status(404, NGINX),
            "POST" => Reply::status(204, ""),
            _ if seen.target.contains("delta") => delta("", &[]),
            _ => standing(OURS, &instance("a"), status, "UNKNOWN", dirty),
        })
        .await;
        let lease = lease(&backend(&[&fake.address], "").await).await;
        publish(&lease, &["a"]).await;
        assert_eq!(renew(&lease).await, expected, "{dirty} {status}");
    }
}

#[tokio::test]
async fn a_look_and_a_removal_count_what_the_second_answer_shows() {
    let mut looks = 0;
    let fake = Fake::start(move |seen| match &*seen.method {
        "GET" if seen.target.contains("delta") => delta("", &[]),
        "GET" => {
            looks += 1;
            match looks % 2 {
                0 => standing(OURS, &instance("a"), "UP", "UNKNOWN", 1),
                _ => Reply::status(404, NGINX),
            }
        }
        "POST" => Reply::status(204, ""),
        _ => Reply::status(200, ""),
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["b"]).await;
    publish(&lease, &["a"]).await;
    assert!(matches!(lease.inspect(&[key("a")]).await.unwrap()[..], [Presence::Ours { .. }]));
    lease.withdraw(&[Arc::new(instance("a"))]).await.remove(0).unwrap();
    assert_eq!(count(&fake, "DELETE", "/eureka/apps/ORDERS/orders%3Aa"), 1);
}

#[tokio::test]
async fn a_removal_that_a_stranger_denies_has_not_happened() {
    let fake = Fake::start(|seen| match &*seen.method {
        "GET" if seen.target.contains("delta") => delta("", &[]),
        "GET" => standing(OURS, &instance("a"), "UP", "UNKNOWN", 1),
        "DELETE" => Reply::status(404, NGINX),
        _ => Reply::status(204, ""),
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    publish(&lease, &["a"]).await;
    let gone = lease.withdraw(&[Arc::new(instance("a"))]).await.remove(0);
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_override_that_a_stranger_denies_to_end_is_not_ended() {
    let stood = instance("a").to_builder().status(registry_core::Status::Draining).build().unwrap();
    let fake = Fake::start(move |seen| match &*seen.method {
        "GET" => standing(OURS, &stood, "OUT_OF_SERVICE", "OUT_OF_SERVICE", 1),
        "DELETE" => Reply::status(404, NGINX),
        _ => Reply::status(204, ""),
    })
    .await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    let outcome = lease.publish(&[record(&instance("a"))]).await.remove(0);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable, "nobody would see it");
}

#[tokio::test]
async fn a_list_is_asked_for_once_however_many_are_denied() {
    let fake = beating(|_| Reply::status(404, "")).await;
    let lease = lease(&backend(&[&fake.address], "").await).await;
    let ids: Vec<_> = (0..100).map(|n| format!("i{n}")).collect();
    publish(&lease, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (lost, missed) = renew(&lease).await.unwrap();
    assert_eq!((lost.len(), missed.len()), (100, 0));
    assert_eq!(count(&fake, "GET", "/eureka/apps/delta"), 1);
}

#[tokio::test]
async fn who_is_no_eureka_is_followed_by_one_that_is() {
    let stranger = Fake::start(|_| Reply::status(404, NGINX)).await;
    let fake = beating(|_| Reply::status(200, "")).await;
    let mut met = 0;
    for _ in 0..20 {
        let lease = lease(&backend(&[&stranger.address, &fake.address], "").await).await;
        let before = stranger.seen().len();
        let first = lease.publish(&[record(&instance("a"))]).await.remove(0);
        if stranger.seen().len() > before {
            met += 1;
            assert_eq!(first.unwrap_err().kind(), ErrorKind::Unavailable);
            publish(&lease, &["a"]).await;
        }
        assert_eq!(renew(&lease).await, Ok((vec![], vec![])));
    }
    assert!(met > 0, "somebody prefers it");
}
