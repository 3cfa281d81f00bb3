//! Refused updates, waits without end, upstreams of closed clients, callbacks that block.

use super::*;
use crate::{
    ClientConfig, Damping, Discover, Lease, Registry, SlowStart, Subset, Target, Upstream, backend::Grant,
};

#[tokio::test(start_paused = true)]
async fn a_refused_update_takes_no_readiness_away_and_the_drain_still_waits_for_the_news() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let registration = client.register(orders("a")).await.unwrap();
    registry.faults().reject(&registration.key());
    registration.set_weight(Weight::new(7).unwrap()).unwrap();
    registration.updated(SECOND).await.unwrap_err();
    assert_eq!(registration.phase(), Phase::Blocked);
    assert!(client.health().is_ready(), "the old record stands, so callers still come");
    registry.faults().accept(&registration.key());
    let started = Instant::now();
    let report = client.drain(Drain::new().propagate(2 * SECOND)).await;
    assert!(started.elapsed() >= 2 * SECOND, "{report:?}");
}

#[test]
fn waits_that_no_clock_can_hold_are_refused_by_name() {
    for option in ["lasting_loss", "max_staleness", "initial_timeout", "register_timeout", "linger"] {
        let mut config = ClientConfig::new("memory://").unwrap();
        let url = format!("memory://?{option}=500000000000s").parse().unwrap();
        config.apply(&url).unwrap();
        let message = config.check().unwrap_err().to_string();
        assert!(message.contains(option) && message.contains("one year"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lazy_upstream_first_used_after_the_end_says_so() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let lazy = client.discover_lazy("orders").unwrap();
    client.close().await;
    let error = lazy.ready(1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(lazy.freshness().state, ViewState::Loading, "nothing was ever heard");
    lazy.pick().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_lasting_loss_is_told_also_if_the_configuration_is_set_later() {
    let registry = MemoryRegistry::new();
    let (told, mut heard) = tokio::sync::mpsc::channel(16);
    let client = Client::builder()
        .on_lasting_loss(60 * SECOND, move |_| _ = told.try_send(()))
        .config(ClientConfig::default())
        .backend(registry.backend())
        .clock(Arc::new(ManualClock::new()))
        .build()
        .await
        .unwrap();
    let _registration = client.register(orders("a")).await.unwrap();
    registry.faults().unavailable(true);
    timeout(600 * SECOND, heard.recv()).await.expect("told").unwrap();
}

#[test]
fn callbacks_that_block_do_not_fill_the_blocking_pool() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(crate::observer::AT_ONCE + 1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let registry = MemoryRegistry::new();
        let client = client(&registry).await;
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        let mut registrations = Vec::new();
        for number in 0..64 {
            let registration = client.register(orders(&number.to_string())).await.unwrap();
            let blocked = Arc::clone(&blocked);
            registration.on_event(move |_| drop(blocked.lock().map(|blocked| blocked.recv())));
            registration.set_weight(Weight::new(7).unwrap()).unwrap();
            registrations.push(registration);
        }
        registry.faults().forget_leases();
        let cells: Vec<_> = registrations.iter().map(Registration::cell).collect();
        let back = cells.iter().map(|cell| cell.wait_for(|s| s.epoch >= 2 && s.phase == Phase::Live));
        timeout(30 * SECOND, join_all(back)).await.expect("registered again under the callbacks");
        let free = timeout(10 * SECOND, tokio::task::spawn_blocking(|| ()));
        free.await.expect("a thread of the pool is left for names and files").unwrap();
        drop(release);
        client.close().await;
    });
}

#[tokio::test(start_paused = true)]
async fn a_client_uses_its_subset_unless_an_upstream_asks_for_another() {
    let registry = MemoryRegistry::new();
    let owner = client(&registry).await;
    let mut standing = Vec::new();
    for n in 0..9 {
        standing.push(owner.register(orders(&format!("i{n}"))).await.unwrap());
    }
    let reader =
        Client::builder().backend(registry.backend()).subset(Subset::Random(3)).build().await.unwrap();
    let (few, again) = (reader.discover("orders").await.unwrap(), reader.discover("orders").await.unwrap());
    let ids = |upstream: &Upstream| {
        let mut ids: Vec<_> = upstream.snapshot().iter().map(|instance| instance.key()).collect();
        ids.sort();
        ids
    };
    assert_eq!((ids(&few).len(), ids(&few)), (3, ids(&again)));
    let all = Discover::new(Target::try_from("orders").unwrap()).subset(Subset::Off);
    assert_eq!(reader.discover_with(all).await.unwrap().snapshot().len(), 9);
    let wrong = Discover::new(Target::try_from("orders").unwrap()).subset(Subset::Random(0));
    assert_eq!(reader.discover_with(wrong).await.unwrap_err().kind(), ErrorKind::InvalidArgument);
    let gone = ids(&few)[0].clone();
    let leaving = standing.iter().position(|r| r.key() == gone).unwrap();
    standing.swap_remove(leaving).deregister().await;
    tokio::time::sleep(SECOND).await;
    let left = ids(&few);
    assert!(left.len() == 3 && !left.contains(&gone), "another has taken its place: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_prefers_its_zone_unless_an_upstream_prefers_none() {
    let registry = MemoryRegistry::new();
    let owner = client(&registry).await;
    let mut standing = Vec::new();
    for n in 0..9 {
        let zone = if n < 3 { "z1" } else { "z2" };
        let instance = orders(&format!("i{n}")).to_builder().zone(zone).build().unwrap();
        standing.push(owner.register(instance).await.unwrap());
    }
    let reader = Client::builder().backend(registry.backend()).zone("z1").build().await.unwrap();
    let service = || Discover::new(Target::try_from("orders").unwrap());
    let seen = async |discover: Discover| {
        let upstream = reader.discover_with(discover).await.unwrap();
        let zone = |picked: crate::Picked| picked.zone().unwrap().to_owned();
        (0..90).map(|_| zone(upstream.pick().unwrap())).filter(|zone| zone == "z1").count()
    };
    assert_eq!(seen(service()).await, 90);
    assert_eq!(seen(service().any_zone()).await, 30);
    assert_eq!(seen(service().zone("z2")).await, 0);
    assert_eq!(seen(service().zone("z3")).await, 30);
}

#[tokio::test(start_paused = true)]
async fn a_new_instance_warms_up_without_anybody_touching_the_view() {
    let registry = MemoryRegistry::new();
    let owner = client(&registry).await;
    let _first = owner.register(orders("a")).await.unwrap();
    let slow = SlowStart::Window(10 * SECOND);
    let reader = Client::builder().backend(registry.backend()).slow_start(slow).build().await.unwrap();
    let upstream = reader.discover("orders").await.unwrap();
    let _second = owner.register(orders("b")).await.unwrap();
    upstream.ready(2).await.unwrap();
    let hits = || (0..200).filter(|_| upstream.pick().unwrap().id().as_str() == "b").count();
    let version = upstream.snapshot().version();
    assert!((1..30).contains(&hits()), "{}", hits());
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(hits(), 100);
    assert_eq!(upstream.snapshot().version(), version + 1, "published once, as it is picked as others are");
}

#[test]
fn what_narrows_a_view_is_a_field_and_an_option() {
    let text = r#"{"registries": ["memory://?damping=2s&zone=z2&slow_start=1m"], "subset": "7:1/3",
        "damping": "on", "slow_start": "on", "zone": "z1"}"#;
    let mut config: ClientConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.zone.as_deref(), config.slow_start), (Some("z1"), SlowStart::Window(30 * SECOND)));
    assert_eq!(config.subset, Subset::Aperture { size: 7, index: 1, count: 3 });
    assert_eq!(config.damping, Damping::Epoch(10 * SECOND));
    config.apply(&config.registry().unwrap().clone()).unwrap();
    assert_eq!(config.damping, Damping::Epoch(2 * SECOND));
    assert_eq!((config.zone.as_deref(), config.slow_start), (Some("z2"), SlowStart::Window(60 * SECOND)));
    let error = serde_json::from_str::<ClientConfig>(r#"{"subset": "few"}"#).unwrap_err().to_string();
    assert!(error.contains("off, on (20)"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_whose_budget_left_too_little_for_propagation_finishes_and_is_not_clean() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let _registration = client.register(orders("a")).await.unwrap();
    let report = client.drain(Drain::new().budget(6 * SECOND)).await;
    assert_eq!(report.deregistered.len(), 1);
    assert_eq!((report.cut_in, report.in_flight_aborted, report.tasks_aborted), (None, 0, 0));
    let fault = report.fault.as_ref().expect("the registry needs 2 s of propagation");
    assert!(fault.to_string().contains("too short"), "{fault}");
    assert!(!report.is_clean(), "what the next requests may be lost by");
}

/// Refuses whatever has metadata, without being asked to publish it.
#[derive(Debug)]
struct Picky(Arc<dyn Registry>);

#[async_trait::async_trait]
impl Registry for Picky {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        self.0.grant(grant).await
    }

    fn check(&self, instance: &Instance) -> Result<(), Error> {
        match instance.metadata().is_empty() {
            true => Ok(()),
            false => Err(Error::invalid("no metadata here")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_registry_can_not_hold_is_refused_at_once_and_changes_nothing() {
    let registry = MemoryRegistry::new();
    let backend = registry.backend();
    let picky = Picky(backend.registry.clone().unwrap());
    let client = Client::builder().backend(backend.with_registry(Arc::new(picky))).build().await.unwrap();
    let large = orders("a").to_builder().metadata("team", "core").build().unwrap();
    let error = client.register(large.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::InvalidArgument, "no metadata here"));
    let registration = client.register(orders("a")).await.unwrap();
    let error = registration.update(large).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!((registration.phase(), registration.instance().metadata().len()), (Phase::Live, 0));
}
