//! What stands at agents that were given up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{
    away::{CUT_OFF, given, holding_agent, pass, registered},
    *,
};

fn removed(fake: &Fake, id: &str) -> usize {
    sent(&fake.seen(), &format!("/v1/agent/service/deregister/orders%3A{id}")).len()
}

fn asked(fake: &Fake) -> usize {
    sent(&fake.seen(), "/v1/agent/services").len()
}

fn grant() -> Grant {
    Grant::new(Duration::from_secs(15), OURS)
}

/// Two agents that hold `x`, `y` and `z` of ours, and can be made to answer nothing.
async fn two_that_may_be_away() -> (Vec<Fake>, [Arc<AtomicBool>; 2]) {
    let away = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
    let mut fakes = Vec::new();
    for is_away in away.clone() {
        let held = |id: &str| json!({"ID": format!("orders:{id}"), "Service": "orders", "Meta": meta_of(id)});
        let held = json!({"orders:x": held("x"), "orders:y": held("y"), "orders:z": held("z")});
        let closes = move |_: &Seen| is_away.load(Ordering::SeqCst).then_some(Reply::Close);
        fakes.push(agent(held, json!({}), closes).await);
    }
    (fakes, away)
}

#[tokio::test]
async fn what_was_deregistered_while_its_agent_was_away_is_removed_there_once_it_is_back() {
    let (fakes, away) = two_that_may_be_away().await;
    let registry = given("&check=http", &[&fakes[0].address, &fakes[1].address]);
    let lease = registry.grant(&grant()).await.unwrap();
    let Lifetime::Verified { every } = lease.lifetime() else { panic!("nobody beats") };
    let records = serving(&["x", "y", "z"]);
    assert!(lease.publish(&records).await.iter().all(Outcome::is_ok));
    let home = usize::from(registered(&fakes[1]) == 3);
    away[home].store(true, Ordering::SeqCst);
    assert!(lease.withdraw(&[Arc::clone(&records[1].instance)]).await[0].is_err());
    pass(2 * every).await;
    assert_eq!(lease.inspect(&keys(&["x", "z"])).await.unwrap_err().kind(), ErrorKind::LeaseLost);
    // Meanwhile nobody wants `z` any more: the lease that it was under is lost, so there is nothing to withdraw.
    let next = registry.grant(&grant()).await.unwrap();
    assert!(next.publish(&records[..1]).await[0].is_ok());
    away[home].store(false, Ordering::SeqCst);
    next.inspect(&keys(&["x"])).await.unwrap();
    next.inspect(&keys(&["x"])).await.unwrap();
    assert_eq!(["x", "y", "z"].map(|id| removed(&fakes[home], id)), [1; 3]);
    assert_eq!(["x", "y", "z"].map(|id| removed(&fakes[1 - home], id)), [0; 3]);
}

#[tokio::test]
async fn what_is_withdrawn_after_its_lease_expired_is_removed_at_the_agent_of_that_lease() {
    let (fakes, away) = two_that_may_be_away().await;
    let registry = given("&check=http", &[&fakes[0].address, &fakes[1].address]);
    let lease = registry.grant(&grant()).await.unwrap();
    let records = serving(&["x", "y"]);
    assert!(lease.publish(&records).await.iter().all(Outcome::is_ok));
    let home = usize::from(registered(&fakes[1]) == 2);
    away[home].store(true, Ordering::SeqCst);
    let y = [Arc::clone(&records[1].instance)];
    assert!(lease.withdraw(&y).await[0].is_err());
    // The client gave the lease up by itself, without having been told that it is lost.
    let next = registry.grant(&grant()).await.unwrap();
    assert!(next.publish(&records[..1]).await[0].is_ok());
    assert!(next.withdraw(&y).await[0].is_ok());
    away[home].store(false, Ordering::SeqCst);
    pass(Duration::from_secs(20)).await;
    next.inspect(&keys(&["x"])).await.unwrap();
    assert_eq!(["x", "y"].map(|id| removed(&fakes[home], id)), [1; 2]);
}

#[tokio::test]
async fn an_agent_that_never_comes_back_is_asked_ever_more_rarely_unless_something_is_withdrawn() {
    let fake = holding_agent(Arc::new(AtomicUsize::new(0))).await;
    let gone = Fake::start(|_| Reply::status(500, CUT_OFF)).await;
    let config: ConsulConfig =
        format!("consul://{},{}?request_timeout=500ms&check=tcp", fake.address, gone.address)
            .parse()
            .unwrap();
    let owners = Arc::<Owners>::default();
    owners.set("orders:a", 1, &gone.address.as_str().into());
    let every = Duration::from_secs(20);
    let lifetime = Lifetime::Verified { every };
    let names = Names::new(&Namespace::default());
    let lease = ConsulLease::new(Session::new(config, None), names, owners, 2, grant(), lifetime);
    assert!(lease.publish(&serving(&["a"])).await[0].is_ok());
    for _ in 0..60 {
        lease.inspect(&keys(&["a"])).await.unwrap();
        pass(every).await;
    }
    let seen = asked(&gone);
    assert!((4..=10).contains(&seen), "{seen} times in 20 min");
    // What may be the last word isn't put off.
    lease.withdraw(&[record("a", Status::Serving).instance]).await;
    assert_eq!(asked(&gone), seen + 1);
}

#[tokio::test]
async fn what_is_published_again_where_it_was_left_waits_for_its_removal() {
    let is_over = Arc::new(AtomicBool::new(false));
    let in_time = Arc::new(AtomicBool::new(false));
    let held = json!({"orders:a": {"ID": "orders:a", "Service": "orders", "Meta": meta_of("a")}});
    let (over, on_time) = (Arc::clone(&is_over), Arc::clone(&in_time));
    let fake = agent(held, json!({}), move |seen| {
        if seen.target.starts_with("/v1/agent/service/register") {
            on_time.store(over.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        let removes = seen.target.starts_with("/v1/agent/service/deregister");
        removes.then(|| Reply::After(Duration::from_millis(100), Box::new(Reply::ok(""))))
    })
    .await;
    let dead = closed_port().await;
    let config: ConsulConfig = format!("consul://{},{dead}?check=tcp", fake.address).parse().unwrap();
    let session = Session::new(config, None);
    let owners = Arc::<Owners>::default();
    owners.set("orders:a", 1, &fake.address.as_str().into());
    owners.set("orders:a", 2, &dead.into());
    let lease = |number| {
        let names = Names::new(&Namespace::default());
        let lifetime = Lifetime::Verified { every: Duration::from_secs(20) };
        ConsulLease::new(Arc::clone(&session), names, Arc::clone(&owners), number, grant(), lifetime)
    };
    let (second, third) = (lease(2), lease(3));
    let tidied = async {
        second.inspect(&[]).await.unwrap();
        is_over.store(true, Ordering::SeqCst);
    };
    let published = async {
        while removed(&fake, "a") == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        third.publish(&serving(&["a"])).await.remove(0)
    };
    let ((), outcome) = join(tidied, published).await;
    outcome.unwrap();
    assert_eq!((registered(&fake), removed(&fake, "a")), (1, 1));
    assert!(in_time.load(Ordering::SeqCst), "or its removal would take the new one");
}
