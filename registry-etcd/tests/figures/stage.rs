//! Records, clients whose sessions are noted, and where figures go.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use registry_bench_support::Bound;
use registry_core::{
    Backend, Client, ConnectContext, Connector, Incarnation, Instance, Namespace,
    model::{RecordVersion, encode_record},
};
use registry_etcd::EtcdConnector;

use crate::sessions::Sessions;

pub(crate) const SERVICE: &str = "orders";
const TTL: Duration = Duration::from_secs(15);

/// The backend of an address, with its defaults.
pub(crate) async fn backend(address: SocketAddr) -> Backend {
    let context = ConnectContext::new(Namespace::new("figures").unwrap(), TTL);
    EtcdConnector::new().connect(&format!("etcd://{address}").parse().unwrap(), &context).await.unwrap()
}

/// A client with its defaults, and what it asks of its discovery.
pub(crate) async fn client(address: SocketAddr) -> (Client, Sessions) {
    let sessions = Sessions::default();
    let mut backend = backend(address).await;
    backend.discovery = backend.discovery.map(|discovery| sessions.noting(discovery));
    (Client::builder().backend(backend).build().await.unwrap(), sessions)
}

/// A bare client, which has just got an answer.
pub(crate) async fn bare(address: SocketAddr) -> Result<etcd_client::Client, etcd_client::Error> {
    let mut client = etcd_client::Client::connect([format!("http://{address}")], None).await?;
    client.get("nothing", None).await?;
    Ok(client)
}

pub(crate) fn key(id: &str) -> String {
    format!("/figures/{SERVICE}/{id}")
}

/// A record as somebody else registered it; another `sequence` is another record.
pub(crate) fn record(id: &str, sequence: u64) -> Vec<u8> {
    let instance = Instance::builder(SERVICE).id(id).endpoint("http://10.0.0.7:8080").build().unwrap();
    let version = RecordVersion { incarnation: Incarnation::from_bits(7), epoch: 1, sequence };
    encode_record(&instance, Some(version)).unwrap()
}

/// `count` records, `i000` and on.
pub(crate) async fn fill(bare: &mut etcd_client::Client, count: usize) {
    for number in 0..count {
        let id = format!("i{number:03}");
        bare.put(key(&id), record(&id, 1), None).await.unwrap();
    }
}

/// Prints the figures, leaves them where they are collected, and fails if a hard one misses.
pub(crate) fn publish(id: &str, bounds: &[Bound]) {
    let lines: Vec<String> = bounds.iter().map(Bound::to_string).collect();
    let text = lines.join("\n") + "\n";
    print!("{text}");
    if let Some(directory) = std::env::var_os("FIGURES") {
        fs::write(PathBuf::from(directory).join(id), &text).unwrap();
    }
    assert!(!bounds.iter().any(Bound::fails), "{text}");
}

/// The ids of instances, sorted.
pub(crate) fn ids<'a>(instances: impl IntoIterator<Item = &'a Arc<Instance>>) -> Vec<String> {
    let mut ids: Vec<String> = instances.into_iter().map(|instance| instance.id().to_string()).collect();
    ids.sort();
    ids
}
