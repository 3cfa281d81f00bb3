//! Row 17: what strangers write into the registry beside good records.

use std::time::Duration;

use registry_testkit::{
    HttpApi, ServerError,
    faults::{Figure, FleetFactory, History, Policy, Recorders, Violation, s2_hostile_payload},
};
use service_registry::Instance;

use super::{
    Place, Site,
    site::COUNT,
    world::{BACK_WITHIN, Must, READER, SERVICE, ensure, instance, judged},
};

/// A call as the server's own API has it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// What is to become of a record that a stranger writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server itself doesn't take it.
    Refused,
    /// The server takes it, and no reader shows it.
    Rejected,
    /// The same of one that can't be counted, as it has nothing to be called by.
    Nameless,
    /// Strange, but it can be called.
    Shown,
}

/// A record of a stranger.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) what: &'static str,
    pub(crate) put: Request,
    pub(crate) remove: Request,
    pub(crate) fate: Fate,
}

/// How strangers write into a registry.
pub(crate) trait Strangers: Site {
    /// Where their records are read: any namespace, unless the registry has none of its own.
    fn namespace(&self, fresh: String) -> String {
        fresh
    }

    /// Their records of [`SERVICE`].
    fn garbage(&self, namespace: &str) -> Vec<Piece>;

    /// Overwrites a good record with one that can't be read.
    fn spoil(&self, namespace: &str, instance: &Instance) -> Request;
}

/// Records under keys of our own, none of which can be an instance.
pub(crate) fn records() -> Vec<(&'static str, String)> {
    let with = |id: &str, rest: &str| format!(r#"{{"service":"{SERVICE}","id":"{id}",{rest}}}"#);
    let at = |id: &str, endpoint: &str| with(id, &format!(r#""endpoints":["{endpoint}"]"#));
    let good = r#""endpoints":["http://10.0.0.7:8080"]"#;
    vec![
        ("bad-json", r#"{"service":"orders","#.to_owned()),
        ("nothing", String::new()),
        ("null", "null".to_owned()),
        ("list", "[[[[[[[[]]]]]]]]".to_owned()),
        ("deep", ["[".repeat(10_000), "]".repeat(10_000)].concat()),
        ("types", with("types", r#""endpoints":{"a":1},"weight":[]"#)),
        ("nan", with("nan", &format!(r#"{good},"weight":NaN"#))),
        ("nan-text", with("nan-text", &format!(r#"{good},"weight":"NaN""#))),
        ("negative", with("negative", &format!(r#"{good},"weight":-1"#))),
        ("unknown-status", with("unknown-status", &format!(r#"{good},"status":"asleep""#))),
        ("epoch", with("epoch", &format!(r#"{good},"epoch":-1"#))),
        ("port-0", at("port-0", "http://10.0.0.7:0")),
        ("port-70000", at("port-70000", "http://10.0.0.7:70000")),
        ("credentials", at("credentials", "http://me:c4n4ry@10.0.0.7:80")),
        ("nowhere", with("nowhere", r#""endpoints":[]"#)),
        ("control", with("control", &format!(r#"{good},"zone":"a\u0007b""#))),
        ("stolen", with("i00", good)),
    ]
}

pub(crate) async fn beside_good_ones(
    site: &dyn Strangers,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let mut place = Place::shared(site).await?;
    place.namespace = site.namespace(place.namespace);
    let garbage = site.garbage(&place.namespace);
    let told = tell(site, &place, &garbage, fleets, history).await;
    // Others use this server too, and this row may be told again.
    let api = HttpApi::new(place.address());
    for piece in garbage.iter().filter(|piece| piece.fate != Fate::Refused) {
        drop(call(&api, &piece.remove).await);
    }
    told
}

async fn tell(
    site: &dyn Strangers,
    place: &Place<'_>,
    garbage: &[Piece],
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let world = place.stage().open(fleets, history).await?;
    let good = world.keys();
    let api = HttpApi::new(place.address());
    let mut strange = Vec::new();
    for piece in garbage {
        let taken = call(&api, &piece.put).await.must(piece.what)?;
        if taken == (piece.fate == Fate::Refused) {
            strange.push(format!("{} was {}taken", piece.what, if taken { "" } else { "not " }));
        }
    }
    ensure(strange.is_empty(), strange.join(", "))?;
    let of = |fate| garbage.iter().filter(|piece| piece.fate == fate).count();
    let (rejected, shown) = (of(Fate::Rejected) as u64, of(Fate::Shown));
    let counted = world.judged(BACK_WITHIN, |h| s2_hostile_payload(h, READER, &good, rejected)).await?;
    // Whoever starts now meets all of it in its first list.
    let later = fleets.open("later", &place.url(), history).await.must("opening another")?;
    let reader = later.discover("later", SERVICE).await.must("discovering between garbage")?;
    let mut recorders = Recorders::new(history);
    recorders.views(&reader);
    judged(history, BACK_WITHIN, |h| s2_hostile_payload(h, "later", &good, rejected)).await?;
    // A good record that somebody spoils keeps its last good version.
    let spoilt = call(&api, &site.spoil(&place.namespace, &instance("i03"))).await.must("spoiling")?;
    ensure(spoilt, "the server refused what spoils a record")?;
    for of in [READER, "later"] {
        judged(history, BACK_WITHIN, |h| s2_hostile_payload(h, of, &good, rejected + 1)).await?;
    }
    // Changes still get through.
    world.writer.register(instance("newcomer"), Policy::default()).await.must("registering a newcomer")?;
    world.sees("newcomer").await?;
    // Longer than a look takes, for whoever would count it again with each.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for of in [READER, "later"] {
        s2_hostile_payload(history, of, &good, rejected + 1)?;
    }
    for view in [world.reader.view(), reader.view()] {
        let (has, expected) = (view.records.len(), COUNT + 1 + shown);
        ensure(
            has == expected,
            format!("{has} instances are shown of {expected}: {:?}", view.records.keys()),
        )?;
        ensure(
            view.rejected == rejected + 1,
            format!("{} were rejected of {}", view.rejected, rejected + 1),
        )?;
    }
    world.never_without()?;
    recorders.stop().await;
    drop(reader);
    later.close().await;
    drop(later);
    world.leave().await?;
    Ok(counted.and("refused by the server", of(Fate::Refused)).and("strange but shown", shown))
}

/// Whether the server took it.
async fn call(api: &HttpApi, request: &Request) -> Result<bool, ServerError> {
    Ok(api.call(request.method, &request.path, request.body.clone()).await?.is_success())
}
