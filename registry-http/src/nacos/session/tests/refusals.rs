//! Who asks for less, and who is merely away.

use super::*;

/// As Nacos' own control of load says it.
fn over_threshold() -> Reply {
    Reply::status(503, "over limit\n")
        .with("pragma", &"no-cache")
        .with("expires", &"Thu, 01 Jan 1970 00:00:00 GMT")
        .with("cache-control", &"no-cache,no-store")
}

#[tokio::test]
async fn a_503_without_a_wish_is_an_outage_and_who_asks_for_less_is_obeyed() {
    let html = "<html><h1>503 Service Temporarily Unavailable</h1></html>";
    for (reply, kind, after) in [
        (Reply::status(503, html), ErrorKind::Unavailable, None),
        (Reply::status(503, ""), ErrorKind::Unavailable, None),
        (Reply::status(503, r#"{"code":503,"message":"no upstream"}"#), ErrorKind::Unavailable, None),
        (Reply::status(503, html).with("retry-after", &7), ErrorKind::RateLimited, Some(7)),
        (
            Reply::status(503, html).with("retry-after", &"Wed, 21 Oct 2037 07:28:00 GMT"),
            ErrorKind::RateLimited,
            None,
        ),
        (over_threshold(), ErrorKind::RateLimited, None),
        (Reply::status(429, ""), ErrorKind::RateLimited, None),
        (Reply::status(429, "").with("retry-after", &3), ErrorKind::RateLimited, Some(3)),
    ] {
        let scripted = reply.clone();
        let fake = Fake::start(move |_| scripted.clone()).await;
        let backend = connect(&fake, "?api=v1").await;
        let mut errors = vec![lookup(&backend).await.unwrap_err()];
        let lease = grant(&backend).await;
        errors.push(lease.publish(&[record("a", 80)]).await.remove(0).unwrap_err());
        errors.push(lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap_err());
        for error in errors {
            assert_eq!(error.kind(), kind, "{reply:?}: {error:?}");
            assert_eq!(error.retry_after(), after.map(Duration::from_secs), "{reply:?}");
        }
    }
}
