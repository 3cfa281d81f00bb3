//! Row 17: records that nobody should have written.

use std::{sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*};
use registry_core::{
    Diff, ErrorKind, Instance, InstanceKey, MemoryRegistry, Status, ViewEvent,
    backend::{Change, Cursor, Event, Evidence, SourceId},
    model::{decode_record, encode_record},
};
use registry_testkit::faults::{
    d1_never_wiped, d2_convergence, d4_event_algebra, d7_hot_path, s2_hostile_payload,
};
use tokio::time::{Instant, sleep};

use super::{
    scripted::Stage,
    support::{client_over, figure, instance, millis, secs},
    world::{READER, World},
};

/// The largest record that is read, in bytes.
const MAX_RECORD: usize = 64 * 1024;
/// The most instances of one view.
const MAX_INSTANCES: usize = 50_000;

fn with(field: &str) -> Vec<u8> {
    format!(r#"{{"service":"orders","id":"a","endpoints":["http://10.0.0.7:80"],{field}}}"#).into_bytes()
}

fn at(endpoint: &str) -> Vec<u8> {
    format!(r#"{{"service":"orders","id":"a","endpoints":["{endpoint}"]}}"#).into_bytes()
}

/// Everything here has to be refused with a typed error.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let huge = format!(r#""zone":"{}""#, "x".repeat(10 * 1024 * 1024));
    let deep = format!(r#""weight":{}1{}"#, "[".repeat(20_000), "]".repeat(20_000));
    vec![
        ("nothing", Vec::new()),
        ("bad JSON", b"{\"service\":".to_vec()),
        ("two values", b"{}{}".to_vec()),
        ("a list", b"[1,2,3]".to_vec()),
        ("protobuf", vec![0x0a, 0x06, b'o', b'r', b'd', b'e', b'r', b's', 0x12, 0x01, b'a']),
        ("bad UTF-8", b"{\"service\":\"\xff\xfe\"}".to_vec()),
        ("a byte order mark", [b"\xef\xbb\xbf".as_slice(), &at("h:1")].concat()),
        ("UTF-16", at("h:1").iter().flat_map(|byte| [*byte, 0]).collect()),
        ("NaN weight", with(r#""weight":NaN"#)),
        ("NaN weight as text", with(r#""weight":"NaN""#)),
        ("infinite weight", with(r#""weight":"inf""#)),
        ("a weight beyond every number", with(r#""weight":1e999"#)),
        ("a weight below zero", with(r#""weight":-1"#)),
        ("a weight that is a list", with(&deep)),
        ("port 0", at("http://10.0.0.7:0")),
        ("port 70000", at("http://10.0.0.7:70000")),
        ("port -1", at("http://10.0.0.7:-1")),
        ("no port", at("http://10.0.0.7:")),
        ("credentials in an endpoint", at("http://me:c4n4ry@10.0.0.7:80")),
        ("a path", at("http://10.0.0.7:80/../../etc")),
        ("an id that is a number", br#"{"service":"orders","id":7,"endpoints":["h:1"]}"#.to_vec()),
        ("no endpoint", br#"{"service":"orders","id":"a","endpoints":[]}"#.to_vec()),
        ("endpoints that are text", br#"{"service":"orders","id":"a","endpoints":"h:1"}"#.to_vec()),
        ("an unknown status", with(r#""status":"UP""#)),
        ("a status that is a number", with(r#""status":1"#)),
        ("metadata that is a list", with(r#""metadata":[]"#)),
        ("metadata of objects", with(r#""metadata":{"k":{}}"#)),
        ("tags that are numbers", with(r#""tags":[1]"#)),
        ("a duplicate key", with(r#""zone":"a","zone":"b""#)),
        ("a duplicate service", br#"{"service":"a","service":"b","id":"a","endpoints":["h:1"]}"#.to_vec()),
        ("a control character", br#"{"service":"or\u0000ders","id":"a","endpoints":["h:1"]}"#.to_vec()),
        ("a deceptive name", br#"{"service":"or\u202eders","id":"a","endpoints":["h:1"]}"#.to_vec()),
        ("an epoch below zero", with(r#""epoch":-1"#)),
        ("an epoch beyond 64 bits", with(r#""epoch":99999999999999999999"#)),
        ("10 MB", with(&huge)),
        ("10 MB of spaces", vec![b' '; 10 * 1024 * 1024]),
    ]
}

#[test]
fn row_17_every_record_of_the_corpus_is_refused_with_a_typed_error_that_repeats_no_secret() {
    let corpus = corpus();
    for (what, bytes) in &corpus {
        let error = decode_record(bytes).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {error:#}");
        let shown = format!("{error:#} {error:?}");
        assert!(shown.len() < 1_024, "{what}: an error of {} bytes", shown.len());
        assert!(!shown.contains("c4n4ry"), "{what}: {shown}");
    }
    figure(17, "records of the corpus refused", corpus.len());
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<f64>().prop_map(|f| format!("{f}")),
        any::<i64>().prop_map(|i| i.to_string()),
        "[a-z0-9:/.@\\\\u-]{0,24}".prop_map(|text| format!("\"{text}\"")),
        Just("NaN".to_owned()),
        Just("\"http://10.0.0.7:70000\"".to_owned()),
        Just("\"10.0.0.7:80\"".to_owned()),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            vec(("[a-z]{1,4}", inner), 0..4).prop_map(|pairs| {
                let pairs: Vec<_> =
                    pairs.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", pairs.join(","))
            }),
        ]
    })
}

/// Objects with the fields of a record, each of any type, in any order, also twice.
fn record_like() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec![
        "service",
        "id",
        "endpoints",
        "version",
        "weight",
        "zone",
        "group",
        "tags",
        "metadata",
        "status",
        "incarnation",
        "epoch",
        "sequence",
        "future",
    ]);
    vec((field, json()), 0..16).prop_map(|fields| {
        let fields: Vec<_> = fields.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

/// Whatever is decoded stays within the model and reads back as it was.
fn judge(bytes: &[u8]) -> Result<(), TestCaseError> {
    match decode_record(bytes) {
        Ok(instance) => {
            prop_assert!(instance.endpoints().iter().all(|endpoint| endpoint.port() > 0));
            prop_assert!(instance.weight().get() <= 1_000_000);
            let again = encode_record(&instance, None).unwrap();
            prop_assert!(again.len() <= MAX_RECORD);
            prop_assert!(decode_record(&again).unwrap().is_same_record(&instance));
        }
        Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Protocol),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, rng_seed: prop::test_runner::RngSeed::Fixed(17), ..ProptestConfig::default() })]

    #[test]
    fn row_17_no_bytes_panic_the_decoder(bytes in vec(any::<u8>(), 0..1_024)) {
        judge(&bytes)?;
    }

    #[test]
    fn row_17_no_object_with_the_fields_of_a_record_leaves_the_model(text in record_like()) {
        judge(text.as_bytes())?;
    }

    #[test]
    fn row_17_no_damage_to_a_good_record_leaves_the_model(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let good = instance("orders", "a").to_builder().metadata("team", "core").zone("z1").build().unwrap();
        let mut bytes = encode_record(&good, None).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        judge(&bytes)?;
    }
}

#[tokio::test(start_paused = true)]
async fn row_17_records_that_turn_to_garbage_keep_their_last_good_version_and_are_counted_once() {
    let mut world = World::start(17, 10).await;
    // Another owner's, so that nobody mends them.
    let other = client_over(world.registry.backend()).await;
    let mut bad = Vec::new();
    for n in 0..4 {
        bad.push(other.register(instance("orders", &format!("bad{n}"))).await.unwrap());
    }
    world.pass(secs(2)).await;
    for registration in &bad {
        world.registry.faults().corrupt(&registration.key());
    }
    // Never seen before: skipped.
    let never = instance("orders", "never").key();
    world.registry.faults().corrupt(&never);
    world.mark("garbage");
    world.pass(secs(2)).await;
    let bad_keys: Vec<InstanceKey> = bad.iter().map(registry_core::Registration::key).collect();
    let shown = world.upstream.snapshot();
    assert!(bad_keys.iter().all(|key| shown.get(&key.id).is_some()), "N2: the last good version is kept");
    assert!(shown.get(&never.id).is_none());
    // The list repeats them; they count once.
    world.registry.faults().push_full(&World::target());
    world.registry.faults().disconnect_watches();
    world.pass(secs(20)).await;
    assert_eq!(world.upstream.freshness().rejected, 5);
    let good: Vec<_> = world.keys.iter().chain(&bad_keys).cloned().collect();
    let history = &world.history;
    let verdict = s2_hostile_payload(history, READER, &good, 5).and_then(|figure| {
        d1_never_wiped(history, READER)?;
        d4_event_algebra(history, READER)?;
        d7_hot_path(history, READER, Duration::ZERO)?;
        Ok(figure)
    });
    verdict.as_ref().unwrap_or_else(|violation| panic!("{violation}"));
    // What is mended counts again; what is removed is gone.
    world.registry.faults().delete(&never);
    for key in &bad_keys {
        world.registry.faults().delete(key);
    }
    drop(bad);
    other.close().await;
    world.usable("cleaned up");
    world.pass(secs(40)).await;
    let cleaned = d2_convergence(&world.history, READER, secs(31));
    world.settle(&verdict.and_then(|figure| cleaned.map(|_| figure)));
}

#[tokio::test(start_paused = true)]
async fn row_17_a_list_that_is_all_garbage_empties_nobody() {
    let mut world = World::start(17, 6).await;
    world.pass(secs(2)).await;
    for key in world.keys.clone() {
        world.registry.faults().corrupt(&key);
    }
    world.mark("all of it is garbage");
    world.registry.faults().compact();
    world.registry.faults().disconnect_watches();
    world.pass(secs(1)).await;
    assert_eq!(world.upstream.snapshot().len(), 6);
    let mut kept = world.history.now();
    // The owner finds its records foreign; what it then does is row 36.
    world.pass(secs(3)).await;
    kept = world.history.now() - kept;
    let verdict = d1_never_wiped(&world.history, READER).map(|figure| figure.and("all garbage for", kept));
    world.settle(&verdict);
}

#[tokio::test(start_paused = true)]
async fn row_17_a_service_with_more_instances_than_a_view_takes_is_cut_and_counted() {
    const SENT: usize = 60_000;
    let stage = Stage::new();
    let session = stage.session();
    let client = client_over(stage.backend()).await;
    let template = instance("orders", "a");
    let many: Vec<Arc<Instance>> =
        (0..SENT).map(|n| Arc::new(template.to_builder().id(format!("i{n:06}")).build().unwrap())).collect();
    let event = |changes, revision: u64| {
        let evidence = Evidence::at(SourceId::new("one"), revision);
        Event::new(changes, Some(Cursor::new(revision.to_string())), evidence)
    };
    session.try_send(Ok(event(vec![Change::Reset(many)], 1))).unwrap();
    let upstream = client.discover_lazy("orders").unwrap();
    let mut told = upstream.events();
    upstream.ready(MAX_INSTANCES).await.unwrap();
    assert_eq!(upstream.snapshot().len(), MAX_INSTANCES);
    assert_eq!(upstream.freshness().rejected, (SENT - MAX_INSTANCES) as u64);
    let event_of = told.next().await;
    assert!(matches!(event_of, Some(ViewEvent::Rejected { .. } | ViewEvent::Fresh)), "{event_of:?}");
    assert!(upstream.pick().is_ok());
    figure(17, "60,000 instances sent: in the view", upstream.snapshot().len());
}

#[tokio::test(start_paused = true)]
async fn row_17_duplicate_keys_in_one_list_are_one_instance() {
    let stage = Stage::new();
    let session = stage.session();
    let client = client_over(stage.backend()).await;
    let (first, second) =
        (instance("orders", "a"), instance("orders", "a").to_builder().weight(7).build().unwrap());
    let draining = instance("orders", "b").to_builder().status(Status::Draining).build().unwrap();
    let list = [first, second, instance("orders", "b"), draining].map(Arc::new).to_vec();
    let event = Event::new(vec![Change::Reset(list)], None, Evidence::at(SourceId::new("one"), 1));
    session.try_send(Ok(event)).unwrap();
    let upstream = client.discover("orders").await.unwrap();
    let mut changes = upstream.changes();
    let update = changes.next().await.unwrap();
    assert_eq!(update.diff.added.len(), 2, "D4: no key twice");
    assert_eq!(update.snapshot.len(), 2);
    assert!(Diff::between(&update.snapshot, &upstream.snapshot()).is_empty());
    let begun = Instant::now();
    sleep(millis(1)).await;
    assert!(begun.elapsed() <= secs(1));
    figure(17, "duplicate keys in one list: instances", upstream.snapshot().len());
}

#[tokio::test(start_paused = true)]
async fn row_17_a_record_larger_than_the_registry_takes_is_refused_before_anything_is_sent() {
    let registry = MemoryRegistry::new();
    let client = client_over(registry.backend()).await;
    let mut large = instance("orders", "a").to_builder();
    for n in 0..20 {
        large = large.metadata(format!("k{n}"), "v".repeat(4_096));
    }
    let error = client.register(large.build().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:#}");
    assert_eq!(registry.call_log().len(), 0);
}
