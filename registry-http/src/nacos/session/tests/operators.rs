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
        // Who is no operator, or has no such API.
        ("?api=v3", Reply::status(403, r#"{"code":403,"message":"no rights"}"#), Presence::Missing, 1),
        ("?api=v3", Reply::status(401, ""), Presence::Missing, 1),
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
