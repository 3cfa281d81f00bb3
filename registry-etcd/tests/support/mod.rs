#![allow(
    unreachable_pub,
    dead_code,
    reason = "shared by several test binaries, none of which uses all of it"
)]
//! Shorthands for what the tests do with the backend.

use std::{net::TcpListener, sync::Arc, time::Duration};

use futures_util::StreamExt;
use registry_core::{
    Backend, ConnectContext, Connector, Discovery, Error, Incarnation, Instance, InstanceKey, Lease,
    Namespace, OnDuplicate, Registry, RegistryUrl, Target,
    backend::{Change, Event, Grant, Publish, WatchStream},
    model::RecordVersion,
};
use registry_etcd::EtcdConnector;
use registry_testkit::{Etcd, EtcdCluster};

/// A port that nobody listens on.
pub fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The URL of one node.
pub fn url(etcd: &Etcd) -> String {
    format!("etcd://{}", etcd.address())
}

/// The URL of all members.
pub fn cluster_url(cluster: &EtcdCluster) -> String {
    let addresses: Vec<String> = cluster.nodes().iter().map(|node| node.address().to_string()).collect();
    format!("etcd://{}", addresses.join(","))
}

/// A backend and the client life it writes for.
pub struct Node {
    pub backend: Backend,
    pub incarnation: Incarnation,
}

pub async fn connect(url: &str) -> Node {
    let url: RegistryUrl = url.parse().unwrap();
    let context = ConnectContext::new(Namespace::new("prod").unwrap(), Duration::from_secs(5));
    let backend = EtcdConnector::new().connect(&url, &context).await.unwrap();
    Node { backend, incarnation: Incarnation::generate() }
}

impl Node {
    pub fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(self.backend.registry.as_ref().unwrap())
    }

    pub fn discovery(&self) -> Arc<dyn Discovery> {
        Arc::clone(self.backend.discovery.as_ref().unwrap())
    }

    pub async fn grant(&self, secs: u64) -> Result<Arc<dyn Lease>, Error> {
        self.registry().grant(&Grant::new(Duration::from_secs(secs), self.incarnation)).await
    }

    pub fn record(&self, instance: &Instance, sequence: u64) -> Publish {
        let version = RecordVersion { incarnation: self.incarnation, epoch: 1, sequence };
        Publish::new(Arc::new(instance.clone()), version, OnDuplicate::TakeOver)
    }

    pub fn watch(&self, service: &str) -> WatchStream {
        self.discovery().watch(&target(service), None)
    }
}

pub fn target(service: &str) -> Target {
    Target::try_from(service).unwrap()
}

pub fn instance(service: &str, id: &str) -> Instance {
    Instance::builder(service).id(id).endpoint("http://10.0.0.7:8080").build().unwrap()
}

pub fn key(service: &str, id: &str) -> InstanceKey {
    instance(service, id).key()
}

/// The next event that has changes or rejected keys.
pub async fn event(watch: &mut WatchStream) -> Result<Event, Error> {
    loop {
        let event = tokio::time::timeout(Duration::from_secs(20), watch.next())
            .await
            .expect("an event comes in time")
            .expect("the stream goes on")?;
        if !event.changes.is_empty() || !event.rejected.is_empty() {
            return Ok(event);
        }
    }
}

/// The ids of a reset, sorted.
pub fn reset_ids(event: &Event) -> Vec<String> {
    let Change::Reset(instances) = &event.changes[0] else { panic!("no reset: {event:?}") };
    let mut ids: Vec<String> = instances.iter().map(|i| i.id().to_string()).collect();
    ids.sort();
    ids
}
