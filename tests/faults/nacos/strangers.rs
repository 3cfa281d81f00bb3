//! What strangers register at Nacos: records of ours that are none, and instances of theirs.

use registry_testkit::NacosLine;
use serde_json::{Value, json};
use service_registry::Instance;

use super::site::NacosSite;
use crate::live::{
    garbage::{Fate, Piece, Request, Strangers},
    world::SERVICE,
};

impl Strangers for NacosSite {
    fn garbage(&self, namespace: &str) -> Vec<Piece> {
        let pieces = ours().into_iter().chain(theirs(self.0)).enumerate();
        pieces.map(|(number, (what, fields, fate))| piece(namespace, number, what, &fields, fate)).collect()
    }

    fn spoil(&self, namespace: &str, instance: &Instance) -> Request {
        let endpoint = instance.endpoint();
        let metadata = json!({ "sr.id": instance.id().as_str(), "sr.status": "asleep" });
        let fields = json!({
            "ip": endpoint.host(), "port": endpoint.port().to_string(), "metadata": metadata.to_string(),
        });
        put(namespace, &fields)
    }
}

type Fields = (&'static str, Value, Fate);

/// Records with our mark, none of which can be an instance.
fn ours() -> Vec<Fields> {
    let with = |id: &'static str, key: &str, value: &str| {
        (id, json!({ "metadata": json!({ "sr.id": id, key: value }).to_string() }), Fate::Rejected)
    };
    let weightless = |id: &'static str, kept: &str| {
        let metadata = json!({ "sr.id": id, "sr.weight": kept, "sr.status": "draining" });
        (id, json!({ "weight": "0", "metadata": metadata.to_string() }), Fate::Rejected)
    };
    vec![
        with("status", "sr.status", "asleep"),
        with("tags", "sr.tags", "["),
        with("tags-of-numbers", "sr.tags", "[1]"),
        with("mark", "sr.by", "x/y/z"),
        with("half-a-mark", "sr.by", "00000000000000000000000000000001/1"),
        with("mark-below-zero", "sr.by", "00000000000000000000000000000001/-1/1"),
        with("nowhere", "sr.urls", ""),
        with("port-0", "sr.urls", "http://10.0.0.7:0"),
        with("port-70000", "sr.urls", "http://10.0.0.7:70000"),
        with("credentials", "sr.urls", "http://me:c4n4ry@10.0.0.7:80"),
        with("control", "zone", "a\u{7}b"),
        with("long-group", "sr.group", &"g".repeat(300)),
        weightless("heavy", "heavy"),
        weightless("nan", "NaN"),
        weightless("negative", "-1"),
    ]
}

/// Instances without it.
fn theirs(line: NacosLine) -> Vec<Fields> {
    // The newest line turns a weight that is no number into 1; the one before keeps it, and lists it as a text.
    let weight_nan = if line == NacosLine::V2 { Fate::Rejected } else { Fate::Shown };
    let metadata = |pairs: Value| json!({ "metadata": pairs.to_string() });
    let nonsense = json!({
        "kind": ":::", "gRPC_port": "no", "secure": "perhaps", "version": "", "sr.weight": "the mark is missing",
    });
    vec![
        ("no-host", json!({ "ip": "not a host!" }), Fate::Refused),
        ("with-port", json!({ "ip": "10.0.0.7:80" }), Fate::Rejected),
        ("label", json!({ "ip": "-.-" }), Fate::Rejected),
        ("brackets", json!({ "ip": "[10.0.0.7" }), Fate::Shown),
        ("zero", json!({ "port": "0" }), Fate::Nameless),
        ("long-zone", metadata(json!({ "zone": "z".repeat(300) })), Fate::Rejected),
        ("beyond", json!({ "port": "70000" }), Fate::Refused),
        ("minus", json!({ "port": "-1" }), Fate::Refused),
        ("port-text", json!({ "port": "http" }), Fate::Refused),
        ("addressless", json!({ "ip": "" }), Fate::Refused),
        ("weight-nan", json!({ "weight": "NaN" }), weight_nan),
        ("weight-negative", json!({ "weight": "-1" }), Fate::Refused),
        ("weight-text", json!({ "weight": "heavy" }), Fate::Refused),
        ("oversized", metadata(json!({ "a": "x".repeat(2_000) })), Fate::Refused),
        ("no-metadata", json!({ "metadata": "[1" }), Fate::Refused),
        ("nonsense", metadata(nonsense), Fate::Shown),
    ]
}

fn piece(namespace: &str, number: usize, what: &'static str, fields: &Value, fate: Fate) -> Piece {
    // Each at an address of its own, or it would be another's record.
    let mut whole = json!({ "ip": format!("10.0.7.{number}"), "port": "8080" });
    for (field, value) in fields.as_object().into_iter().flatten() {
        whole[field] = value.clone();
    }
    let address = json!({ "ip": whole["ip"], "port": whole["port"] });
    let remove = Request {
        method: "DELETE",
        path: format!("/nacos/v1/ns/instance?{}", form(namespace, &address)),
        body: String::new(),
    };
    Piece { what, put: put(namespace, &whole), remove, fate }
}

fn put(namespace: &str, fields: &Value) -> Request {
    Request { method: "POST", path: "/nacos/v1/ns/instance".to_owned(), body: form(namespace, fields) }
}

fn form(namespace: &str, fields: &Value) -> String {
    let mut form = format!("namespaceId={namespace}&serviceName=DEFAULT_GROUP%40%40{SERVICE}&ephemeral=true");
    for (field, value) in fields.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        form.push_str(&format!("&{field}={}", encoded(value)));
    }
    form
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut whole, byte| {
        match byte.is_ascii_alphanumeric() {
            true => whole.push(char::from(byte)),
            false => whole.push_str(&format!("%{byte:02X}")),
        }
        whole
    })
}
