//! What isn't there: an API, or what was asked for.

use super::*;

/// As Spring says it of a path that nothing is behind.
const NO_PATH: &str =
    r#"{"timestamp":"2026-01-01T00:00:00.000+00:00","status":404,"error":"Not Found","path":"/x"}"#;

fn probes(fake: &Fake) -> usize {
    fake.seen().iter().filter(|seen| seen.method == "GET" && seen.target.ends_with("/list")).count()
}

#[tokio::test]
async fn what_is_not_registered_does_not_put_the_api_in_doubt() {
    for (lacking, unknown) in [
        (&["v1", "v2"][..], r#"{"code":21003,"message":"instance not found","data":null}"#),
        (&["v1", "v2"], r#"{"code":20004,"message":"resource not found","data":"service not found"}"#),
        (&["v3"], r#"{"code":20004,"message":"resource not found","data":null}"#),
        (&["v3", "v2"], "caused: errCode: 404, errMsg: service not found, namespace: public;"),
        (&["v3", "v2"], "no ips found for cluster DEFAULT in service DEFAULT_GROUP@@orders"),
    ] {
        let fake = Fake::start(move |request| {
            lacks(request, lacking).unwrap_or_else(|| {
                let body = String::from_utf8_lossy(&request.body);
                let is_beat = request.target.contains("/beat") || body.contains("heartBeat=true");
                let is_about_it = is_beat || request.method == "DELETE";
                if is_about_it { Reply::status(404, unknown) } else { usual(request) }
            })
        });
        let fake = fake.await;
        let backend = connect(&fake, "").await;
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        let before = probes(&fake);
        let renewal = lease.renew(soon()).await.unwrap();
        assert_eq!((renewal.lost, renewal.missed), (vec![instance("a", 80).key()], vec![]), "{unknown}");
        lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
        assert_eq!(probes(&fake), before, "{unknown}");
    }
}

#[tokio::test]
async fn an_api_that_is_still_there_is_not_forgotten_for_an_answer_that_nobody_understands() {
    let fake = Fake::start(move |request| {
        lacks(request, &["v3", "v2"]).unwrap_or_else(|| match request.method.as_str() {
            "PUT" => Reply::status(404, "?"),
            _ => usual(request),
        })
    });
    let fake = fake.await;
    let backend = connect(&fake, "").await;
    let lease = grant(&backend).await;
    lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
    assert!(lease.renew(soon()).await.is_err(), "neither alive nor lost");
    let before = probes(&fake);
    lookup(&backend).await.unwrap();
    assert_eq!(probes(&fake), before, "it is known what the servers have");
}

#[tokio::test]
async fn a_forced_api_that_is_not_there_is_an_error_and_never_an_empty_list() {
    for (options, body) in
        [("?api=v1", ""), ("?api=v1&context_path=/other", NO_PATH), ("?api=v2", NO_PATH), ("?api=v3", "")]
    {
        let fake = Fake::start(move |_| Reply::status(404, body)).await;
        let backend = connect(&fake, options).await;
        let error = lookup(&backend).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{options}: {error:?}");
        assert!(
            error.to_string().contains("context_path") && error.to_string().contains("\"api\""),
            "{error}"
        );
        let lease = grant(&backend).await;
        let error = lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{options}: {error:?}");
    }
}

#[tokio::test]
async fn a_service_that_nobody_knows_is_empty_also_where_the_api_is_forced() {
    let fake = Fake::start(|request| {
        let is_probe = !request.target.contains('?');
        if is_probe {
            Reply::status(400, "Param 'serviceName' is required.")
        } else {
            Reply::status(404, "dom not found: orders")
        }
    });
    assert_eq!(lookup(&connect(&fake.await, "?api=v1").await).await.unwrap().instances, []);
}

/// What stands in front of servers says such things of its own upstreams.
const OF_PROXIES: &[(&str, &str)] = &[
    ("text/plain", "service not found"),
    ("text/plain", "service not found: nacos-upstream"),
    ("text/plain", "no such route; dom not found: orders"),
    ("text/html", "<html><h1>404</h1>service not found: DEFAULT_GROUP@@orders</html>"),
    ("application/json", r#"{"message":"service not found: orders"}"#),
    ("application/json", r#"{"code":404,"message":"service not found: orders"}"#),
];

#[tokio::test]
async fn a_proxy_that_knows_no_service_says_nothing_about_ours() {
    for options in ["?api=v1", "?api=v3"] {
        for (kind, body) in OF_PROXIES {
            let broken = Arc::new(AtomicUsize::new(0));
            let state = Arc::clone(&broken);
            let fake = Fake::start(move |request| match state.load(Ordering::Relaxed) {
                0 => usual(request),
                _ if !request.target.contains('?') && request.method == "GET" => Reply::status(400, "?"),
                _ => Reply::status(404, body).with("content-type", kind),
            });
            let fake = fake.await;
            let backend = connect(&fake, options).await;
            let lease = grant(&backend).await;
            lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
            broken.store(1, Ordering::Relaxed);
            let error = lookup(&backend).await.expect_err("no empty list");
            assert!(error.is_retryable() && error.kind() != ErrorKind::NotFound, "{body}: {error:?}");
            assert!(lease.renew(soon()).await.is_err(), "nobody is lost: {body}");
            assert!(lease.withdraw(&[instance("a", 80)]).await.remove(0).is_err(), "nor removed: {body}");
        }
    }
}

#[tokio::test]
async fn a_success_of_somebody_else_is_none_of_ours() {
    for options in ["?api=v1", "?api=v2", "?api=v3"] {
        for body in
            ["{}", r#"{"status":"ok"}"#, r#"{"code":404,"message":"service not found"}"#, "[]", "null"]
        {
            let fake = Fake::start(move |_| Reply::ok(body).with("content-type", &"application/json")).await;
            let backend = connect(&fake, options).await;
            let error = lookup(&backend).await.expect_err("no list");
            assert!(
                error.is_retryable() && error.kind() != ErrorKind::NotFound,
                "{options} {body}: {error:?}"
            );
            let lease = grant(&backend).await;
            let error = lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap_err();
            assert_ne!(error.kind(), ErrorKind::NotFound, "{options} {body}");
        }
    }
}

#[tokio::test]
async fn a_success_of_somebody_else_publishes_nothing_and_is_no_beat() {
    for options in ["?api=v1", "?api=v2", "?api=v3"] {
        for body in ["{}", r#"{"status":"ok"}"#, r#"{"message":"hello"}"#] {
            let captured = Arc::new(AtomicUsize::new(0));
            let state = Arc::clone(&captured);
            let fake = Fake::start(move |request| match request.method.as_str() {
                "GET" => usual(request),
                _ if state.load(Ordering::Relaxed) == 0 => usual(request),
                _ => Reply::ok(body),
            });
            let fake = fake.await;
            let backend = connect(&fake, options).await;
            let lease = grant(&backend).await;
            lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
            captured.store(1, Ordering::Relaxed);
            assert!(lease.publish(&[record("b", 81)]).await.remove(0).is_err(), "{options} {body}");
            assert!(lease.renew(soon()).await.is_err(), "{options} {body}");
        }
    }
}

/// As 2.5.0 and 3.1.0 answer what asks for nobody; 1.x answered some of it with 404 and a text, as 2.5.0 still does
/// where a single instance is asked for.
#[tokio::test]
async fn what_servers_say_of_nobody_is_understood_word_for_word() {
    let list = r#"{"name":"DEFAULT_GROUP@@orders","groupName":"DEFAULT_GROUP","clusters":"","cacheMillis":10000,"hosts":[],"lastRefTime":1795295862392,"checksum":"","allIPs":false,"reachProtectionThreshold":false,"valid":true}"#;
    let of_2 = list.to_owned();
    let wrapped = format!(r#"{{"code":0,"message":"success","data":{list}}}"#);
    let beat = r#"{"clientBeatInterval":5000,"code":20404,"lightBeatEnabled":true}"#;
    let text = "text/plain;charset=UTF-8";
    let json = "application/json";
    let success = r#"{"code":0,"message":"success","data":"ok"}"#;
    let unknown = r#"{"code":21003,"message":"instance not found","data":null}"#;
    let none = "no ips found for cluster DEFAULT in service DEFAULT_GROUP@@orders";
    let old = "caused: dom not found: orders;";
    for (options, listed, beaten, removed) in [
        ("?api=v1", (200, json, of_2.as_str()), (200, json, beat), (200, text, "ok")),
        ("?api=v2", (200, json, &wrapped), (200, json, beat), (200, json, success)),
        (
            "?api=v3",
            (200, json, r#"{"code":0,"message":"success","data":[]}"#),
            (200, json, unknown),
            (200, json, success),
        ),
        ("?api=v1", (404, text, none), (404, text, none), (404, text, none)),
        ("?api=v1", (404, text, old), (404, text, old), (404, text, old)),
    ] {
        let [listed, beaten, removed] =
            [listed, beaten, removed].map(|(status, kind, body): (u16, &str, &str)| {
                Reply::status(status, body).with("content-type", &kind)
            });
        let fake = Fake::start(move |request| {
            let body = String::from_utf8_lossy(&request.body);
            let is_beat = request.target.contains("/beat") || body.contains("heartBeat=true");
            match request.method.as_str() {
                "GET" if !request.target.contains('?') => {
                    Reply::status(400, "Param 'serviceName' is required.")
                }
                "GET" => listed.clone(),
                "DELETE" => removed.clone(),
                _ if is_beat => beaten.clone(),
                _ => usual(request),
            }
        });
        let fake = fake.await;
        let backend = connect(&fake, options).await;
        assert_eq!(lookup(&backend).await.unwrap().instances, [], "{options}");
        let lease = grant(&backend).await;
        lease.publish(&[record("a", 80)]).await.remove(0).unwrap();
        assert_eq!(lease.renew(soon()).await.unwrap().lost, [instance("a", 80).key()], "{options}");
        lease.withdraw(&[instance("a", 80)]).await.remove(0).unwrap();
    }
}
