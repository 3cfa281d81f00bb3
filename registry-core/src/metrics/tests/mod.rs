#![cfg(feature = "metrics")]

mod recorder;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use self::recorder::Recorder;
use super::*;
use crate::{
    Attempt, CallOptions, Client, Clock, Drain, Error, Instance, ManualClock, MemoryRegistry,
    RegisterOptions, Start, memory::Operation,
};

const SECOND: Duration = Duration::from_secs(1);
const CANARY: &str = "hunter2";
const DOC: &str = include_str!("../metrics.md");

const KINDS: [ErrorKind; 8] = [
    ErrorKind::Compacted,
    ErrorKind::Conflict,
    ErrorKind::InvalidArgument,
    ErrorKind::LeaseLost,
    ErrorKind::NoInstance,
    ErrorKind::NotReady,
    ErrorKind::PermissionDenied,
    ErrorKind::Unavailable,
];

/// The cells of each row of the table that begins with this heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let rows = DOC.lines().skip_while(|line| !line.starts_with(&format!("| {heading} |"))).skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn code_words(cell: &str) -> BTreeSet<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_table_of_metrics_is_what_the_code_has() {
    let documented = table("metric");
    assert_eq!(documented.len(), METRICS.len());
    for (row, metric) in documented.iter().zip(METRICS) {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let kind = format!("{:?}", metric.kind).to_lowercase();
        assert_eq!(*row, [format!("`{}`", metric.name), kind, labels, metric.meaning.to_owned()]);
    }
}

#[test]
fn names_follow_the_conventions() {
    for metric in METRICS {
        let is_snake = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(is_snake(metric.name) && metric.labels.iter().all(|label| is_snake(label)), "{metric:?}");
        assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter, "{metric:?}");
        if metric.kind == MetricKind::Histogram {
            assert!(metric.name.ends_with("_seconds"), "{metric:?}");
        }
    }
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
}

#[test]
fn the_table_of_spans_is_what_the_code_has() {
    let mut spans = BTreeMap::new();
    find_spans(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut spans);
    let documented: BTreeMap<_, _> =
        table("span").iter().map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone())).collect();
    assert_eq!(documented, spans);
}

/// Every `level_span!("name"` below a directory.
fn find_spans(directory: &Path, spans: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            find_spans(&path, spans);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("_span!(\"") {
                let level = text[..at].rsplit("::").next().unwrap().to_owned();
                let name = text[at + 8..].split('"').next().unwrap().to_owned();
                spans.insert(name, level);
            }
        }
    }
}

fn orders(id: &str) -> Instance {
    let builder = Instance::builder("orders").id(id).endpoint("http://10.0.0.7:8080");
    builder.metadata("password", CANARY).build().unwrap()
}

