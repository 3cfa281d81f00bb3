use std::time::Duration;

use registry_core::{Incarnation, Namespace, Registry, model::RecordVersion};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::{
    consul::{config::ConsulConfig, registry::ConsulRegistry},
    http::fake::{Fake, Reply, Seen, closed_port},
};

mod away;
mod left;
mod obstacles;
mod stuck;

const OURS: Incarnation = Incarnation::from_bits(1);

fn registry(hosts: &str) -> ConsulRegistry {
    let config: ConsulConfig = format!("consul://{hosts}?request_timeout=500ms").parse().unwrap();
    ConsulRegistry::new(Session::new(config, None), Names::new(&Namespace::default()))
}

async fn lease(hosts: &str, ttl: Duration) -> Arc<dyn Lease> {
    registry(hosts).grant(&Grant::new(ttl, OURS)).await.unwrap()
}

fn record(id: &str, status: Status) -> Publish {
    let builder = Instance::builder("orders").id(id).endpoint("http://10.0.0.1:80");
    let instance = Arc::new(builder.status(status).build().unwrap());
    let version = RecordVersion { incarnation: OURS, epoch: 1, sequence: 1 };
    Publish::new(instance, version, OnDuplicate::TakeOver)
}

fn serving(ids: &[&str]) -> Vec<Publish> {
    ids.iter().map(|id| record(id, Status::Serving)).collect()
}

/// An agent that takes everything and holds what it is told to hold; `other` may answer instead.
async fn agent(held: Value, checks: Value, other: impl Fn(&Seen) -> Option<Reply> + Send + 'static) -> Fake {
    Fake::start(move |seen| {
        if let Some(reply) = other(seen) {
            return reply;
        }
        match seen.target.split('?').next().unwrap() {
            "/v1/agent/services" => Reply::ok(held.to_string()),
            "/v1/agent/checks" => Reply::ok(checks.to_string()),
            _ => Reply::ok(""),
        }
    })
    .await
}

fn sent<'a>(seen: &'a [Seen], path: &str) -> Vec<&'a str> {
    seen.iter().map(|seen| seen.target.as_str()).filter(|target| target.starts_with(path)).collect()
}

fn keys(ids: &[&str]) -> Vec<InstanceKey> {
    ids.iter().map(|id| record(id, Status::Serving).instance.key()).collect()
}

#[tokio::test]
async fn an_unknown_check_is_lost_and_silence_is_missed_while_the_others_count() {
    let fake = agent(json!({}), json!({}), |seen| {
        let body = seen.target.strip_prefix("/v1/agent/check/update/service%3Aorders%3A")?;
        // The heartbeat that follows a registration carries no haste; the renewals below come after it.
        match body {
            "gone" => Some(Reply::status(404, "Unknown check ID")),
            "old" => Some(Reply::status(500, "CheckID \"x\" does not have associated TTL")),
            "mute" => Some(Reply::Hang),
            _ => None,
        }
    })
    .await;
    let lease = lease(&fake.address, Duration::from_secs(15)).await;
    lease.publish(&serving(&["fine", "gone", "old", "mute"])).await;
    let began = Instant::now();
    let renewal = lease.renew(began + Duration::from_millis(400)).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(
        renewal.lost.iter().map(|key| key.id.as_str()).collect::<std::collections::BTreeSet<_>>(),
        ["gone", "old"].into()
    );
    assert_eq!(renewal.missed, keys(&["mute"]));
}

#[tokio::test]
async fn only_consuls_own_word_takes_a_check_for_unknown() {
    let unknown =
        "Unknown check ID \"service:orders:gone\". Ensure that the check ID is passed, not the check name.";
    let fake = agent(json!({}), json!({}), |seen| {
        match seen.target.strip_prefix("/v1/agent/check/update/service%3Aorders%3A")? {
            "gone" => Some(Reply::status(404, unknown)),
            "older" => Some(Reply::status(500, unknown)),
            "ingress" => Some(Reply::status(404, "404 page not found")),
            _ => None,
        }
    })
    .await;
    let lease = lease(&fake.address, Duration::from_secs(15)).await;
    let outcomes = lease.publish(&serving(&["fine", "ingress"])).await;
    assert_eq!(outcomes[1].as_ref().unwrap_err().kind(), ErrorKind::Protocol);
    lease.publish(&serving(&["gone", "older"])).await;
    let renewal = lease.renew(Instant::now() + Duration::from_secs(1)).await.unwrap();
    let lost: std::collections::BTreeSet<_> = renewal.lost.into_iter().collect();
    assert_eq!(lost, keys(&["gone", "older"]).into_iter().collect());
    assert_eq!(renewal.missed, keys(&["ingress"]));
}

