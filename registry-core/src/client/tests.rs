mod corners;
mod drains;
mod logged;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::*;

use crate::{
    Client, Deregistration, Drain, Instance, LossCause, ManualClock, MemoryRegistry, Phase,
    RegistrationEvent, Status, Weight, memory::Operation,
};

const SECOND: Duration = Duration::from_secs(1);

async fn client(registry: &MemoryRegistry) -> Client {
    Client::builder().backend(registry.backend()).clock(Arc::new(ManualClock::new())).build().await.unwrap()
}

fn orders(id: &str) -> Instance {
    Instance::builder("orders").id(id).endpoint("http://10.0.0.7:8080").build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_registered_is_found_and_picked() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let registration = client.register(orders("a")).await.unwrap();
    assert_eq!(registration.phase(), Phase::Live);
    let upstream = client.discover("orders").await.unwrap();
    upstream.ready(1).await.unwrap();
    assert_eq!(upstream.pick().unwrap().id().as_str(), "a");
    assert_eq!(registration.deregister().await, Deregistration::Confirmed);
    assert!(registry.snapshot_of("orders").is_empty());
    client.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_registration_while_the_registry_is_away_fails_after_five_seconds_and_leaves_nothing() {
    let registry = MemoryRegistry::new();
    registry.faults().unavailable(true);
    let client = client(&registry).await;
    let started = Instant::now();
    let error = client.register(orders("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed(), 5 * SECOND);
    assert!(std::error::Error::source(&error).is_some(), "the registry's last word is the source: {error:#}");
    registry.faults().unavailable(false);
    tokio::time::sleep(30 * SECOND).await;
    assert!(registry.snapshot_of("orders").is_empty(), "nothing is half-registered");
    drop(client.register(orders("a")).await.expect("the key is free again"));
}

#[tokio::test(start_paused = true)]
async fn a_background_registration_appears_once_the_registry_does() {
    let registry = MemoryRegistry::new();
    registry.faults().unavailable(true);
    let client = client(&registry).await;
    let options = RegisterOptions::new().start(Start::Background);
    let registration = client.register_with(orders("a"), options).await.unwrap();
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(registration.phase(), Phase::Registering);
    assert!(!client.health().is_ready());
    registry.faults().unavailable(false);
    let back = Instant::now();
    registration.decided().await;
    assert_eq!(registration.phase(), Phase::Live);
    assert!(back.elapsed() <= 10 * SECOND, "took {:?}", back.elapsed());
    assert!(client.health().is_ready());
}

#[tokio::test(start_paused = true)]
async fn one_key_can_be_registered_once_at_a_time() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let first = client.register(orders("a")).await.unwrap();
    assert_eq!(client.register(orders("a")).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(first.deregister_within(SECOND).await, Deregistration::Confirmed);
    let second = client.register(orders("a")).await.unwrap();
    // The old guard must not withdraw its successor.
    drop(first);
    tokio::time::sleep(20 * SECOND).await;
    assert_eq!(second.phase(), Phase::Live);
    assert_eq!(registry.snapshot_of("orders").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_update_during_an_outage_is_what_the_registry_gets() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let registration = client.register(orders("a")).await.unwrap();
    registry.faults().unavailable(true);
    registration.set_status(Status::Down).unwrap();
    registration.set_weight(Weight::new(7).unwrap()).unwrap();
    assert_eq!(registration.updated(SECOND).await.unwrap_err().kind(), ErrorKind::Timeout);
    registry.faults().lose_data();
    registry.faults().unavailable(false);
    registration.updated(60 * SECOND).await.unwrap();
    let stored = registry.snapshot_of("orders");
    assert_eq!(stored[0].status(), Status::Down);
    assert_eq!(stored[0].weight().get(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_told_once_and_recovered() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let registration = client.register(orders("a")).await.unwrap();
    let mut events = registration.events();
    registry.faults().forget_leases();
    let lost = loop {
        match events.next().await.unwrap() {
            RegistrationEvent::Lost { cause, epoch, .. } => break (cause, epoch),
            _ => continue,
        }
    };
    assert_eq!(lost, (LossCause::Revoked, 1));
    assert!(matches!(events.next().await, Some(RegistrationEvent::Recovered { old_epoch: 1, epoch: 2, .. })));
    assert_eq!(registry.snapshot_of("orders").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_or_blocks_does_not_touch_the_renewal() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let registration = client.register(orders("a")).await.unwrap();
    let (told, mut heard) = tokio::sync::mpsc::channel(16);
    registration.on_event(|_| panic!("the user's own fault"));
    registration.on_event(move |event| {
        drop(told.try_send(format!("{event:?}")));
    });
    registry.faults().forget_leases();
    while !heard.recv().await.unwrap().starts_with("Recovered") {}
    assert_eq!(registration.phase(), Phase::Live);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_registration_is_withdrawn_in_the_background() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    drop(client.register(orders("a")).await.unwrap());
    registry.until(|registry| registry.snapshot_of("orders").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_withdraws_and_ends_every_task() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let registration = client.register(orders("a")).await.unwrap();
    let upstream = client.discover("orders").await.unwrap();
    let tasks = client.inner.tasks.clone();
    drop(client);
    drop(upstream);
    assert!(!tasks.is_empty());
    drop(registration);
    registry.until(|registry| registry.snapshot_of("orders").is_empty()).await;
    tasks.close();
    timeout(10 * SECOND, tasks.wait()).await.expect("every task has an end");
}

#[tokio::test(start_paused = true)]
async fn a_probe_sets_the_status_and_a_panicking_or_hanging_one_counts_as_down() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let registration = client.register(orders("a")).await.unwrap();
    let verdict = Arc::new(AtomicU8::new(0));
    let asked = Arc::clone(&verdict);
    registration.probe(SECOND, move || {
        let verdict = asked.load(Ordering::SeqCst);
        async move {
            match verdict {
                0 => true,
                1 => false,
                2 => panic!("a broken probe"),
                _ => std::future::pending().await,
            }
        }
    });
    for (answer, status) in
        [(1, Status::Down), (0, Status::Serving), (2, Status::Down), (0, Status::Serving), (3, Status::Down)]
    {
        verdict.store(answer, Ordering::SeqCst);
        let reached = registry
            .until(|registry| registry.snapshot_of("orders").first().is_some_and(|i| i.status() == status));
        timeout(10 * SECOND, reached).await.unwrap_or_else(|_| panic!("answer {answer} is not {status}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_announces_deregisters_serves_on_and_waits_for_what_is_in_flight() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let _registration = client.register(orders("a")).await.unwrap();
    let in_flight = client.in_flight();
    let request = in_flight.enter();
    let started = Instant::now();
    let draining = tokio::spawn({
        let client = client.clone();
        async move { client.drain(Drain::default()).await }
    });
    in_flight.leaving().await;
    assert!(!in_flight.is_refusing(), "peers are told while it serves");
    registry.until(|registry| registry.snapshot_of("orders").is_empty()).await;
    assert!(!in_flight.is_refusing(), "it keeps serving while the news travels");
    in_flight.refusing().await;
    assert!(started.elapsed() >= 2 * SECOND, "propagation was skipped: {:?}", started.elapsed());
    tokio::time::sleep(3 * SECOND).await;
    assert!(!draining.is_finished(), "a request is in flight");
    assert!(in_flight.aborted().now_or_never().is_none(), "nothing is dropped yet");
    drop(request);
    let report = draining.await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    in_flight.aborted().await;
    assert!(report.elapsed < 7 * SECOND, "{report:?}");
    assert_eq!(client.register(orders("b")).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_by_its_budget_whatever_hangs() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let registration = client.register(orders("a")).await.unwrap();
    let in_flight = client.in_flight();
    let _request = in_flight.enter();
    in_flight.spawn("endless", std::future::pending());
    registry.faults().hang(true);
    let report = client.drain(Drain::default()).await;
    assert!(report.elapsed <= 25 * SECOND, "{report:?}");
    assert_eq!((report.in_flight_aborted, report.tasks_aborted), (1, 1));
    assert_eq!(report.deregistered, [(registration.key(), Deregistration::TtlWillExpire)]);
    assert_eq!(report.cut_in, Some(crate::DrainStage::Wait));
}

#[tokio::test(start_paused = true)]
async fn a_drain_can_be_cut_short() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let _registration = client.register(orders("a")).await.unwrap();
    let _request = client.in_flight().enter();
    let draining = tokio::spawn({
        let client = client.clone();
        async move { client.drain(Drain::default()).await }
    });
    client.in_flight().refusing().await;
    let cut = Instant::now();
    client.cut_drain();
    let report = draining.await.unwrap();
    assert!(cut.elapsed() <= SECOND, "{:?}", cut.elapsed());
    assert_eq!(report.in_flight_aborted, 1);
    assert_eq!(report.cut_in, Some(crate::DrainStage::Wait));
}

#[tokio::test(start_paused = true)]
async fn a_drain_budget_that_is_too_short_is_reported_and_refused_for_signals() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let drain = Drain::new().budget(4 * SECOND);
    let error = client.drain_on_signal(drain.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(client.drain(drain).await.fault.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_cache_survives_the_registry_and_says_how_old_it_is() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let _registration = client.register(orders("a")).await.unwrap();
    let upstream = client.discover("orders").await.unwrap();
    upstream.ready(1).await.unwrap();
    registry.faults().unavailable(true);
    tokio::time::sleep(3_600 * SECOND).await;
    assert_eq!(upstream.pick().unwrap().id().as_str(), "a");
    let freshness = upstream.freshness();
    assert_eq!(freshness.state, ViewState::Stale);
    assert!(freshness.age.unwrap() >= 3_000 * SECOND, "{freshness:?}");
    assert!(client.health().is_ready(), "a running node never stops for the registry's sake");
}

#[tokio::test(start_paused = true)]
async fn ready_waits_for_the_registry_and_says_why_it_is_not() {
    let registry = MemoryRegistry::new();
    registry.faults().unavailable(true);
    let client = client(&registry).await;
    let error = client.ready(2 * SECOND).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotReady);
    assert!(std::error::Error::source(&error).is_some());
    registry.faults().unavailable(false);
    client.ready(2 * SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lazy_upstream_asks_nothing_before_its_first_use() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let _registration = client.register(orders("a")).await.unwrap();
    let upstream = client.discover_lazy("orders").unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(registry.calls(Operation::Watch), 0);
    assert_eq!(upstream.pick().unwrap_err().kind(), ErrorKind::NotReady);
    upstream.ready(1).await.unwrap();
    assert_eq!(upstream.pick().unwrap().id().as_str(), "a");
}

#[tokio::test(start_paused = true)]
async fn many_upstreams_of_one_service_share_one_watch_which_ends_after_the_last() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let many: Vec<_> = join_all((0..20).map(|_| client.discover("orders"))).await;
    assert!(many.iter().all(Result::is_ok));
    assert_eq!(registry.watch_count(), 1);
    drop(many);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(registry.watch_count(), 0);
}

#[tokio::test]
async fn wrong_configurations_say_what_is_valid() {
    for (url, expected) in [
        ("etcd2://h:1", "available are"),
        ("memory://?tll=15s", "valid options are"),
        ("memory://?ttl=2s", "at least 3s"),
        ("memory://?ttl=soon", "a duration"),
        ("memory://?shrink_guard=maybe", "off, keep-last or a duration"),
        ("memory://?balancer=best", "one of"),
        ("memory://?ejection=maybe", "on or off"),
        ("memory://?advertise=0.0.0.0", "wildcard"),
        ("memory://?subset=few", "off, on (20), a number such as 20, or 20:3/10"),
        ("memory://?subset=20:10/10", "20:3/10"),
        ("memory://?damping=much", "off, on (10s) or a duration"),
        ("memory://?damping=0s", "above 0"),
        ("memory://?slow_start=gently", "off, on (30s) or a duration"),
        ("memory://?slow_start=0s", "above 0"),
        ("memory://?zone=", "zone is empty"),
        ("memory://?expiry=never", "serve or refuse"),
        ("memory", "no scheme"),
    ] {
        let error = Client::builder().url(url).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{url}");
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
    let error = Client::builder().url("etcd://127.0.0.1").build().await.unwrap_err();
    assert!(error.to_string().contains("feature \"etcd\""), "{error}");
    assert!(Client::builder().build().await.unwrap_err().to_string().contains("no registry"));
}

#[tokio::test]
async fn a_static_list_is_found_and_takes_no_registration() {
    let client = Client::builder().url("static://10.0.0.1:80,10.0.0.2:80/orders").build().await.unwrap();
    let upstream = client.discover("orders").await.unwrap();
    assert_eq!(upstream.snapshot().len(), 2);
    let error = client.register(orders("a")).await.unwrap_err();
    assert!(error.to_string().contains("takes no registrations"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_clients_stream_batches_one_loss_into_one_event() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let registrations = join_all((0..50).map(|n| client.register(orders(&format!("i{n}"))))).await;
    assert!(registrations.iter().all(Result::is_ok));
    let mut events = client.events();
    registry.faults().forget_leases();
    let lost = loop {
        let event = events.next().await.unwrap();
        if matches!(event.events[0].1, RegistrationEvent::Lost { .. }) {
            break event;
        }
    };
    assert_eq!(lost.events.len(), 50);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_registrations_that_were_just_dropped() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    drop(client.register(orders("a")).await.unwrap());
    client.close().await;
    assert!(registry.snapshot_of("orders").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_after_a_close_or_after_a_dropped_drain_ends() {
    let registry = MemoryRegistry::new();
    let closed = client(&registry).await;
    closed.close().await;
    timeout(60 * SECOND, closed.drain(Drain::default())).await.expect("a drain of a closed client ends");

    let client = client(&registry).await;
    let _registration = client.register(orders("a")).await.unwrap();
    assert!(timeout(Duration::from_millis(100), client.drain(Drain::default())).await.is_err());
    let report = timeout(60 * SECOND, client.drain(Drain::default())).await.expect("the next one takes over");
    assert!(report.elapsed < 25 * SECOND, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_hook_does_not_stop_the_drain() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let _registration = client.register(orders("a")).await.unwrap();
    let drain = Drain::new().on_announce(|| async { panic!("the user's own fault") }).on_refuse(|| {
        if true {
            panic!("even before it returns a future")
        }
        std::future::ready(())
    });
    assert!(client.drain(drain).await.is_clean());
    assert!(registry.snapshot_of("orders").is_empty());
}

#[tokio::test(start_paused = true)]
async fn propagation_is_not_skipped_for_an_instance_that_was_deregistered_by_hand() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    client.register(orders("a")).await.unwrap().deregister().await;
    assert!(client.drain(Drain::default()).await.elapsed >= 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn ready_does_not_hide_a_registration_that_the_registry_refuses() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    registry.faults().reject(&orders("a").key());
    let options = RegisterOptions::new().start(Start::Background);
    let _registration = client.register_with(orders("a"), options).await.unwrap();
    assert_eq!(client.ready(5 * SECOND).await.unwrap_err().kind(), ErrorKind::NotReady);
}

#[tokio::test(start_paused = true)]
async fn endless_waits_and_budgets_do_not_overflow_the_clock() {
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    client.ready(Duration::MAX).await.unwrap();
    let registration = client.register(orders("a")).await.unwrap();
    assert_eq!(registration.deregister_within(Duration::MAX).await, Deregistration::Confirmed);
    let drain = Drain::new().budget(Duration::MAX).propagate(SECOND);
    assert!(client.drain(drain).await.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_lasts_calls_the_users_function_once() {
    let registry = MemoryRegistry::new();
    let (told, mut heard) = tokio::sync::mpsc::channel(16);
    let client = Client::builder()
        .backend(registry.backend())
        .clock(Arc::new(ManualClock::new()))
        .on_lasting_loss(60 * SECOND, move |keys| drop(told.try_send(keys.to_vec())))
        .build()
        .await
        .unwrap();
    let registration = client.register(orders("a")).await.unwrap();
    registry.faults().unavailable(true);
    let lost = Instant::now();
    assert_eq!(heard.recv().await.unwrap(), [registration.key()]);
    assert!(lost.elapsed() >= 60 * SECOND, "{:?}", lost.elapsed());
    assert!(timeout(600 * SECOND, heard.recv()).await.is_err(), "told again");
}
