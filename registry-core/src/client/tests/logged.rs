//! What somebody who looks into the log is told to do, and what not.

use std::sync::Mutex;

use tracing::{
    Event, Level, Metadata,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, Subscriber, set_default},
};

use super::*;

/// The warnings of this thread.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn heard() -> (Self, DefaultGuard) {
        let warnings = Self::default();
        let guard = set_default(warnings.clone());
        (warnings, guard)
    }

    fn of(&self, what: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|warning| warning.contains(what)).count()
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

const DROPPED: &str = "dropped without `deregister`";

#[tokio::test(start_paused = true)]
async fn who_drops_a_registration_is_told_to_keep_it() {
    let (warnings, _guard) = Warnings::heard();
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    drop(client.register(orders("a")).await.unwrap());
    assert_eq!(warnings.of(DROPPED), 1);
    assert_eq!(warnings.of("keep it"), 1);
    client.register(orders("b")).await.unwrap().deregister().await;
    client.close().await;
    assert_eq!(warnings.of(DROPPED), 1, "nobody else");
}

#[tokio::test(start_paused = true)]
async fn who_could_not_register_is_not_told_that_he_dropped_anything() {
    let (warnings, _guard) = Warnings::heard();
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    registry.faults().unavailable(true);
    client.register(orders("a")).await.unwrap_err();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(warnings.of(DROPPED), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_long_for_instances_is_told_what_there_is() {
    const WAITS: &str = "still waiting for instances";
    let (warnings, _guard) = Warnings::heard();
    let registry = MemoryRegistry::new();
    let client = client(&registry).await;
    let nobody = client.discover("oders").await.unwrap();
    assert!(nobody.ready_within(1, 9 * SECOND).await.is_err());
    assert_eq!(warnings.of(WAITS), 0, "that may take its time");
    assert!(nobody.ready_within(1, 60 * SECOND).await.is_err());
    assert_eq!(warnings.of(WAITS), 1, "once per wait");
    assert_eq!(warnings.of("oders"), 1);
}