/// Most of what can happen, with a secret in every place where one may be.
async fn live_through_everything(recorder: &Recorder) {
    let registry = MemoryRegistry::new();
    let faults = registry.faults();
    let directory = tempfile::tempdir().unwrap();
    let client = Client::builder()
        .backend(registry.backend())
        .clock(Arc::new(ManualClock::new()))
        .disk(directory.path())
        .build()
        .await
        .unwrap();
    let registration = client.register(orders("a")).await.unwrap();
    let upstream = client.discover("orders").await.unwrap();
    upstream.ready(1).await.unwrap();
    assert_eq!(
        recorder.value("registrations", &[("registry", "memory"), ("service", "orders"), ("phase", "live")]),
        1.0
    );
    assert_eq!(recorder.value("view_instances", &[("service", "orders"), ("status", "serving")]), 1.0);
    assert_eq!(recorder.value("views", &[("service", "orders"), ("state", "fresh")]), 1.0);
    sleep(11 * SECOND).await;
    assert_eq!(recorder.value("lease_renewals_total", &[("registry", "memory"), ("result", "ok")]), 2.0);

    // A loss, a recovery, a refusal; a break of the watch with a secret in the error.
    let failure = Error::new(ErrorKind::Unavailable, format!("bad password {CANARY}"));
    faults.on(Operation::Renew).fail_next_with(1, &failure);
    faults.on(Operation::Watch).fail_next_with(1, &failure);
    faults.on(Operation::Lookup).fail_next_with(1, &failure);
    faults.disconnect_watches();
    faults.forget_leases();
    sleep(30 * SECOND).await;
    faults.reject(&orders("b").key());
    let background = RegisterOptions::new().start(Start::Background);
    let refused = client.register_with(orders("b"), background).await.unwrap();
    faults.corrupt(&orders("a").key());
    sleep(1_200 * SECOND).await;

    // Calls of every kind.
    registry.put_foreign_instances();
    upstream.ready(3).await.unwrap();
    let answer = |result: Result<(), Attempt<&'static str>>, takes| {
        move |_: Arc<Instance>| {
            let result = result.clone();
            async move {
                sleep(takes).await;
                result
            }
        }
    };
    let idempotent = CallOptions::new().idempotent(true);
    let _ = upstream.call(answer(Ok(()), SECOND)).await;
    let _ = upstream.call(answer(Err(Attempt::stop(CANARY)), SECOND)).await;
    let _ = upstream.call(answer(Err(Attempt::retry(CANARY)), SECOND)).await;
    let _ = upstream.call_with(&idempotent.clone().timeout(SECOND), answer(Ok(()), 2 * SECOND)).await;
    let mut hung = true;
    let hedging = idempotent.hedge_after(SECOND);
    let hedged = upstream.call_with(&hedging, |instance| {
        let takes = if std::mem::take(&mut hung) { 3_600 * SECOND } else { SECOND };
        answer(Ok(()), takes)(instance)
    });
    let _ = hedged.await;
    for _ in 0..50 {
        let _ = upstream.call(answer(Err(Attempt::retry(CANARY)), Duration::ZERO)).await;
    }
    let nobody = client.discover("nobody").await.unwrap();
    let _ = nobody.call(answer(Ok(()), SECOND)).await;

    let drained = client.drain(Drain::default()).await;
    assert!(drained.is_clean(), "{drained:?}");
    drop((registration, refused, upstream, nobody, client));
    sleep(3_600 * SECOND).await;
}