#[tokio::test]
async fn when_nobody_answers_the_reason_is_told() {
    let fake = agent(json!({}), json!({}), |seen| {
        seen.target
            .starts_with("/v1/agent/check")
            .then(|| Reply::status(403, "ACL not found"))
            .filter(|_| !seen.target.starts_with("/v1/agent/checks"))
    })
    .await;
    let lease = lease(&fake.address, Duration::from_secs(15)).await;
    lease.publish(&serving(&["a", "b"])).await;
    let error = lease.renew(Instant::now() + Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn an_agent_that_stays_away_for_a_time_to_live_loses_the_lease_if_there_is_another() {
    let ttl = Duration::from_millis(300);
    let second = agent(json!({}), json!({}), |_| None).await;
    let first = agent(json!({}), json!({}), |_| None).await;
    let registry = registry(&format!("{},{}", first.address, second.address));
    let lease = registry.grant(&Grant::new(ttl, OURS)).await.unwrap();
    assert_eq!(lease.publish(&serving(&["a"])).await.len(), 1);
    // The one that was chosen goes.
    let (gone, other) = if first.seen().is_empty() { (second, first) } else { (first, second) };
    drop(gone);
    let deadline = || Instant::now() + Duration::from_millis(200);
    assert_eq!(lease.renew(deadline()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    sleep(ttl).await;
    assert_eq!(lease.renew(deadline()).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let next = registry.grant(&Grant::new(ttl, OURS)).await.unwrap();
    assert!(next.publish(&serving(&["a"])).await[0].is_ok());
    assert_eq!(sent(&other.seen(), "/v1/agent/service/register").len(), 1);
}

#[tokio::test]
async fn a_lone_agent_that_is_away_never_loses_the_lease() {
    let fake = agent(json!({}), json!({}), |_| None).await;
    let lease = lease(&fake.address, Duration::from_millis(50)).await;
    lease.publish(&serving(&["a"])).await;
    drop(fake);
    sleep(Duration::from_millis(60)).await;
    let error = lease.renew(Instant::now() + Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_first_publication_goes_to_an_agent_that_is_there() {
    let fake = agent(json!({}), json!({}), |_| None).await;
    let dead = [closed_port().await, closed_port().await, closed_port().await];
    let hosts = format!("{},{}", dead.each_ref().map(ToString::to_string).join(","), fake.address);
    let lease = lease(&hosts, Duration::from_secs(15)).await;
    // At once, whichever is preferred: behind dead ones its turn may be minutes away.
    let outcomes = lease.publish(&serving(&["a"])).await;
    assert!(outcomes[0].is_ok(), "{outcomes:?}");
}

#[tokio::test]
async fn what_the_agent_took_but_the_catalogue_lacks_is_missing() {
    let meta = super::super::codec::encode_meta(
        &record("a", Status::Serving).instance,
        record("a", Status::Serving).version,
    )
    .unwrap();
    let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta}});
    let checks = json!({"service:orders:a": {"Node": "n1", "CheckID": "service:orders:a", "ServiceID": "orders:a", "Status": "passing"}});
    let fake = agent(held, checks, |seen| {
        seen.target.starts_with("/v1/catalog/node-services/n1").then(|| Reply::ok(r#"{"Services":[]}"#))
    })
    .await;
    let lease = lease(&fake.address, Duration::from_secs(15)).await;
    assert!(lease.publish(&serving(&["a"])).await[0].is_ok(), "the agent says 200");
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [Presence::Missing]);
    let looks = sent(&fake.seen(), "/v1/catalog/node-services").len();
    assert!(looks > 1, "the catalogue gets some time");
}

#[tokio::test]
async fn what_does_not_serve_is_put_into_maintenance_and_an_operators_stays() {
    let maintenance = |notes: &str| {
        json!({"_service_maintenance:orders:a": {"Node": "n1", "CheckID": "_service_maintenance:orders:a",
            "ServiceID": "orders:a", "Status": "critical", "Notes": notes}})
    };
    let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": {}}});
    for (notes, status, replaces, maintains) in [
        (None, Status::Serving, true, false),
        (None, Status::Draining, true, true),
        (Some("service-registry: draining"), Status::Serving, true, false),
        (Some("service-registry: draining"), Status::Draining, false, false),
        (Some("service-registry: starting"), Status::Draining, false, true),
        (Some("deploy by hand"), Status::Serving, false, false),
        (Some("deploy by hand"), Status::Draining, false, false),
    ] {
        let checks = notes.map_or_else(|| json!({}), maintenance);
        let fake = agent(held.clone(), checks, |_| None).await;
        let lease = lease(&fake.address, Duration::from_secs(15)).await;
        let outcomes = lease.publish(&[record("a", status)]).await;
        assert!(outcomes[0].is_ok(), "{outcomes:?}");
        let seen = fake.seen();
        let register = sent(&seen, "/v1/agent/service/register")[0];
        assert_eq!(register.contains("replace-existing-checks=true"), replaces, "{notes:?} {status}");
        let maintained = sent(&seen, "/v1/agent/service/maintenance");
        assert_eq!(!maintained.is_empty(), maintains, "{notes:?} {status}");
    }
}

#[tokio::test]
async fn one_bad_record_does_not_fail_the_others() {
    let fake = agent(json!({}), json!({}), |seen| {
        let body = String::from_utf8_lossy(&seen.body);
        body.contains("\"ID\":\"orders:bad\"").then(|| Reply::status(400, "Invalid Service Meta"))
    })
    .await;
    let lease = lease(&fake.address, Duration::from_secs(15)).await;
    let outcomes = lease.publish(&serving(&["a", "bad", "c"])).await;
    let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().map(Error::kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::InvalidArgument), None]);
    lease.renew(Instant::now() + Duration::from_secs(1)).await.unwrap();
    let seen = fake.seen();
    let beats = sent(&seen, "/v1/agent/check/update/service%3Aorders%3Abad");
    assert!(beats.is_empty(), "what was refused isn't kept alive");
}

#[tokio::test]
async fn what_is_withdrawn_gets_no_beat_even_if_that_fails() {
    let counted = Mutex::new(0);
    let fake = agent(json!({}), json!({}), move |seen| {
        if seen.target != "/v1/agent/services" {
            return None;
        }
        let mut count = counted.lock().unwrap();
        *count += 1;
        (*count > 1).then(|| Reply::status(500, "no"))
    })
    .await;
    let lease = lease(&fake.address, Duration::from_secs(15)).await;
    let records = serving(&["a", "b"]);
    lease.publish(&records).await;
    assert!(lease.withdraw(&[Arc::clone(&records[0].instance)]).await[0].is_err());
    lease.renew(Instant::now() + Duration::from_secs(1)).await.unwrap();
    let seen = fake.seen();
    let beats = sent(&seen, "/v1/agent/check/update/service%3Aorders%3Aa");
    assert_eq!(beats.len(), 1, "only the one of its registration");
}

/// What an agent says that shows less than it holds.
fn filtered(body: &Value) -> Reply {
    Reply::ok(body.to_string()).with("X-Consul-Results-Filtered-By-ACLs", &"true")
}

#[tokio::test]
async fn what_a_filtered_list_lacks_is_asked_for_by_its_name() {
    let fake = agent(json!({}), json!({}), |seen| match seen.target.as_str() {
        "/v1/agent/services" => Some(filtered(&json!({}))),
        "/v1/agent/service/orders%3Ahidden" => {
            Some(Reply::status(403, "Permission denied: lacks 'service:read'"))
        }
        "/v1/agent/service/orders%3Agone" => Some(Reply::status(404, "unknown service ID: orders:gone")),
        _ => None,
    })
    .await;
    let lease = lease(&fake.address, Duration::from_secs(15)).await;
    let found = lease.inspect(&keys(&["hidden", "gone"])).await.unwrap();
    assert_eq!(found, [Presence::Unknown, Presence::Missing]);
    let instances = [record("hidden", Status::Serving).instance, record("gone", Status::Serving).instance];
    let withdrawn = lease.withdraw(&instances).await;
    assert_eq!(withdrawn[0].as_ref().unwrap_err().kind(), ErrorKind::PermissionDenied, "it may stand there");
    assert!(withdrawn[1].is_ok(), "{withdrawn:?}");
}

#[tokio::test]
async fn a_catalogue_that_shows_an_anonymous_reader_nothing_denies_nothing() {
    let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta_of("a")}});
    let checks = json!({"service:orders:a": {"Node": "n1", "CheckID": "service:orders:a", "ServiceID": "orders:a", "Status": "passing"}});
    let fake = agent(held, checks, |seen| {
        let reply = Reply::ok(r#"{"Node":null,"Services":[]}"#).with("X-Consul-Default-Acl-Policy", &"deny");
        seen.target.starts_with("/v1/catalog/node-services/n1").then_some(reply)
    })
    .await;
    let lease = lease(&fake.address, Duration::from_secs(15)).await;
    assert!(lease.publish(&serving(&["a"])).await[0].is_ok());
    let version = record("a", Status::Serving).version;
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [Presence::Ours { version }]);
}

