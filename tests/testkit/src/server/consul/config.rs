//! The configuration file a Consul is started with.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::agent::Consul;
use super::options::ConsulBuilder;
use crate::certs::{TestCa, TestCert};

/// Where one agent listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) lan: SocketAddr,
    pub(crate) wan: SocketAddr,
    pub(crate) server: SocketAddr,
}

/// What a server that is one of `expected` is told.
pub(crate) fn document(
    name: &str,
    addresses: Addresses,
    options: &ConsulBuilder,
    expected: usize,
    others: &[SocketAddr],
    data: &Path,
) -> Value {
    let mut document = json!({
        "node_name": name,
        "datacenter": options.datacenter.as_deref().unwrap_or("dc1"),
        "bind_addr": "127.0.0.1",
        "advertise_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "ports": {
            "http": addresses.http.port(),
            "serf_lan": addresses.lan.port(),
            "serf_wan": addresses.wan.port(),
            "server": addresses.server.port(),
            "dns": -1,
            "grpc": -1,
            "grpc_tls": -1,
        },
        "log_level": "warn",
        // The machine's own id would be the same for all servers on it.
        "disable_host_node_id": true,
        "disable_update_check": true,
        "leave_on_terminate": false,
        "performance": { "raft_multiplier": 1 },
        "connect": { "enabled": false },
        "ui_config": { "enabled": false },
    });
    if options.data {
        merge(
            &mut document,
            json!({
                "server": true,
                "bootstrap_expect": expected,
                "data_dir": data,
                "retry_join": others.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
                "retry_interval": "100ms",
            }),
        );
    }
    if !options.client_of.is_empty() {
        let servers: Vec<String> = options.client_of.iter().map(SocketAddr::to_string).collect();
        merge(&mut document, json!({ "server": false, "retry_join": servers }));
        if let Some(document) = document.as_object_mut() {
            document.remove("bootstrap_expect");
        }
    }
    if options.acl {
        let management = Consul::MANAGEMENT;
        merge(
            &mut document,
            json!({ "acl": {
                "enabled": true,
                "default_policy": "deny",
                "tokens": { "initial_management": management, "agent": management },
            } }),
        );
    }
    if let Some(other) = options.wan {
        merge(&mut document, json!({ "retry_join_wan": [other.to_string()], "retry_interval_wan": "1s" }));
    }
    if let Some(count) = options.connections {
        merge(&mut document, json!({ "limits": { "http_max_conns_per_client": count } }));
    }
    for extra in &options.config {
        merge(&mut document, extra.clone());
    }
    document
}

/// The same with limits on reads and writes, or without.
pub(crate) fn limited(mut document: Value, rates: Option<(f64, f64)>) -> Value {
    let limits = match rates {
        Some((reads, writes)) => json!({ "mode": "enforcing", "read_rate": reads, "write_rate": writes }),
        None => json!({ "mode": "disabled" }),
    };
    merge(&mut document, json!({ "limits": { "request_limits": limits } }));
    document
}

/// Serves clients over TLS too.
pub(crate) fn serve_tls(
    document: &mut Value,
    address: SocketAddr,
    server: &TestCert,
    clients: Option<&TestCa>,
) {
    let mut https = json!({ "cert_file": server.cert(), "key_file": server.key(), "verify_incoming": false });
    if let Some(ca) = clients {
        merge(&mut https, json!({ "ca_file": ca.cert(), "verify_incoming": true }));
    }
    merge(document, json!({ "ports": { "https": address.port() }, "tls": { "https": https } }));
}

/// Objects are merged key by key; anything else is replaced.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            let from: Map<String, Value> = from;
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_merged_and_wins() {
        let mut document = json!({ "a": { "b": 1, "c": 2 }, "d": [1] });
        merge(&mut document, json!({ "a": { "b": 3 }, "d": [2], "e": true }));
        assert_eq!(document, json!({ "a": { "b": 3, "c": 2 }, "d": [2], "e": true }));
    }
}
