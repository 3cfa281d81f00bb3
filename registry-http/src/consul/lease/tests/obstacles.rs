//! Checks, other than our own, for which nobody sees an instance.

use super::*;

fn check(id: &str, service: &str, status: &str) -> Value {
    json!({"Node": "n1", "CheckID": id, "ServiceID": service, "Status": status})
}

#[tokio::test]
async fn what_a_crashed_ones_check_said_is_removed_before_its_service_is_replaced() {
    for (notes, withdrawn) in
        [(None, true), (Some("service-registry: draining"), true), (Some("by hand"), false)]
    {
        let (held, checks) = failing(Incarnation::from_bits(2), notes);
        let fake = agent(held, checks, |_| None).await;
        let lease = checked(&fake).await;
        lease.publish(&[record("a", Status::Starting)]).await.remove(0).unwrap();
        let seen = fake.seen();
        let of = |path: &str| seen.iter().position(|seen| seen.target.starts_with(path));
        let registered = of("/v1/agent/service/register").unwrap();
        let removed = of("/v1/agent/service/deregister/orders%3Aa").is_some_and(|at| at < registered);
        assert_eq!(removed, withdrawn, "an agent would keep what it said; maintenance {notes:?}");
        let body: Value = serde_json::from_slice(&seen[registered].body).unwrap();
        assert_eq!(body["Checks"].as_array().unwrap().len() == 2, withdrawn, "maintenance begins anew");
    }
    // Ours isn't: it begins where it was.
    let (held, checks) = failing(OURS, None);
    let fake = agent(held, checks, |_| None).await;
    checked(&fake).await.publish(&serving(&["a"])).await.remove(0).unwrap_err();
    assert_eq!(sent(&fake.seen(), "/v1/agent/service/deregister"), [] as [&str; 0]);
}

#[tokio::test]
async fn a_check_that_somebody_added_hides_an_instance_and_stays() {
    let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta_of("a")}});
    let checks = json!({"own": check("service:orders:a", "orders:a", "passing"), "disk": check("disk", "orders:a", "critical")});
    let fake = agent(held, checks, |_| None).await;
    for lease in [lease(&fake.address, Duration::from_secs(15)).await, checked(&fake).await] {
        let mut newer = record("a", Status::Serving);
        newer.version.sequence += 1;
        for publish in [record("a", Status::Serving), newer] {
            let refused = lease.publish(&[publish]).await.remove(0).unwrap_err();
            assert!(refused.to_string().contains("disk"), "{refused}");
        }
        assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [Presence::Failing]);
    }
    let seen = fake.seen();
    let registered = sent(&seen, "/v1/agent/service/register");
    assert_eq!(registered.len(), 2, "what stands isn't written again");
    assert!(registered.iter().all(|target| !target.contains("replace")), "{registered:?}");
    assert!(!sent(&seen, "/v1/agent/check/update").is_empty(), "and is kept alive");
}

#[tokio::test]
async fn a_failing_check_that_somebody_added_stays_and_our_maintenance_ends_beside_it() {
    let maintenance = |notes: &str| {
        json!({"Node": "n1", "CheckID": "_service_maintenance:orders:a", "ServiceID": "orders:a", "Status": "critical",
            "Notes": notes})
    };
    let draining = || Some(maintenance("service-registry: draining"));
    for (added, maintenance, status, is_seen, ended, replaced) in [
        ("passing", None, Status::Serving, true, false, true),
        ("critical", None, Status::Draining, true, false, false),
        ("passing", draining(), Status::Serving, true, false, true),
        ("critical", draining(), Status::Serving, false, true, false),
        ("critical", draining(), Status::Draining, true, false, false),
        ("passing", Some(maintenance("by hand")), Status::Serving, true, false, false),
    ] {
        let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta_of("a")}});
        let mut checks = json!({"own": check("service:orders:a", "orders:a", "passing"), "disk": check("disk", "orders:a", added)});
        let why = format!("{added} {maintenance:?} {status}");
        if let Some(maintenance) = maintenance {
            checks["maintenance"] = maintenance;
        }
        let fake = agent(held, checks, |_| None).await;
        let lease = lease(&fake.address, Duration::from_secs(15)).await;
        // Also once more, after the last one failed on its way.
        let mut newer = record("a", status);
        newer.version.sequence += 1;
        for publish in [newer, record("a", status)] {
            let outcome = lease.publish(&[publish]).await.remove(0);
            assert_eq!(outcome.is_ok(), is_seen, "{why}: {outcome:?}");
            if let Err(refused) = outcome {
                assert!(refused.to_string().contains("disk"), "{refused}");
            }
        }
        let seen = fake.seen();
        let registered = sent(&seen, "/v1/agent/service/register");
        assert_eq!(registered.len(), 2, "{why}");
        assert!(
            registered.iter().all(|target| target.contains("replace") == replaced),
            "{why}: {registered:?}"
        );
        let back = sent(&seen, "/v1/agent/service/maintenance/orders%3Aa?enable=false").len();
        assert_eq!(back, if ended { 2 } else { 0 }, "{why}");
    }
}

#[tokio::test]
async fn a_check_of_the_node_hides_what_stands_on_it_unless_it_is_out_of_traffic_anyway() {
    let node = check("mem", "", "critical");
    let out = check("_node_maintenance", "", "critical");
    let own = check("service:orders:a", "orders:a", "passing");
    let ours = Presence::Ours { version: record("a", Status::Serving).version };
    for (checks, status, expected) in [
        (vec![&node], Status::Serving, Presence::Failing),
        (vec![&node, &out], Status::Serving, ours),
        (vec![&out], Status::Serving, ours),
        (vec![&check("mem", "", "warning")], Status::Serving, ours),
    ] {
        let checks: serde_json::Map<String, Value> = checks
            .into_iter()
            .chain([&own])
            .map(|one| (one["CheckID"].as_str().unwrap().to_owned(), one.clone()))
            .collect();
        let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta_of("a")}});
        let catalogued = json!({"Services": [held["orders:a"]]});
        let fake = agent(held, Value::Object(checks), move |seen| {
            let is_catalogue = seen.target.starts_with("/v1/catalog/node-services/n1");
            is_catalogue.then(|| Reply::ok(catalogued.to_string()))
        })
        .await;
        let lease = lease(&fake.address, Duration::from_secs(15)).await;
        let outcome = lease.publish(&[record("a", status)]).await.remove(0);
        assert_eq!(outcome.is_ok(), expected == ours, "{outcome:?}");
        assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [expected]);
        assert!(
            lease.publish(&[record("a", Status::Draining)]).await.remove(0).is_ok(),
            "it isn't to be seen"
        );
    }
}
