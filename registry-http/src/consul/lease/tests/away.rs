//! Agents that are gone, or that have lost their servers: nobody sees what they hold.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;

pub(super) const CUT_OFF: &str = "No known Consul servers";

pub(super) fn given(options: &str, hosts: &[&str]) -> ConsulRegistry {
    let url = format!("consul://{}?request_timeout=500ms{options}", hosts.join(","));
    ConsulRegistry::new(Session::new(url.parse().unwrap(), None), Names::new(&Namespace::default()))
}

/// An agent that holds `orders:a`, and whose answer about the leader is in the hand of the test: 0 a leader, 1 none, 2 no
/// servers, 3 too many questions.
pub(super) async fn holding_agent(leader: Arc<AtomicUsize>) -> Fake {
    let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta_of("a")}});
    let catalogued = json!({"Services": [held["orders:a"]]}).to_string();
    let checks = json!({"service:orders:a": {"Node": "n1", "CheckID": "service:orders:a", "ServiceID": "orders:a", "Status": "passing"}});
    agent(held, checks, move |seen| {
        let state = leader.load(Ordering::SeqCst);
        let is_stale = seen.target.ends_with("?stale");
        match seen.target.split('?').next().unwrap() {
            "/v1/status/leader" => Some(match state {
                0 => Reply::ok(r#""10.0.0.1:8300""#),
                1 => Reply::ok(r#""""#),
                3 => Reply::status(503, "rate limit exceeded"),
                _ => Reply::status(500, CUT_OFF),
            }),
            "/v1/catalog/node-services/n1" => Some(match state {
                0 => Reply::ok(catalogued.clone()),
                1 | 3 if is_stale => Reply::ok(catalogued.clone()),
                1 => Reply::status(500, "No cluster leader"),
                _ => Reply::status(500, CUT_OFF),
            }),
            _ => None,
        }
    })
    .await
}

pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(1)
}

/// Lets time pass for everything but the sockets.
pub(super) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

pub(super) fn registered(fake: &Fake) -> usize {
    sent(&fake.seen(), "/v1/agent/service/register").len()
}

#[tokio::test]
async fn an_agent_that_is_gone_while_consul_checks_is_a_doubt_and_then_another_one_is_used() {
    let (first, second) =
        (agent(json!({}), json!({}), |_| None).await, agent(json!({}), json!({}), |_| None).await);
    let registry = given("&check=tcp", &[&first.address, &second.address]);
    let grant = Grant::new(Duration::from_secs(15), OURS);
    let lease = registry.grant(&grant).await.unwrap();
    let Lifetime::Verified { every } = lease.lifetime() else { panic!("nobody beats") };
    assert!(lease.publish(&serving(&["a"])).await[0].is_ok());
    let (gone, other) = if registered(&first) == 1 { (first, second) } else { (second, first) };
    drop(gone);
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap_err().kind(), ErrorKind::Unavailable);
    pass(every).await;
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(lease.publish(&serving(&["a"])).await[0].as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
    pass(every).await;
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(lease.publish(&serving(&["a"])).await[0].as_ref().unwrap_err().kind(), ErrorKind::LeaseLost);
    let next = registry.grant(&grant).await.unwrap();
    assert!(next.publish(&serving(&["a"])).await[0].is_ok());
    assert_eq!(registered(&other), 1);
}

#[tokio::test]
async fn a_lone_agent_is_waited_for_while_consul_checks() {
    let fake = agent(json!({}), json!({}), |_| None).await;
    let lease = given("&check=tcp", &[&fake.address])
        .grant(&Grant::new(Duration::from_secs(15), OURS))
        .await
        .unwrap();
    lease.publish(&serving(&["a"])).await;
    drop(fake);
    pass(Duration::from_secs(600)).await;
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_agent_without_servers_is_away_while_consul_checks_though_another_reads_the_catalogue() {
    let leaders = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let fakes = [holding_agent(Arc::clone(&leaders[0])).await, holding_agent(Arc::clone(&leaders[1])).await];
    let registry = given("&check=tcp", &[&fakes[0].address, &fakes[1].address]);
    let lease = registry.grant(&Grant::new(Duration::from_secs(15), OURS)).await.unwrap();
    let Lifetime::Verified { every } = lease.lifetime() else { panic!("nobody beats") };
    assert!(lease.publish(&serving(&["a"])).await[0].is_ok());
    let version = record("a", Status::Serving).version;
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [Presence::Ours { version }]);
    let home = usize::from(registered(&fakes[1]) == 1);
    leaders[home].store(2, Ordering::SeqCst);
    for expected in [ErrorKind::Unavailable, ErrorKind::Unavailable, ErrorKind::LeaseLost] {
        assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap_err().kind(), expected);
        pass(every).await;
    }
}

