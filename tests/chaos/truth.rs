//! What the registry really holds, asked past every proxy.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use registry_core::{
    ConnectContext, Connector, Discovery, Namespace, RegistryUrl, Target,
    backend::{Consistency, Read},
};
use registry_testkit::faults::{Records, records};
use service_registry::etcd::EtcdConnector;
use tokio::time::timeout;

/// For one member: the next one may be alive.
const ANSWER: Duration = Duration::from_millis(400);

/// One connection to each member, so that one that is frozen costs one answer only.
#[derive(Clone)]
pub(crate) struct Truth {
    members: Arc<[Arc<dyn Discovery>]>,
    /// Who answered last.
    good: Arc<AtomicUsize>,
    target: Target,
}

impl Truth {
    pub(crate) async fn new(members: &[SocketAddr], namespace: &str, service: &str, ttl: Duration) -> Self {
        let mut discoveries = Vec::new();
        for member in members {
            let url: RegistryUrl = format!("etcd://{member}").parse().unwrap();
            let context = ConnectContext::new(Namespace::new(namespace).unwrap(), ttl);
            let backend = EtcdConnector::new().connect(&url, &context).await.unwrap();
            discoveries.push(backend.discovery.expect("etcd can be read"));
        }
        let target = Target::try_from(service).unwrap();
        Self { members: discoveries.into(), good: Arc::default(), target }
    }

    /// All records, agreed upon by a quorum; `None` if none answers.
    pub(crate) async fn ask(&self) -> Option<Records> {
        let first = self.good.load(Ordering::Relaxed);
        for next in 0..self.members.len() {
            let member = (first + next) % self.members.len();
            let read = Read::new(Consistency::Strong);
            let answer = timeout(ANSWER, self.members[member].lookup(&self.target, &read)).await;
            if let Ok(Ok(listing)) = answer {
                self.good.store(member, Ordering::Relaxed);
                return Some(records(&listing.instances));
            }
        }
        None
    }
}