fn meta_of(id: &str) -> crate::consul::codec::Meta {
    let record = record(id, Status::Serving);
    crate::consul::codec::encode_meta(&record.instance, record.version).unwrap()
}

#[tokio::test]
async fn one_that_is_registered_out_of_traffic_is_never_seen_in_it() {
    for status in [Status::Starting, Status::Draining, Status::Down] {
        let fake = agent(json!({}), json!({}), |_| None).await;
        let lease = lease(&fake.address, Duration::from_secs(15)).await;
        assert!(lease.publish(&[record("a", status)]).await[0].is_ok());
        let seen = fake.seen();
        let register =
            seen.iter().find(|seen| seen.target.starts_with("/v1/agent/service/register")).unwrap();
        let body: Value = serde_json::from_slice(&register.body).unwrap();
        let checks = body["Checks"].as_array().unwrap();
        let maintenance = checks
            .iter()
            .find(|check| check["CheckID"] == "_service_maintenance:orders:a")
            .expect("it is there");
        assert_eq!(maintenance["Status"], "critical");
        assert_eq!(maintenance["Notes"], format!("service-registry: {status}"));
    }
}

#[tokio::test]
async fn one_that_consuls_own_check_calls_critical_is_seen_by_nobody_unless_it_is_out_of_traffic_anyway() {
    let check = |id: &str, status: &str, notes: &str| json!({"Node": "n1", "CheckID": id, "ServiceID": "orders:a", "Status": status, "Notes": notes});
    let main = |status: &str| check("service:orders:a", status, "");
    let maintenance = check("_service_maintenance:orders:a", "critical", "service-registry: starting");
    let version = record("a", Status::Serving).version;
    let ours = Presence::Ours { version };
    for (checks, status, expected) in [
        (vec![main("passing")], Status::Serving, ours),
        (vec![main("warning")], Status::Serving, ours),
        (vec![main("critical")], Status::Serving, Presence::Failing),
        (vec![main("critical"), maintenance], Status::Starting, ours),
    ] {
        let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta_of("a")}});
        let checks: serde_json::Map<String, Value> =
            checks.into_iter().map(|one| (one["CheckID"].as_str().unwrap().to_owned(), one)).collect();
        let catalogued = json!({"Services": [held["orders:a"]]});
        let fake = agent(held, Value::Object(checks), move |seen| {
            let is_catalogue = seen.target.starts_with("/v1/catalog/node-services/n1");
            is_catalogue.then(|| Reply::ok(catalogued.to_string()))
        })
        .await;
        let config: ConsulConfig = format!("consul://{}?check=http", fake.address).parse().unwrap();
        let registry = ConsulRegistry::new(Session::new(config, None), Names::new(&Namespace::default()));
        let lease = registry.grant(&Grant::new(Duration::from_secs(15), OURS)).await.unwrap();
        let outcome = lease.publish(&[record("a", status)]).await.remove(0);
        assert_eq!(outcome.is_ok(), expected == ours, "{outcome:?}");
        assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [expected]);
        if expected == Presence::Failing {
            let registered = || sent(&fake.seen(), "/v1/agent/service/register").len();
            let before = registered();
            assert!(lease.publish(&serving(&["a"])).await[0].is_err());
            assert_eq!(
                registered(),
                before,
                "what stands already isn't written again: that would put the check off"
            );
        }
    }
}

