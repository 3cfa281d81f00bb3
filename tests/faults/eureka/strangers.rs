//! What strangers register at Eureka: records of ours that are none, and instances of theirs.

use serde_json::{Value, json};
use service_registry::Instance;

use super::site::EurekaSite;
use crate::live::{
    garbage::{Fate, Piece, Request, Strangers, records},
    world::SERVICE,
};

/// An instance without a beat ends by itself then; long enough for the row.
const LEASE: u32 = 60;

impl Strangers for EurekaSite {
    /// A record without our mark is of the default one.
    fn namespace(&self, _fresh: String) -> String {
        "services".to_owned()
    }

    fn garbage(&self, _namespace: &str) -> Vec<Piece> {
        let ours = records().into_iter().map(|(what, record)| {
            let metadata = json!({ "sdk-record": record });
            // A mark without a text is none, and the record a stranger's.
            let fate = if record.is_empty() { Fate::Shown } else { Fate::Rejected };
            piece(what, &format!("{SERVICE}:{what}"), &json!({ "metadata": metadata }), fate)
        });
        let huge = format!(r#"{{"service":"orders","id":"huge","zone":"{}"}}"#, "x".repeat(200_000));
        let huge = json!({ "metadata": { "sdk-record": huge } });
        let theirs = theirs().into_iter().map(|(what, fields, fate)| piece(what, what, &fields, fate));
        ours.chain([piece("huge", &format!("{SERVICE}:huge"), &huge, Fate::Rejected)]).chain(theirs).collect()
    }

    fn spoil(&self, _namespace: &str, instance: &Instance) -> Request {
        // Later than anything that its owner has said.
        let fields = json!({ "metadata": { "sdk-record": "spoilt" }, "lastDirtyTimestamp": "9999999999999" });
        put(&format!("{SERVICE}:{}", instance.id()), &fields)
    }
}

/// Instances without a record of ours.
fn theirs() -> Vec<(&'static str, Value, Fate)> {
    let port = |number: Value, enabled: &str| json!({ "port": { "$": number, "@enabled": enabled } });
    let metadata = |pairs: Value| json!({ "metadata": pairs });
    let nonsense = json!({
        "weight": "heavy", "gRPC_port": "no", "version": "", "zone": "z".repeat(300), "sdk-namespace": "",
    });
    vec![
        ("zero", port(json!(0), "true"), Fate::Rejected),
        ("beyond", port(json!(70_000), "true"), Fate::Rejected),
        ("minus", port(json!(-1), "true"), Fate::Rejected),
        ("closed", port(json!(8080), "false"), Fate::Rejected),
        ("no-host", json!({ "hostName": "not a host!", "ipAddr": "nor an address" }), Fate::Rejected),
        ("port-text", port(json!("http"), "true"), Fate::Rejected),
        ("port-bare", json!({ "port": 8080 }), Fate::Refused),
        ("hostless", json!({ "hostName": null }), Fate::Refused),
        ("homeless", json!({ "dataCenterInfo": null }), Fate::Refused),
        ("of-another", json!({ "app": "PAYMENTS" }), Fate::Refused),
        ("metadata-list", metadata(json!(["a"])), Fate::Shown),
        ("asleep", json!({ "status": "ASLEEP" }), Fate::Shown),
        ("nonsense", metadata(nonsense), Fate::Shown),
        ("keys", metadata(json!({ "<a b>": "&c;", "": "empty" })), Fate::Shown),
        ("long", metadata(json!({ "long": "x".repeat(200_000) })), Fate::Shown),
    ]
}

fn piece(what: &'static str, id: &str, fields: &Value, fate: Fate) -> Piece {
    let app = SERVICE.to_ascii_uppercase();
    let remove = Request { method: "DELETE", path: format!("/eureka/apps/{app}/{id}"), body: String::new() };
    Piece { what, put: put(id, fields), remove, fate }
}

fn put(id: &str, fields: &Value) -> Request {
    let app = SERVICE.to_ascii_uppercase();
    let mut instance = json!({
        "instanceId": id,
        "hostName": "10.0.0.7",
        "app": app,
        "ipAddr": "10.0.0.7",
        "vipAddress": SERVICE,
        "status": "UP",
        "port": { "$": 8080, "@enabled": "true" },
        "dataCenterInfo": {
            "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo",
            "name": "MyOwn",
        },
        "leaseInfo": { "durationInSecs": LEASE },
    });
    for (field, value) in fields.as_object().into_iter().flatten() {
        instance[field] = value.clone();
    }
    let body = json!({ "instance": instance }).to_string();
    Request { method: "POST", path: format!("/eureka/apps/{app}"), body }
}