/// Two agents that take everything, and hold nothing, of which the one that took `a` can be made to answer nothing but
/// who the leader is.
async fn two_that_may_get_stuck(
    registry: impl Fn(&[&str]) -> ConsulRegistry,
) -> (Arc<dyn Lease>, Arc<AtomicBool>) {
    let stuck = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
    let mut fakes = Vec::new();
    for is_stuck in stuck.clone() {
        let hangs = move |seen: &Seen| {
            let hangs = is_stuck.load(Ordering::SeqCst) && seen.target.starts_with("/v1/agent");
            hangs.then_some(Reply::Hang)
        };
        fakes.push(agent(json!({}), json!({}), hangs).await);
    }
    let registry = registry(&[&fakes[0].address, &fakes[1].address]);
    let lease = registry.grant(&Grant::new(Duration::from_secs(15), OURS)).await.unwrap();
    assert!(lease.publish(&serving(&["a"])).await[0].is_ok());
    let home = usize::from(registered(&fakes[1]) == 1);
    // They serve for as long as the test runs.
    tokio::spawn(async move {
        let _fakes = fakes;
        std::future::pending::<()>().await;
    });
    (lease, Arc::clone(&stuck[home]))
}

#[tokio::test]
async fn an_agent_that_tells_the_leader_and_nothing_else_is_away() {
    let (lease, stuck) = two_that_may_get_stuck(|hosts| given("&check=tcp", hosts)).await;
    let Lifetime::Verified { every } = lease.lifetime() else { panic!("nobody beats") };
    stuck.store(true, Ordering::SeqCst);
    for expected in [ErrorKind::Timeout, ErrorKind::Timeout, ErrorKind::LeaseLost] {
        let outcome = lease.publish(&serving(&["a"])).await.remove(0);
        assert_eq!(outcome.unwrap_err().kind(), expected, "a publication that fails is no sign of life");
        pass(every).await;
    }
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn an_agent_that_says_that_nothing_is_there_was_heard() {
    let (lease, stuck) = two_that_may_get_stuck(|hosts| given("&check=tcp", hosts)).await;
    let Lifetime::Verified { every } = lease.lifetime() else { panic!("nobody beats") };
    for _ in 0..3 {
        pass(every).await;
        assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [Presence::Missing]);
    }
    stuck.store(true, Ordering::SeqCst);
    assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_beat_at_an_agent_that_has_lost_its_servers_counts_for_nothing() {
    let leader = Arc::new(AtomicUsize::new(0));
    let fake = holding_agent(Arc::clone(&leader)).await;
    let lease = lease(&fake.address, Duration::from_secs(15)).await;
    assert!(lease.publish(&serving(&["a"])).await[0].is_ok());
    for (state, counts) in [(0, true), (1, true), (2, false), (0, true), (3, true)] {
        leader.store(state, Ordering::SeqCst);
        let renewed = lease.renew(soon()).await;
        assert_eq!(renewed.is_ok(), counts, "{state} {renewed:?}");
        let looked = lease.inspect(&keys(&["a"])).await;
        assert_eq!(looked.is_ok(), counts, "{state} {looked:?}");
        let outcome = lease.publish(&serving(&["a"])).await.remove(0);
        assert_eq!(outcome.is_ok(), counts, "{state} {outcome:?}");
        for error in [renewed.err(), looked.err(), outcome.err()].into_iter().flatten() {
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(format!("{error:#}").contains(CUT_OFF), "{error:#}");
        }
    }
    // All the while it is beaten for, so that it is there when its agent's servers are.
    let seen = fake.seen();
    assert!(sent(&seen, "/v1/agent/check/update/service%3Aorders%3Aa").len() >= 4);
}

#[tokio::test]
async fn what_a_cut_off_agent_forgot_is_lost_and_not_merely_missed() {
    let fake = agent(json!({}), json!({}), |seen| match seen.target.as_str() {
        "/v1/status/leader" => Some(Reply::Hang),
        target if target.ends_with("orders%3Agone") => Some(Reply::status(404, "Unknown check ID")),
        _ => None,
    })
    .await;
    // A first publication would be refused.
    let held = [("a", "orders:a"), ("gone", "orders:gone")]
        .map(|(id, name)| (keys(&[id]).remove(0), name.to_owned()));
    let config: ConsulConfig = format!("consul://{}?request_timeout=500ms", fake.address).parse().unwrap();
    let ttl = Duration::from_secs(15);
    let lease = ConsulLease::new(
        Session::new(config, None),
        Names::new(&Namespace::default()),
        Arc::default(),
        1,
        Grant::new(ttl, OURS),
        Lifetime::Leased { ttl },
    );
    lease.state().held.extend(held);
    let began = Instant::now();
    let renewal = lease.renew(began + Duration::from_millis(400)).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!((renewal.lost, renewal.missed), (keys(&["gone"]), keys(&["a"])), "a silent server is none");
}

#[tokio::test]
async fn an_agent_that_stays_without_servers_is_left_for_another_and_gives_up_what_it_holds() {
    let ttl = Duration::from_secs(15);
    let leaders = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let fakes = [holding_agent(Arc::clone(&leaders[0])).await, holding_agent(Arc::clone(&leaders[1])).await];
    let registry = given("", &[&fakes[0].address, &fakes[1].address]);
    let lease = registry.grant(&Grant::new(ttl, OURS)).await.unwrap();
    assert!(lease.publish(&serving(&["a"])).await[0].is_ok());
    let home = usize::from(registered(&fakes[1]) == 1);
    leaders[home].store(2, Ordering::SeqCst);
    assert_eq!(lease.renew(soon()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    pass(ttl).await;
    assert_eq!(lease.renew(soon()).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let next = registry.grant(&Grant::new(ttl, OURS)).await.unwrap();
    assert!(next.publish(&serving(&["a"])).await[0].is_ok());
    assert_eq!(registered(&fakes[1 - home]), 1, "it answers as well as the other, but nobody would see");
    let removed = |at: usize| sent(&fakes[at].seen(), "/v1/agent/service/deregister/orders%3Aa").len();
    assert_eq!((removed(home), removed(1 - home)), (0, 0));
    next.inspect(&keys(&["a"])).await.unwrap();
    next.inspect(&keys(&["a"])).await.unwrap();
    assert_eq!((removed(home), removed(1 - home)), (1, 0), "once");
}

#[tokio::test]
async fn what_a_server_lacks_is_asked_of_the_leader_before_it_is_missing() {
    for (leader, expected) in [
        (Reply::ok(json!({"Services": [{"ID": "orders:a", "Meta": meta_of("a")}]}).to_string()), true),
        // Nobody knows.
        (Reply::status(500, "No cluster leader"), true),
        (Reply::ok(r#"{"Services":[]}"#), false),
    ] {
        let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta_of("a")}});
        let checks = json!({"service:orders:a": {"Node": "n1", "CheckID": "service:orders:a", "ServiceID": "orders:a", "Status": "passing"}});
        let answer = leader.clone();
        let fake = agent(held, checks, move |seen| match seen.target.as_str() {
            "/v1/catalog/node-services/n1" => Some(answer.clone()),
            "/v1/catalog/node-services/n1?stale" => Some(Reply::ok(r#"{"Services":[]}"#)),
            _ => None,
        })
        .await;
        let lease = lease(&fake.address, Duration::from_secs(15)).await;
        assert!(lease.publish(&serving(&["a"])).await[0].is_ok());
        let version = record("a", Status::Serving).version;
        let presence = if expected { Presence::Ours { version } } else { Presence::Missing };
        assert_eq!(lease.inspect(&keys(&["a"])).await.unwrap(), [presence], "{leader:?}");
    }
}
