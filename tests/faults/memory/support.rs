//! What all rows use: clients on the paused clock, instances, logs of events, figures.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use registry_core::{
    Backend, Client, ClientBuilder, Instance, ManualClock, MemoryRegistry, Phase, Registration,
    RegistrationEvent,
};
use registry_testkit::faults::{self, Value};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// The default time to live, which all rows but the shortest scripts use.
pub(crate) const TTL: Duration = secs(15);

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn instance(service: &str, id: &str) -> Instance {
    Instance::builder(service).id(id).endpoint("http://10.0.0.7:8080").build().unwrap()
}

pub(crate) async fn client_with(
    backend: Backend,
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Client {
    let builder = Client::builder().backend(backend).clock(Arc::new(ManualClock::new()));
    configure(builder).build().await.unwrap()
}

pub(crate) async fn client_over(backend: Backend) -> Client {
    client_with(backend, |builder| builder).await
}

/// A client on a registry; every random draw of the test's thread follows from the seed.
pub(crate) async fn client_of(registry: &MemoryRegistry, seed: u64) -> Client {
    fastrand::seed(seed);
    client_over(registry.backend()).await
}

/// Writes down what a row measured, in simulated time.
pub(crate) fn figure(row: u8, what: &str, value: impl Into<Value>) {
    let value = value.into();
    println!("row {row:02} on memory: {what} {value}");
    faults::figure(row, "memory", what, value);
}

/// The events of one registration from now on.
pub(crate) struct EventLog {
    events: Arc<Mutex<Vec<RegistrationEvent>>>,
    task: JoinHandle<()>,
}

pub(crate) fn log_of(registration: &Registration) -> EventLog {
    let events = Arc::<Mutex<Vec<_>>>::default();
    let mut stream = registration.events();
    let heard = Arc::clone(&events);
    let task = tokio::spawn(async move {
        while let Some(event) = stream.next().await {
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    });
    EventLog { events, task }
}

impl EventLog {
    pub(crate) fn events(&self) -> MutexGuard<'_, Vec<RegistrationEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn len(&self) -> usize {
        self.events().len()
    }

    pub(crate) fn count_of(&self, is: impl Fn(&RegistrationEvent) -> bool) -> usize {
        self.events().iter().filter(|event| is(event)).count()
    }

    /// R4: at most one loss per epoch, and losses and recoveries take turns.
    pub(crate) fn assert_alternates(&self) {
        let events = self.events();
        let mut lost = None;
        let mut last = 0;
        for event in events.iter() {
            match event {
                RegistrationEvent::Lost { epoch, .. } => {
                    assert!(lost.is_none() && *epoch > last, "R4: lost twice: {events:?}");
                    (lost, last) = (Some(*epoch), *epoch);
                }
                RegistrationEvent::Recovered { old_epoch, .. } => {
                    assert_eq!(lost.take(), Some(*old_epoch), "R4: recovered from no loss: {events:?}");
                }
                RegistrationEvent::Lagged { missed } => panic!("the log missed {missed}"),
                _ => {}
            }
        }
    }
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events().fmt(f)
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until every registration is live and the registry holds what it wants; how long that took.
pub(crate) async fn back_within(
    registry: &MemoryRegistry,
    registrations: &[Registration],
    bound: Duration,
) -> Duration {
    let start = Instant::now();
    loop {
        let is_back = |registration: &Registration| {
            let wanted = registration.instance();
            let stored =
                || registry.snapshot_of(wanted.service()).into_iter().find(|i| i.key() == wanted.key());
            registration.phase() == Phase::Live && stored().is_some_and(|stored| *stored == *wanted)
        };
        let away = registrations.iter().filter(|registration| !is_back(registration)).count();
        if away == 0 {
            return start.elapsed();
        }
        assert!(start.elapsed() <= bound, "R1: {away} are not back after {bound:?}");
        sleep(millis(50)).await;
    }
}
