//! Answers of 10,000 entries, as the servers of today write them.

use std::time::Duration;

use registry_core::Instance;
use registry_http::bench::{consul, eureka, nacos};
use serde_json::{Value, json};

/// Entries of a list.
pub(crate) const ENTRIES: usize = 10_000;
/// The service that is listed.
pub(crate) const SERVICE: &str = "orders";
const TTL: Duration = Duration::from_secs(30);

/// One body, and the same entries as an array and nothing else: what the rulers split.
pub(crate) struct Body {
    pub(crate) text: String,
    pub(crate) array: String,
}

/// Whose entries they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// By another fleet, without any mark of ours.
    ByOthers,
    /// By this crate.
    ByUs,
}

fn instance(number: usize, changed: Option<usize>) -> Instance {
    let version = if changed == Some(number) { "2.4.2" } else { "2.4.1" };
    Instance::builder(SERVICE)
        .id(format!("orders-{number:06}"))
        .endpoint(format!("http://{}:8080", ip(number)))
        .version(version)
        .zone("z1")
        .metadata("team", "core")
        .metadata("rack", format!("r{}", number % 40))
        .build()
        .expect("a valid instance")
}

fn ip(number: usize) -> String {
    format!("10.{}.{}.7", number >> 8, number & 255)
}

fn joined(entries: impl Iterator<Item = Value>) -> String {
    // Compact, as servers write them; keys by name, which is all the same to who reads them.
    let entries: Vec<String> = entries.map(|entry| entry.to_string()).collect();
    format!("[{}]", entries.join(","))
}

/// `/v1/health/service/orders` of Consul 1.16.
pub(crate) fn consul(written: Written, changed: Option<usize>) -> Body {
    let entry = |number: usize| {
        let instance = instance(number, changed);
        let (id, meta) = match written {
            Written::ByUs => consul::registered(&instance),
            Written::ByOthers => {
                let pairs = instance.metadata().iter().chain([
                    ("version", instance.version().unwrap_or_default()),
                    ("zone", instance.zone().unwrap_or_default()),
                ]);
                let meta = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
                (instance.id().to_string(), meta)
            }
        };
        let (ip, node) = (ip(number), format!("node-{number}"));
        let tags = match written {
            Written::ByOthers => json!(["v2", "eu"]),
            Written::ByUs => json!([]),
        };
        let check = |check: &str,
                     name: &str,
                     output: &str,
                     service: (&str, &str, &Value, &str),
                     at: usize| {
            let (id, named, tags, kind) = service;
            json!({
                "Node": node, "CheckID": check, "Name": name, "Status": "passing", "Notes": "", "Output": output,
                "ServiceID": id, "ServiceName": named, "ServiceTags": tags, "Type": kind, "Interval": "",
                "Timeout": "", "ExposedPort": 0, "Definition": {}, "CreateIndex": at, "ModifyIndex": at + 1
            })
        };
        json!({
            "Node": {
                "ID": format!("5bb4cec3-4746-4e76-0d32-{number:012x}"), "Node": node, "Address": ip,
                "Datacenter": "dc1",
                "TaggedAddresses": {"lan": ip, "lan_ipv4": ip, "wan": ip, "wan_ipv4": ip},
                "Meta": {"consul-network-segment": "", "consul-version": "1.16.3"},
                "CreateIndex": 11, "ModifyIndex": 17
            },
            "Service": {
                "ID": id, "Service": SERVICE, "Tags": tags, "Address": ip,
                "TaggedAddresses": {
                    "lan_ipv4": {"Address": ip, "Port": 8080}, "wan_ipv4": {"Address": ip, "Port": 8080}
                },
                "Meta": meta, "Port": 8080, "Weights": {"Passing": 1, "Warning": 1},
                "EnableTagOverride": false, "Proxy": {"Mode": "", "MeshGateway": {}, "Expose": {}},
                "Connect": {}, "PeerName": "", "CreateIndex": 18 + number, "ModifyIndex": 18 + number
            },
            "Checks": [
                check("serfHealth", "Serf Health Status", "Agent alive and reachable", ("", "", &json!([]), ""), 11),
                check(
                    &format!("service:{id}"), "Service 'orders' check", "HTTP GET http://health: 200 OK Output: ok",
                    (&id, SERVICE, &tags, "ttl"), 18 + number,
                ),
            ]
        })
    };
    let array = joined((0..ENTRIES).map(entry));
    Body { text: array.clone(), array }
}

/// `/nacos/v1/ns/instance/list` of Nacos 2.
pub(crate) fn nacos(changed: Option<usize>) -> Body {
    let entry = |number: usize| {
        let instance = instance(number, changed);
        let (weight, metadata) = nacos::registered(&instance, TTL);
        let ip = ip(number);
        json!({
            "instanceId": format!("{ip}#8080#DEFAULT#DEFAULT_GROUP@@orders"), "ip": ip, "port": 8080,
            "weight": weight, "healthy": true, "enabled": true, "ephemeral": true, "clusterName": "DEFAULT",
            "serviceName": "DEFAULT_GROUP@@orders", "metadata": metadata, "instanceHeartBeatInterval": 10_000,
            "instanceHeartBeatTimeOut": 30_000, "ipDeleteTimeout": 60_000, "instanceIdGenerator": "simple"
        })
    };
    let array = joined((0..ENTRIES).map(entry));
    // `lastRefTime` is new in each answer.
    let stamp = 1_780_000_000_000 + changed.map_or(0, |number| number + 1);
    let text = format!(
        r#"{{"name":"DEFAULT_GROUP@@orders","groupName":"DEFAULT_GROUP","clusters":"","cacheMillis":10000,"hosts":{array},"lastRefTime":{stamp},"checksum":"","allIPs":false,"reachProtectionThreshold":false,"valid":true}}"#
    );
    Body { text, array }
}

/// `/eureka/apps` of Spring Cloud Netflix; a delta has the same form.
pub(crate) fn eureka(changed: Option<usize>) -> Body {
    let array = joined((0..ENTRIES).map(|number| eureka_entry(number, changed, "ADDED")));
    Body { text: eureka_list(&array), array }
}

/// A delta of the one entry that changed.
pub(crate) fn eureka_delta(changed: usize, turn: Option<usize>) -> String {
    eureka_list(&format!("[{}]", eureka_entry(changed, turn, "MODIFIED")))
}

fn eureka_list(array: &str) -> String {
    format!(
        r#"{{"applications":{{"versions__delta":"1","apps__hashcode":"UP_{ENTRIES}_","application":[{{"name":"ORDERS","instance":{array}}}]}}}}"#
    )
}

fn eureka_entry(number: usize, changed: Option<usize>, action: &str) -> Value {
    let body = eureka::registered(&instance(number, changed), TTL);
    let mut entry: Value = serde_json::from_slice(&body).expect("JSON");
    let entry = &mut entry["instance"];
    let at = 1_780_000_000_000_u64 + number as u64;
    entry["leaseInfo"] = json!({
        "renewalIntervalInSecs": 10, "durationInSecs": 30, "registrationTimestamp": at,
        "lastRenewalTimestamp": at, "evictionTimestamp": 0, "serviceUpTimestamp": at
    });
    entry["actionType"] = json!(action);
    entry.take()
}
