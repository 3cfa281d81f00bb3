//! A recorder that keeps everything, for one thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit,
};

use crate::metrics::MetricKind;

/// Name and labels.
pub(super) type Series = (String, Vec<(String, String)>);

#[derive(Clone, Debug, Default)]
pub(super) struct Recorder(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) described: BTreeSet<String>,
    pub(super) series: BTreeMap<Series, (MetricKind, f64)>,
}

struct Handle(Recorder, Series);

impl Recorder {
    pub(super) fn read<R>(&self, f: impl FnOnce(&mut Kept) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }

    /// The value of one series; of a histogram, how many were recorded.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let name = format!("service_registry_{name}");
        self.read(|kept| kept.series.get(&(name, labels)).map_or(0.0, |(_, value)| *value))
    }

    fn handle(&self, key: &Key, kind: MetricKind) -> Arc<Handle> {
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        let series = (key.name().to_owned(), labels.collect());
        self.read(|kept| kept.series.entry(series.clone()).or_insert((kind, 0.0)).0 = kind);
        Arc::new(Handle(self.clone(), series))
    }

    fn describe(&self, name: &KeyName) {
        self.read(|kept| kept.described.insert(name.as_str().to_owned()));
    }
}

impl Handle {
    fn change(&self, change: impl FnOnce(&mut f64)) {
        self.0.read(|kept| change(&mut kept.series.get_mut(&self.1).unwrap().1));
    }
}

impl CounterFn for Handle {
    fn increment(&self, by: u64) {
        self.change(|value| *value += by as f64);
    }

    fn absolute(&self, to: u64) {
        self.change(|value| *value = to as f64);
    }
}

impl GaugeFn for Handle {
    fn increment(&self, by: f64) {
        self.change(|value| *value += by);
    }

    fn decrement(&self, by: f64) {
        self.change(|value| *value -= by);
    }

    fn set(&self, to: f64) {
        self.change(|value| *value = to);
    }
}

impl HistogramFn for Handle {
    fn record(&self, _: f64) {
        self.change(|value| *value += 1.0);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.handle(key, MetricKind::Counter))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.handle(key, MetricKind::Gauge))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.handle(key, MetricKind::Histogram))
    }
}
