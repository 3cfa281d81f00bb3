//! What strangers register at an agent: records of ours that are none, and services of theirs.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use service_registry::Instance;

use super::site::ConsulSite;
use crate::live::{
    garbage::{Fate, Piece, Request, Strangers, records},
    world::SERVICE,
};

/// Longest value of `Meta`.
const CHUNK: usize = 512;

impl Strangers for ConsulSite {
    fn garbage(&self, namespace: &str) -> Vec<Piece> {
        let ours = records().into_iter().map(|(id, record)| {
            let body = json!({ "Address": "10.0.0.7", "Port": 8080, "Meta": meta(&record) });
            piece(namespace, id, &own_id(namespace, id), body, Fate::Rejected)
        });
        let theirs = theirs().into_iter().map(|(what, body, fate)| piece(namespace, what, what, body, fate));
        ours.chain(theirs).collect()
    }

    fn spoil(&self, namespace: &str, instance: &Instance) -> Request {
        let body = json!({ "Address": "10.0.0.7", "Port": -1, "Meta": meta("spoilt") });
        put(namespace, &own_id(namespace, instance.id().as_str()), body)
    }
}

/// Services without a record of ours.
fn theirs() -> Vec<(&'static str, Value, Fate)> {
    let at = |port: Value| json!({ "Address": "10.0.0.7", "Port": port });
    let with = |field: &str, value: Value| {
        let mut body = at(json!(8080));
        body[field] = value;
        body
    };
    let many: BTreeMap<_, _> = (0..65).map(|number| (format!("k{number}"), "v")).collect();
    let nonsense = json!({
        "weight": "NaN", "gRPC_port": "no", "secure": "perhaps", "version": "", "zone": "z".repeat(CHUNK),
        "service-registry-2": "the second of nothing",
    });
    vec![
        ("no-port", json!({ "Address": "10.0.0.7" }), Fate::Rejected),
        ("zero", at(json!(0)), Fate::Rejected),
        ("beyond", at(json!(70_000)), Fate::Rejected),
        ("minus", at(json!(-1)), Fate::Rejected),
        ("no-host", json!({ "Address": "not a host!", "Port": 80 }), Fate::Rejected),
        ("a-url", json!({ "Address": "http://10.0.0.7:80/../etc", "Port": 80 }), Fate::Rejected),
        ("port-text", at(json!("http")), Fate::Refused),
        ("port-list", at(json!([80])), Fate::Refused),
        ("everywhere", json!({ "Address": "0.0.0.0", "Port": 80 }), Fate::Refused),
        ("meta-key", with("Meta", json!({ "a b": "c" })), Fate::Refused),
        ("meta-long", with("Meta", json!({ "a": "x".repeat(CHUNK + 1) })), Fate::Refused),
        ("meta-many", with("Meta", json!(many)), Fate::Refused),
        ("meta-list", with("Meta", json!(["a"])), Fate::Refused),
        ("weightless", with("Weights", json!({ "Passing": -1, "Warning": 1 })), Fate::Refused),
        ("nonsense", with("Meta", nonsense), Fate::Shown),
        ("tags", with("Tags", json!(["", "version=", "x".repeat(1_000), "gRPC.port=no"])), Fate::Shown),
        (
            "tagged",
            with("TaggedAddresses", json!({ "grpc": { "Address": "grpc://:::0", "Port": 7 } })),
            Fate::Shown,
        ),
    ]
}

/// A record in chunks, as ours are.
fn meta(record: &str) -> Value {
    let mut meta = json!({ "service-registry": "" });
    for (number, chunk) in record.as_bytes().chunks(CHUNK).enumerate().take(60) {
        let key = if number == 0 {
            "service-registry".to_owned()
        } else {
            format!("service-registry-{}", number + 1)
        };
        meta[key] = String::from_utf8_lossy(chunk).into();
    }
    meta
}

/// `namespace%2fservice:id`
fn own_id(namespace: &str, id: &str) -> String {
    format!("{namespace}%2f{SERVICE}:{id}")
}

fn piece(namespace: &str, what: &'static str, id: &str, body: Value, fate: Fate) -> Piece {
    let path = format!("/v1/agent/service/deregister/{}", id.replace('%', "%25").replace(':', "%3A"));
    let remove = Request { method: "PUT", path, body: String::new() };
    Piece { what, put: put(namespace, id, body), remove, fate }
}

fn put(namespace: &str, id: &str, mut body: Value) -> Request {
    body["ID"] = id.into();
    body["Name"] = format!("{namespace}/{SERVICE}").into();
    Request { method: "PUT", path: "/v1/agent/service/register".to_owned(), body: body.to_string() }
}
