//! Answers, and tokens, that never come: the others count.

use std::sync::atomic::{AtomicBool, Ordering};

use registry_core::{Credential, CredentialProvider, Secret};
use tokio::time::timeout_at;

use super::*;

#[tokio::test]
async fn one_answer_that_never_comes_costs_none_of_the_others_theirs() {
    let stuck = Arc::new(AtomicBool::new(false));
    let is_stuck = Arc::clone(&stuck);
    let fake = Fake::start(move |seen| {
        let body = String::from_utf8_lossy(&seen.body);
        let is_first = seen.target.ends_with("%3Ai0") || body.contains("\"orders:i0\"");
        match seen.target.split('?').next().unwrap() {
            _ if is_stuck.load(Ordering::SeqCst) && is_first => Reply::Hang,
            // What the list doesn't show is asked for by its name.
            "/v1/agent/services" => Reply::ok("{}").with("X-Consul-Results-Filtered-By-ACLs", &"true"),
            "/v1/agent/checks" => Reply::ok("{}"),
            path if path.starts_with("/v1/agent/service/orders") => {
                let version = RecordVersion { incarnation: OURS, epoch: 1, sequence: 1 };
                let instance = record("any", Status::Serving).instance;
                let meta = crate::consul::codec::encode_meta(&instance, version).unwrap();
                Reply::ok(json!({"ID": "any", "Service": "orders", "Meta": meta}).to_string())
            }
            _ => Reply::ok(""),
        }
    })
    .await;
    let config: ConsulConfig = format!("consul://:t@{}?request_timeout=60s", fake.address).parse().unwrap();
    let registry = ConsulRegistry::new(Session::new(config, None), Names::new(&Namespace::default()));
    let lease = registry.grant(&Grant::new(Duration::from_secs(15), OURS)).await.unwrap();
    let ids: Vec<String> = (0..60).map(|n| format!("i{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    stuck.store(true, Ordering::SeqCst);
    let reach = async |path: &str| {
        tokio::time::timeout(Duration::from_secs(10), async {
            while sent(&fake.seen(), path).len() < 60 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("all others are asked for: {path}"));
    };
    let records = serving(&ids);
    tokio::select! {
        _ = lease.publish(&records) => panic!("one is stuck"),
        () = reach("/v1/agent/service/register") => {}
    }
    let keys = keys(&ids);
    tokio::select! {
        _ = lease.inspect(&keys) => panic!("one is stuck"),
        () = reach("/v1/agent/service/orders") => {}
    }
}

/// Gives one token and then no other, without a word.
#[derive(Debug)]
struct OneToken(AtomicBool);

#[async_trait]
impl CredentialProvider for OneToken {
    async fn credential(&self) -> Result<Credential, Error> {
        if self.0.swap(true, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(Credential { user: None, secret: Secret::new("one"), expires_in: None })
    }
}

#[tokio::test]
async fn a_beat_that_waits_for_a_token_is_missed_and_the_others_count() {
    let fake = agent(json!({}), json!({}), |seen| {
        let is_bad = seen.target.contains("check/update/service%3Aorders%3Abad");
        is_bad.then(|| Reply::status(403, "ACL not found"))
    })
    .await;
    let config: ConsulConfig = format!("consul://{}", fake.address).parse().unwrap();
    let session = Session::new(config, Some(Arc::new(OneToken(AtomicBool::new(false)))));
    session.has_token().await;
    let registry = ConsulRegistry::new(session, Names::new(&Namespace::default()));
    let lease = registry.grant(&Grant::new(Duration::from_secs(15), OURS)).await.unwrap();
    lease.publish(&serving(&["a", "bad"])).await;
    // Until a refusal means that the token is too old.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    let deadline = Instant::now() + Duration::from_millis(500);
    let renewal = timeout_at(deadline, lease.renew(deadline)).await;
    let renewal = renewal.expect("in time for the others").unwrap();
    assert_eq!((renewal.lost, renewal.missed), (vec![], keys(&["bad"])));
}