#[tokio::test]
async fn one_whose_check_failed_is_registered_anew_only_as_critical() {
    let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta_of("a")}});
    let checks = json!({"service:orders:a": {"Node": "n1", "CheckID": "service:orders:a", "ServiceID": "orders:a", "Status": "critical"}});
    let asked = Mutex::new(0);
    // Consul removes it after a while.
    let fake = agent(held, checks, move |seen| {
        let mut asked = asked.lock().unwrap();
        *asked += usize::from(seen.target == "/v1/agent/services");
        (seen.target == "/v1/agent/services" && *asked > 2).then(|| Reply::ok("{}"))
    })
    .await;
    let lease = checked(&fake).await;
    assert!(lease.publish(&serving(&["a"])).await[0].is_err());
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [Presence::Failing]);
    // Nobody deleted it.
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [Presence::Failing]);
    assert!(lease.publish(&serving(&["a"])).await[0].is_err(), "nobody sees it before its check passes");
    let seen = fake.seen();
    let register = seen.iter().rfind(|seen| seen.target.starts_with("/v1/agent/service/register")).unwrap();
    let body: Value = serde_json::from_slice(&register.body).unwrap();
    assert_eq!(body["Checks"][0]["Status"], "critical");
}

/// What an agent holds of `orders:a`, by whoever wrote it, while its own check fails.
fn failing(incarnation: Incarnation, notes: Option<&str>) -> (Value, Value) {
    let record = record("a", Status::Serving);
    let version = RecordVersion { incarnation, ..record.version };
    let meta = crate::consul::codec::encode_meta(&record.instance, version).unwrap();
    let check = |id: &str, notes| json!({"Node": "n1", "CheckID": id, "ServiceID": "orders:a", "Status": "critical", "Notes": notes});
    let mut checks = json!({"main": check("service:orders:a", "")});
    if let Some(notes) = notes {
        checks["maintenance"] = check("_service_maintenance:orders:a", notes);
    }
    (json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta}}), checks)
}

