//! Refused updates, waits without end, upstreams of closed clients, callbacks that block.

use super::*;
use crate::{ClientConfig, Damping, Discover, Subset, Target, Upstream};

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

#[test]
fn subset_and_damping_are_fields_and_options() {
    let text = r#"{"registries": ["memory://?damping=2s"], "subset": "7:1/3", "damping": "on"}"#;
    let mut config: ClientConfig = serde_json::from_str(text).unwrap();
    assert_eq!(config.subset, Subset::Aperture { size: 7, index: 1, count: 3 });
    assert_eq!(config.damping, Damping::Epoch(10 * SECOND));
    config.apply(&config.registry().unwrap().clone()).unwrap();
    assert_eq!(config.damping, Damping::Epoch(2 * SECOND));
    let error = serde_json::from_str::<ClientConfig>(r#"{"subset": "few"}"#).unwrap_err().to_string();
    assert!(error.contains("off, on (20)"), "{error}");
}
