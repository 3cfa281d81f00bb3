//! The only place that talks to the `metrics` facade. Without the feature, nothing is left of it.
//!
//! A handle is asked for at each use, not kept: a recorder that is installed late still gets everything from then on.

use std::time::Duration;

use super::Metric;
use crate::model::ServiceName;

/// The value of a label. There is no variant for text of any other origin, so nothing unbounded or secret gets in.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "read by the facade only"))]
pub(super) enum Value<'a> {
    Word(&'static str),
    Service(&'a ServiceName),
}

/// Label names with their values, in the order of the table.
pub(super) type Labels<'a> = [(&'static str, Value<'a>)];

#[cfg(feature = "metrics")]
pub(super) fn to_labels(labels: &Labels<'_>) -> Vec<metrics::Label> {
    let value = |value: Value<'_>| match value {
        Value::Word(word) => metrics::SharedString::const_str(word),
        Value::Service(service) => metrics::SharedString::from_shared(service.to_shared()),
    };
    labels.iter().map(|(name, of)| metrics::Label::new(*name, value(*of))).collect()
}

/// Counts up.
pub(super) fn count(metric: &'static Metric, labels: &Labels<'_>, by: u64) {
    #[cfg(feature = "metrics")]
    metrics::counter!(metric.name, to_labels(labels)).increment(by);
    #[cfg(not(feature = "metrics"))]
    let _ = (metric, labels, by);
}

/// Sets a gauge that has one writer.
pub(super) fn set(metric: &'static Metric, labels: &Labels<'_>, value: f64) {
    #[cfg(feature = "metrics")]
    metrics::gauge!(metric.name, to_labels(labels)).set(value);
    #[cfg(not(feature = "metrics"))]
    let _ = (metric, labels, value);
}

/// Puts a time into a histogram, in seconds.
pub(super) fn observe(metric: &'static Metric, labels: &Labels<'_>, took: Duration) {
    #[cfg(feature = "metrics")]
    metrics::histogram!(metric.name, to_labels(labels)).record(took);
    #[cfg(not(feature = "metrics"))]
    let _ = (metric, labels, took);
}

/// Tells the recorder units and meanings.
pub(crate) fn describe() {
    #[cfg(feature = "metrics")]
    for metric in super::METRICS {
        use super::MetricKind;
        let unit =
            if metric.name.ends_with("_seconds") { metrics::Unit::Seconds } else { metrics::Unit::Count };
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, unit, metric.meaning),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, unit, metric.meaning),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, unit, metric.meaning),
        }
    }
}
