//! Row 32: an application blocks its whole executor: what it costs, and what a keeper on a thread of its own saves. Time
//! really passes here, as a paused clock needs an executor that runs.

use std::time::Duration;

use futures_util::StreamExt;
use registry_testkit::{eventually, faults::figure};
use service_registry::{
    Client, ClientBuilder, Instance, KeeperThread, MemoryRegistry, Phase, Registration, RegistrationEvent,
};
use tokio::runtime::{Builder, Runtime};

const TTL: Duration = Duration::from_secs(3);

/// The fault itself: nothing else can run on this thread, which is the executor's only one.
#[expect(clippy::disallowed_methods, reason = "blocking the executor is what is tested")]
fn block_the_executor() {
    std::thread::sleep(2 * TTL);
}

pub(crate) fn executor() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn orders() -> Instance {
    Instance::new("orders", "http://10.0.0.7:8080").unwrap()
}

async fn registered(builder: ClientBuilder) -> (Client, Registration) {
    let client = builder.ttl(TTL).build().await.unwrap();
    // A connection that watches is there first, and blocked with everything else.
    client.discover("orders").await.unwrap();
    let registration = client.register(orders()).await.unwrap();
    (client, registration)
}

/// Blocks the executor, and looks whether anything was lost.
pub(crate) async fn survives_a_blocked_executor(builder: ClientBuilder) {
    let (client, registration) = registered(builder.keeper_thread(KeeperThread::Dedicated)).await;
    let mut events = registration.events();
    block_the_executor();
    assert_eq!(registration.phase(), Phase::Live);
    client.close().await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(event);
    }
    let lived = |event: &RegistrationEvent| {
        matches!(event, RegistrationEvent::Registered { .. } | RegistrationEvent::Deregistered { .. })
    };
    assert!(told.iter().all(lived), "not even one renewal was late: {told:?}");
}

#[test]
fn row_32_a_dedicated_keeper_loses_nothing_while_the_executor_is_blocked() {
    let registry = MemoryRegistry::new();
    executor().block_on(survives_a_blocked_executor(Client::builder().backend(registry.backend())));
    figure(32, "memory", "blocked for 2 L with a thread of its own", "no loss");
}

#[test]
fn row_32_a_shared_keeper_claims_nothing_it_could_not_renew() {
    let registry = MemoryRegistry::new();
    executor().block_on(async {
        let (client, registration) = registered(Client::builder().backend(registry.backend())).await;
        block_the_executor();
        assert_ne!(registration.phase(), Phase::Live, "the safe deadline has passed");
        let live = || async { (registration.phase() == Phase::Live).then_some(()) };
        eventually("the registration is live again", TTL, live).await.unwrap();
        client.close().await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_keepers_thread_ends_with_the_client() {
    fn keepers() -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() == "registry-keeper").count()
    }
    // A process of its own would be needed to count alone, so this counts what it adds and takes.
    executor().block_on(async {
        let mut clients = Vec::new();
        for _ in 0..20 {
            let registry = MemoryRegistry::new();
            let builder =
                Client::builder().backend(registry.backend()).keeper_thread(KeeperThread::Dedicated);
            clients.push(registered(builder).await);
        }
        assert!(keepers() >= 20, "{} threads", keepers());
        drop(clients);
        // One other test of this file has such a thread too.
        let gone = || async { (keepers() <= 2).then_some(()) };
        eventually("the threads have ended", Duration::from_secs(10), gone).await.unwrap();
    });
}

#[test]
fn an_unknown_keeper_thread_is_refused_with_the_known_ones() {
    let error = executor()
        .block_on(service_registry::connect("memory://?keeper_thread=own"))
        .expect_err("there is no such thread");
    assert!(error.to_string().contains("shared or dedicated"), "{error}");
}
