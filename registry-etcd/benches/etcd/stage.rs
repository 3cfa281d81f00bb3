//! A real etcd, bare clients and ours, and the records they exchange.

use etcd_client::{DeleteOptions, PutOptions, Txn, TxnOp};
use registry_core::{
    Client, Incarnation, Instance,
    model::{RecordVersion, encode_record},
};
use registry_etcd::EtcdConnector;
use registry_testkit::Etcd;

/// The service that is measured, below the namespace of all clients.
pub(crate) const SERVICE: &str = "orders";
const NAMESPACE: &str = "bench";
/// The server's default limit of operations in one transaction.
const TXN_OPS: usize = 128;

/// A server with nothing in it.
pub(crate) struct Stage {
    etcd: Etcd,
}

impl Stage {
    pub(crate) async fn start(what: &str) -> Self {
        // Below the server's default, as a long run would else be slowed by a history nobody reads.
        let etcd = Etcd::builder().arg("--auto-compaction-retention=0").start().await.unwrap();
        println!("\n{what}: etcd at {}, data in {}", etcd.address(), std::env::temp_dir().display());
        Self { etcd }
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.etcd.address()
    }

    /// The URL of our clients.
    pub(crate) fn url(&self) -> String {
        format!("etcd://{}/{NAMESPACE}", self.etcd.address())
    }

    /// A bare client with a connection of its own, which is open.
    pub(crate) async fn raw(&self) -> etcd_client::Client {
        let mut client = etcd_client::Client::connect([self.etcd.url()], None).await.unwrap();
        client.status().await.unwrap();
        client
    }

    /// One of our clients, whose connection is open.
    pub(crate) async fn client(&self) -> Client {
        self.client_with("").await
    }

    /// The same with options of the URL.
    pub(crate) async fn client_with(&self, options: &str) -> Client {
        let url = self.url() + options;
        let client = Client::builder().connector(EtcdConnector::new()).url(&url).build().await.unwrap();
        client.discover("nobody").await.unwrap();
        client
    }

    /// Writes `count` records, as others registered them.
    pub(crate) async fn fill(&self, count: usize) {
        let mut raw = self.raw().await;
        let all: Vec<usize> = (0..count).collect();
        for numbers in all.chunks(TXN_OPS) {
            let puts: Vec<TxnOp> =
                numbers.iter().map(|number| TxnOp::put(key(*number), value(*number, 1), None)).collect();
            raw.txn(Txn::new().and_then(puts)).await.unwrap();
        }
    }

    /// Writes the record of one instance, under no lease.
    pub(crate) async fn put(&self, instance: &Instance) {
        let key = format!("/{NAMESPACE}/{}", instance.key());
        self.raw().await.put(key, encode_record(instance, None).unwrap(), None).await.unwrap();
    }

    /// Removes every record.
    pub(crate) async fn clear(&self) {
        let all = DeleteOptions::new().with_prefix();
        self.raw().await.delete(prefix(), Some(all)).await.unwrap();
    }

    /// The revision the server is at.
    pub(crate) async fn revision(&self) -> i64 {
        self.raw().await.get("nothing", None).await.unwrap().header().unwrap().revision()
    }
}

/// One registered instance: about 200 bytes on the wire.
pub(crate) fn instance(number: usize) -> Instance {
    Instance::builder(SERVICE)
        .id(id(number))
        .endpoint(format!("http://10.0.{}.{}:8080", number / 250, number % 250 + 1))
        .version("2.4.1")
        .zone("z1")
        .metadata("team", "core")
        .build()
        .unwrap()
}

pub(crate) fn id(number: usize) -> String {
    format!("orders-{number:06}")
}

pub(crate) fn prefix() -> String {
    format!("/{NAMESPACE}/{SERVICE}/")
}

pub(crate) fn key(number: usize) -> String {
    format!("{}{}", prefix(), id(number))
}

/// The record of an instance; another `sequence` is another record.
pub(crate) fn value(number: usize, sequence: u64) -> Vec<u8> {
    let version = RecordVersion { incarnation: Incarnation::from_bits(7), epoch: 1, sequence };
    encode_record(&instance(number), Some(version)).unwrap()
}

/// Options of a put under a lease.
pub(crate) fn under(lease: i64) -> Option<PutOptions> {
    Some(PutOptions::new().with_lease(lease))
}
