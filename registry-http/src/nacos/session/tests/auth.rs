//! Logging in.

use registry_core::{Credential, CredentialProvider, Secret};

use super::*;

/// Demands a token, of which each lives for `ttl` seconds; the password is `hunter2`.
async fn guarded(ttl: u64) -> (Fake, Arc<AtomicUsize>) {
    let valid = Arc::new(AtomicUsize::new(0));
    let current = Arc::clone(&valid);
    let fake = Fake::start(move |request| {
        if request.target.starts_with("/nacos/v3/auth") {
            return Reply::status(404, "");
        }
        if request.target == "/nacos/v1/auth/users/login" {
            return match request.body == b"username=nacos&password=hunter2" {
                true => {
                    let token = current.fetch_add(1, Ordering::Relaxed) + 1;
                    Reply::ok(format!(
                        r#"{{"accessToken":"token-{token}","tokenTtl":{ttl},"globalAdmin":true}}"#
                    ))
                }
                false => Reply::status(500, r#"{"status":500,"error":"Internal Server Error"}"#),
            };
        }
        assert!(!request.target.contains("token"), "a token in a URL is in every log");
        let expected = format!("Bearer token-{}", current.load(Ordering::Relaxed));
        match request.header("authorization") == Some(&expected) {
            true => usual(request),
            false => Reply::status(403, r#"{"status":403,"error":"Forbidden"}"#),
        }
    });
    (fake.await, valid)
}

fn logins(fake: &Fake) -> usize {
    fake.seen().iter().filter(|seen| seen.target.contains("/v1/auth/")).count()
}

#[tokio::test]
async fn a_token_is_got_once_renewed_before_its_end_and_replaced_when_refused() {
    let (fake, valid) = guarded(2).await;
    let backend = connect_as("nacos:hunter2@", &fake, "?api=v1").await;
    for _ in 0..3 {
        lookup(&backend).await.unwrap();
    }
    assert_eq!(logins(&fake), 1);
    let refused = |fake: &Fake| fake.seen().len();
    let before = refused(&fake);
    tokio::time::sleep(Duration::from_millis(1900)).await;
    lookup(&backend).await.unwrap();
    assert_eq!((logins(&fake), refused(&fake) - before), (2, 3), "two login paths and the list, no refusal");
    // The server forgets it.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    valid.fetch_add(1, Ordering::Relaxed);
    lookup(&backend).await.unwrap();
    assert_eq!(logins(&fake), 3);
}

#[tokio::test]
async fn a_wrong_password_and_none_at_all_are_unauthenticated_and_no_rights_are_not() {
    let (fake, valid) = guarded(100).await;
    for user_info in ["nacos:wrong@", ""] {
        let error = lookup(&connect_as(user_info, &fake, "?api=v1").await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{user_info}: {error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
    let error = lookup(&connect_as(":token-7@", &fake, "?api=v1").await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    valid.store(7, Ordering::Relaxed);
    lookup(&connect_as(":token-7@", &fake, "?api=v1").await).await.unwrap();
}

/// What a call may take in these tests, less than what a login at a hung server takes.
const PATIENCE: Duration = Duration::from_millis(800);

#[tokio::test]
async fn a_server_that_hangs_keeps_nobody_from_a_login_at_the_next() {
    let hung = Fake::start(|_| Reply::Hang).await;
    let (fake, _) = guarded(100).await;
    let url = format!("nacos://nacos:hunter2@{},{}?api=v1&request_timeout=1s", hung.address, fake.address);
    let context = ConnectContext::new(Namespace::default(), Duration::from_secs(15));
    let backend = NacosConnector::new().connect(&url.parse().unwrap(), &context).await.unwrap();
    let mut found = false;
    // Whoever gives up leaves the login to whoever comes next.
    for _ in 0..5 {
        found |= tokio::time::timeout(PATIENCE, lookup(&backend)).await.is_ok_and(|found| found.is_ok());
    }
    assert!(found, "the second server would have let us in");
    assert_eq!(logins(&fake), 1);
}

#[tokio::test]
async fn a_broken_server_is_followed_by_the_next_and_a_refusal_outweighs_it() {
    let broken = Fake::start(|_| Reply::status(500, "")).await;
    let (fake, _) = guarded(100).await;
    // Whichever is asked first.
    for _ in 0..8 {
        let servers = format!("{},{}?api=v1", broken.address, fake.address);
        let context = ConnectContext::new(Namespace::default(), Duration::from_secs(15));
        let connect = async |password: &str| {
            let url = format!("nacos://nacos:{password}@{servers}").parse().unwrap();
            NacosConnector::new().connect(&url, &context).await.unwrap()
        };
        lookup(&connect("hunter2").await).await.unwrap();
        let error = lookup(&connect("wrong").await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    }
}

#[tokio::test]
async fn many_calls_share_one_login_and_its_failure() {
    let fake = Fake::start(|request| match request.target.as_str() {
        "/nacos/v1/auth/users/login" => {
            Reply::After(Duration::from_millis(200), Box::new(Reply::status(403, "unknown user!")))
        }
        target if target.contains("/auth/") => Reply::status(404, ""),
        _ => usual(request),
    });
    let fake = fake.await;
    let backend = connect_as("nacos:wrong@", &fake, "?api=v1").await;
    let all = futures_util::future::join_all((0..20).map(|_| lookup(&backend))).await;
    for found in all {
        assert_eq!(found.unwrap_err().kind(), ErrorKind::Unauthenticated);
    }
    assert_eq!(logins(&fake), 1, "nobody asks again what was just answered");
}

#[tokio::test]
async fn a_login_that_a_broken_server_fails_is_no_wrong_password() {
    // Servers answer 500 without a word to a wrong password; only they know whether they are well.
    let asked = |well: bool| async move {
        let fake = Fake::start(move |request| match request.target.as_str() {
            "/nacos/v1/auth/users/login" => {
                Reply::status(500, r#"{"status":500,"error":"Internal Server Error"}"#)
            }
            "/nacos/v1/ns/operator/metrics" => match well {
                true => Reply::ok(r#"{"status":"UP"}"#),
                false => Reply::status(500, ""),
            },
            _ => Reply::status(404, ""),
        });
        let fake = fake.await;
        lookup(&connect_as("nacos:hunter2@", &fake, "?api=v1").await).await.unwrap_err()
    };
    let refused = asked(true).await;
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{refused:?}");
    let broken = asked(false).await;
    assert_eq!(broken.kind(), ErrorKind::Unavailable, "{broken:?}");
}

#[tokio::test]
async fn a_provider_is_asked_for_another_credential_when_the_login_is_refused() {
    #[derive(Debug)]
    struct Rotated(AtomicUsize);
    #[async_trait::async_trait]
    impl CredentialProvider for Rotated {
        async fn credential(&self) -> Result<Credential, registry_core::Error> {
            let passwords = ["old", "hunter2"];
            let at = self.0.fetch_add(1, Ordering::Relaxed).min(1);
            Ok(Credential {
                user: Some("nacos".to_owned()),
                secret: Secret::new(passwords[at]),
                expires_in: None,
            })
        }
    }
    let (fake, _) = guarded(100).await;
    let url = format!("nacos://{}?api=v1", fake.address).parse().unwrap();
    let mut context = ConnectContext::new(Namespace::default(), Duration::from_secs(15));
    context.credentials = Some(Arc::new(Rotated(AtomicUsize::new(0))));
    let backend = NacosConnector::new().connect(&url, &context).await.unwrap();
    // What was only just given stands for a moment.
    let _ = lookup(&backend).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    lookup(&backend).await.unwrap();
}

#[tokio::test]
async fn who_repeats_what_the_login_was_sent_gets_it_into_no_error() {
    let echo = |status: u16| {
        move |request: &Seen| match request.method.as_str() {
            "POST" => Reply::status(status, &String::from_utf8_lossy(&request.body)),
            _ => usual(request),
        }
    };
    for status in [200, 302, 400, 422, 429, 502, 503] {
        let fake = Fake::start(echo(status)).await;
        let backend = connect_as("nacos:hunter2@", &fake, "?api=v1").await;
        let error = lookup(&backend).await.unwrap_err();
        for shown in [format!("{error}"), format!("{error:#}"), format!("{error:?}")] {
            assert!(!shown.contains("hunter2"), "{status}: {shown}");
        }
    }
}