/// A lease whose instances Consul itself asks.
async fn checked(fake: &Fake) -> Arc<dyn Lease> {
    let config: ConsulConfig = format!("consul://{}?check=http", fake.address).parse().unwrap();
    let registry = ConsulRegistry::new(Session::new(config, None), Names::new(&Namespace::default()));
    registry.grant(&Grant::new(Duration::from_secs(15), OURS)).await.unwrap()
}

#[tokio::test]
async fn one_that_replaces_a_crashed_ones_instance_does_not_begin_with_its_failed_check() {
    let (held, checks) = failing(Incarnation::from_bits(2), None);
    let asked = Mutex::new(0);
    let fake = agent(held, checks, move |seen| {
        let mut asked = asked.lock().unwrap();
        *asked += usize::from(seen.target == "/v1/agent/services");
        (seen.target == "/v1/agent/services" && *asked == 2).then(|| Reply::ok("{}"))
    })
    .await;
    let lease = checked(&fake).await;
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [Presence::Foreign]);
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [Presence::Missing]);
    let outcome = lease.publish(&serving(&["a"])).await.remove(0);
    assert!(outcome.is_ok(), "{outcome:?}");
    let seen = fake.seen();
    let register = seen.iter().rfind(|seen| seen.target.starts_with("/v1/agent/service/register")).unwrap();
    let body: Value = serde_json::from_slice(&register.body).unwrap();
    assert_eq!(body["Checks"][0]["Status"], "passing");
}

#[tokio::test]
async fn one_that_an_operator_took_out_of_traffic_is_published_whatever_its_check_says() {
    let (held, checks) = failing(OURS, Some("deploy by hand"));
    let fake = agent(held, checks, |_| None).await;
    let lease = checked(&fake).await;
    let mut newer = record("a", Status::Serving);
    newer.version.sequence += 1;
    for record in [record("a", Status::Serving), newer] {
        let outcome = lease.publish(&[record]).await.remove(0);
        assert!(outcome.is_ok(), "{outcome:?}");
    }
    assert_eq!(sent(&fake.seen(), "/v1/agent/service/maintenance"), [] as [&str; 0]);
}
