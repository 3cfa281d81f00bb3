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
