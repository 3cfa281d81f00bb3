//! Row 17: what others write under our prefix.

use std::time::Duration;

use registry_testkit::{
    Etcd,
    faults::{Figure, FleetFactory, History, Policy, Recorders, Violation, s2_hostile_payload},
};

use super::{
    rows,
    truth::Truth,
    world::{BACK_WITHIN, Must, READER, SERVICE, Stage, ensure, instance, judged, path, url},
};

rows! {
    row_17_garbage_beside_good_records_is_counted_and_hurts_nobody = beside_good_ones;
}

const FEW: usize = 10;

/// Records under keys of our own, none of which can be an instance.
fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let with = |id: &str, rest: &str| format!(r#"{{"service":"orders","id":"{id}",{rest}}}"#).into_bytes();
    let endpoints = r#""endpoints":["http://10.0.0.7:8080"]"#;
    vec![
        ("bad-json", b"{\"service\":\"orders\",".to_vec()),
        ("bad-utf8", b"{\"service\":\"orders\",\"id\":\"bad-utf8\xff\xfe\"}".to_vec()),
        ("empty", b"".to_vec()),
        ("null", b"null".to_vec()),
        ("list", b"[[[[[[[[]]]]]]]]".to_vec()),
        ("deep", [vec![b'['; 60_000], vec![b']'; 60_000]].concat()),
        ("types", with("types", r#""endpoints":{"a":1},"weight":[]"#)),
        ("nan", with("nan", &format!(r#"{endpoints},"weight":NaN"#))),
        ("nan-text", with("nan-text", &format!(r#"{endpoints},"weight":"NaN""#))),
        ("negative", with("negative", &format!(r#"{endpoints},"weight":-1"#))),
        ("port-0", with("port-0", r#""endpoints":["http://10.0.0.7:0"]"#)),
        ("port-70000", with("port-70000", r#""endpoints":["http://10.0.0.7:70000"]"#)),
        ("nowhere", with("nowhere", r#""endpoints":[]"#)),
        ("control", with("control", &format!(r#"{endpoints},"zone":"a\u0007b""#))),
        ("huge", with("huge", &format!(r#"{endpoints},"metadata":{{"x":"{}"}}"#, "x".repeat(1_400_000)))),
        ("stolen", with("i00", endpoints)),
    ]
}

/// Keys that are none of ours: deeper, in another spelling, of a service whose name begins like ours.
const FOREIGN: &[&str] = &[
    "/stories/orders/deeper/key",
    "/stories/orders/%zz",
    "/stories/orders/%61",
    "/stories/orders/",
    "/stories/orders",
    "/stories/orders2/other",
    "/storiesorders/x",
];

async fn beside_good_ones(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let url = url(&[etcd.address()]);
    let world = Stage::new(&url, Truth::of(&etcd)).count(FEW).open(fleets, history).await?;
    let good = world.keys();
    let bad = bad();
    for (id, value) in &bad {
        if value.is_empty() {
            etcd.ctl().run(&["put", "--", &path(id), ""]).await.must(id)?;
        } else {
            etcd.ctl().put(&path(id), value).await.must(id)?;
        }
    }
    for key in FOREIGN {
        etcd.ctl().put(key, "{}").await.must(key)?;
    }
    let count = bad.len() as u64;
    let counted = world.judged(BACK_WITHIN, |h| s2_hostile_payload(h, READER, &good, count)).await?;
    // Whoever starts now meets all of it in a list.
    let later = fleets.open("later", &url, history).await.must("opening another")?;
    let reader = later.discover("later", SERVICE).await.must("discovering between garbage")?;
    let mut recorders = Recorders::new(history);
    recorders.views(&reader);
    judged(history, BACK_WITHIN, |h| s2_hostile_payload(h, "later", &good, count)).await?;
    // A good record that somebody spoils keeps its last good version.
    etcd.ctl().put(&path("i03"), "spoilt").await.must("spoiling")?;
    judged(history, BACK_WITHIN, |h| s2_hostile_payload(h, "later", &good, count + 1)).await?;
    let shown = reader.view().records.len();
    ensure(shown == FEW, format!("{shown} instances are shown of {FEW}"))?;
    // Changes still get through.
    world.writer.register(instance("newcomer"), Policy::default()).await.must("registering a newcomer")?;
    world.sees("newcomer").await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    s2_hostile_payload(history, READER, &good, count + 1)?;
    world.never_without()?;
    recorders.stop().await;
    drop(reader);
    later.close().await;
    drop(later);
    world.leave().await?;
    Ok(counted)
}
