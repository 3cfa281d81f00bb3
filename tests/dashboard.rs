//! The dashboard and the table of metrics know each other.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use service_registry::metrics::{METRICS, MetricKind};

fn dashboard() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/grafana.json");
    let text = fs::read_to_string(path).expect("the dashboard is there");
    serde_json::from_str(&text).expect("the dashboard is JSON")
}

/// Every query, of panels and variables.
fn queries(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "expr" || name == "query" => found.push(text.clone()),
                    field => queries(field, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, found)),
        _ => {}
    }
}

/// Names of ours in a query, without what Prometheus adds to histograms.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("service_registry_"));
    let base = |word: &str| {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        histogram.unwrap_or(word).to_owned()
    };
    ours.map(base).collect()
}

#[test]
fn the_dashboard_queries_every_metric_and_no_other() {
    let mut found = Vec::new();
    queries(&dashboard(), &mut found);
    let queried: BTreeSet<_> = found.iter().flat_map(|query| metrics_in(query)).collect();
    assert_eq!(queried, METRICS.iter().map(|metric| metric.name.to_owned()).collect());
}

#[test]
fn queries_use_labels_that_the_metric_has_and_histograms_as_such() {
    let mut found = Vec::new();
    queries(&dashboard(), &mut found);
    for query in found.iter().filter(|query| query.contains("service_registry_")) {
        for metric in METRICS.iter().filter(|metric| metrics_in(query).contains(metric.name)) {
            if query.contains("service=~") {
                assert!(metric.labels.contains(&"service"), "{query}");
            }
            let is_histogram = query.contains(&format!("{}_", metric.name));
            assert_eq!(is_histogram, metric.kind == MetricKind::Histogram, "{query}");
            let counts = query.contains("rate(") || query.contains("increase(");
            assert_eq!(counts, metric.kind != MetricKind::Gauge, "{query}");
        }
    }
}

#[test]
fn panels_take_their_data_from_the_source_that_is_chosen() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(!panel["description"].as_str().unwrap().is_empty(), "{panel}");
        }
    }
    let variables: Vec<_> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert_eq!(variables, ["datasource", "service"]);
}