impl MemoryRegistry {
    fn put_foreign_instances(&self) {
        for id in ["x", "y", "z"] {
            self.faults().put_foreign(orders(id));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_emitted_is_in_the_table_and_the_reverse() {
    let recorder = Recorder::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    live_through_everything(&recorder).await;
    // What takes a bug to happen.
    keeper_restarted("memory");
    recorder.read(|kept| {
        let known: BTreeMap<_, _> = METRICS.iter().map(|metric| (metric.name, metric)).collect();
        for ((name, labels), (kind, _)) in &kept.series {
            let metric = known.get(name.as_str()).unwrap_or_else(|| panic!("{name} isn't in the table"));
            assert_eq!(metric.kind, *kind, "{name}");
            assert_eq!(labels.iter().map(|(label, _)| label).collect::<Vec<_>>(), metric.labels, "{name}");
        }
        let emitted: BTreeSet<_> = kept.series.keys().map(|(name, _)| name.as_str()).collect();
        let absent: Vec<_> = known.keys().filter(|name| !emitted.contains(**name)).collect();
        assert!(absent.is_empty(), "never emitted: {absent:?}");
        assert_eq!(kept.described.iter().map(String::as_str).collect::<BTreeSet<_>>(), emitted);
    });
}

/// A wall clock that panics as often as it is told to: the keeper reads it within each step.
#[derive(Debug)]
struct Trap {
    clock: ManualClock,
    armed: AtomicUsize,
}

impl Clock for Trap {
    fn wall(&self) -> Duration {
        let sprung =
            self.armed.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |armed| armed.checked_sub(1));
        assert!(sprung.is_err(), "the clock broke");
        self.clock.wall()
    }
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_panics_and_goes_on_is_counted_once() {
    let recorder = Recorder::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let clock = Arc::new(Trap { clock: ManualClock::new(), armed: AtomicUsize::new(0) });
    let of_client: Arc<dyn Clock> = Arc::<Trap>::clone(&clock);
    let registry = MemoryRegistry::new();
    let client = Client::builder().backend(registry.backend()).clock(of_client).build().await.unwrap();
    let registration = client.register(orders("a")).await.unwrap();
    let restarts = || recorder.value("keeper_restarts_total", &[("registry", "memory")]);
    let renewals = || recorder.value("lease_renewals_total", &[("registry", "memory"), ("result", "ok")]);
    assert_eq!(restarts(), 0.0);

    clock.armed.store(1, Ordering::SeqCst);
    sleep(20 * SECOND).await;
    assert_eq!((clock.armed.load(Ordering::SeqCst), restarts()), (0, 1.0));
    let before = renewals();
    sleep(20 * SECOND).await;
    assert_eq!(restarts(), 1.0);
    assert!(renewals() > before, "it keeps the lease as before");
    assert_eq!(registration.phase(), Phase::Live);
}

#[tokio::test(start_paused = true)]
async fn labels_have_the_documented_values_and_show_no_secret_address_or_instance() {
    let recorder = Recorder::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    live_through_everything(&recorder).await;
    let documented: BTreeMap<_, _> =
        table("label").into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    recorder.read(|kept| {
        assert!(!kept.series.is_empty());
        for (name, labels) in kept.series.keys() {
            for (label, value) in labels {
                let row = &documented[&format!("`{label}`")];
                let is_listed = match label.as_str() {
                    "service" => ["orders", "nobody"].contains(&value.as_str()),
                    "registry" => value == "memory",
                    // Words of an enum, none of which has a digit.
                    "event" => value.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                    "kind" | "result" => {
                        code_words(row).contains(value.as_str()) || KINDS.map(word).contains(&value.as_str())
                    }
                    _ => code_words(row).contains(value.as_str()),
                };
                assert!(is_listed, "{name}: {label}={value:?} is not documented");
                assert!(!value.contains(CANARY) && !value.contains("10.0.0"), "{name}: {label}={value:?}");
            }
        }
    });
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_leaves_no_share_in_a_gauge() {
    let recorder = Recorder::default();
    let _guard = metrics::set_default_local_recorder(&recorder);
    live_through_everything(&recorder).await;
    recorder.read(|kept| {
        let left = kept.series.iter().filter(|((name, _), (kind, value))| {
            *kind == MetricKind::Gauge && !name.ends_with("_timestamp_seconds") && *value != 0.0
        });
        assert_eq!(left.collect::<Vec<_>>(), []);
    });
}

#[test]
fn shares_in_a_gauge_add_up_and_move() {
    let recorder = Recorder::default();
    metrics::with_local_recorder(&recorder, || {
        let (a, b) = (Level::default(), Level::default());
        let orders: ServiceName = "orders".parse().unwrap();
        let live = [("registry", "memory"), ("service", "orders"), ("phase", "live")];
        let lost = [live[0], live[1], ("phase", "lost")];
        phase(&a, "memory", &orders, Phase::Live);
        phase(&b, "memory", &orders, Phase::Live);
        assert_eq!(recorder.value("registrations", &live), 2.0);
        phase(&a, "memory", &orders, Phase::Lost);
        assert_eq!(
            (recorder.value("registrations", &live), recorder.value("registrations", &lost)),
            (1.0, 1.0)
        );
        phase(&a, "memory", &orders, Phase::Absent);
        drop(b);
        assert_eq!(
            (recorder.value("registrations", &live), recorder.value("registrations", &lost)),
            (0.0, 0.0)
        );
    });
}
