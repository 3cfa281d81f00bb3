//! What a recorder of metrics may do while it is told something.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};

use super::*;
use crate::{
    Target, Upstream,
    balance::Outcome,
    upstream::{Nothing, Source},
    view::{View, ViewChange, ViewConfig, ViewSink},
};

/// Notes which metrics it was told under a lock that a pick may need.
struct Watching {
    view: Arc<View>,
    told: std::sync::Mutex<Vec<(String, bool)>>,
}

impl Watching {
    fn note(&self, key: &Key) {
        let judge = &self.view.outliers().unwrap().judge;
        let is_free = self.view.try_writer().is_some() && judge.try_lock().is_ok();
        self.told.lock().unwrap().push((key.name().to_owned(), is_free));
    }
}

impl metrics::Recorder for Watching {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.note(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.note(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note(key);
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn a_recorder_may_pick_while_it_is_told_of_an_ejection() {
    let view = Arc::new(View::with(ViewConfig::default()));
    let watching = Watching { view: Arc::clone(&view), told: std::sync::Mutex::default() };
    let _guard = metrics::set_default_local_recorder(&watching);
    view.apply(&ViewChange { upserts: (0..10).map(instance).collect(), ..ViewChange::default() });
    let nothing: Arc<dyn Source> = Arc::new(Nothing(crate::Error::invalid("none")));
    let target = Target::try_from("orders").unwrap();
    let upstream = Upstream::new(target, Arc::clone(&view), false, move || Arc::clone(&nothing));
    view.outliers().unwrap().name(&"orders".parse().unwrap());
    for _ in 0..100 {
        upstream.pick().unwrap().report(Outcome::failure(Failure::Server));
    }
    let told = watching.told.lock().unwrap();
    for name in ["ejections_total", "ejected_instances", "panicking_views"] {
        let name = format!("service_registry_{name}");
        assert!(told.iter().any(|(told, _)| *told == name), "{name} of {told:?}");
    }
    assert!(told.iter().all(|(_, is_free)| *is_free), "{told:?}");
}
