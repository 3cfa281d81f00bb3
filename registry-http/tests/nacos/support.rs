//! Shorthands for what the tests do with the backend.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use registry_core::{
    Backend, Client, ConnectContext, Connector, Discovery, Error, Incarnation, Instance, Lease, Namespace,
    OnDuplicate, Target,
    backend::{Change, Event, Grant, Listing, Outcome, Publish, Read, WatchStream},
    model::RecordVersion,
};
use registry_http::nacos::NacosConnector;
use registry_testkit::{Nacos, NacosLine, Shared};
use tokio::time::timeout;

pub(crate) const LINES: [NacosLine; 2] = [NacosLine::V3, NacosLine::V2];

static LINE_2: Shared<Nacos> = Shared::new();
static LINE_3: Shared<Nacos> = Shared::new();

/// A server that others use too: for tests that don't hurt it.
pub(crate) async fn shared(line: NacosLine) -> Arc<Nacos> {
    let shared = if line == NacosLine::V2 { &LINE_2 } else { &LINE_3 };
    shared.get(Nacos::start(line)).await.unwrap()
}

/// A backend in a namespace that no other test uses, and the client life it writes for.
pub(crate) struct Node {
    pub(crate) backend: Backend,
    pub(crate) namespace: String,
    pub(crate) incarnation: Incarnation,
}

pub(crate) async fn connect(nacos: &Nacos, options: &str) -> Node {
    connect_to(&format!("{}{options}", nacos.url())).await
}

pub(crate) async fn connect_to(url: &str) -> Node {
    let incarnation = Incarnation::generate();
    let namespace = format!("test-{incarnation}");
    let url: registry_core::RegistryUrl = url.parse().unwrap();
    let namespace = url.path().first().cloned().unwrap_or(namespace);
    let context = ConnectContext::new(Namespace::new(&namespace).unwrap(), Duration::from_secs(5));
    let backend = NacosConnector::new().connect(&url, &context).await.unwrap();
    Node { backend, namespace, incarnation }
}

/// A whole client, with a time to live of 6 s.
pub(crate) async fn client(nacos: &Nacos, namespace: &str) -> Client {
    let url = format!("{}/{namespace}?poll=1s", nacos.url());
    let builder = Client::builder().connector(NacosConnector::new()).url(&url).ttl(Duration::from_secs(6));
    builder.build().await.unwrap()
}

impl Node {
    pub(crate) fn discovery(&self) -> Arc<dyn Discovery> {
        Arc::clone(self.backend.discovery.as_ref().unwrap())
    }

    pub(crate) async fn grant(&self, ttl: Duration) -> Arc<dyn Lease> {
        let grant = Grant::new(ttl, self.incarnation);
        self.backend.registry.as_ref().unwrap().grant(&grant).await.unwrap()
    }

    pub(crate) async fn publish(&self, lease: &Arc<dyn Lease>, instance: &Instance) -> Outcome {
        let version = RecordVersion { incarnation: self.incarnation, epoch: 1, sequence: 1 };
        let record = Publish::new(Arc::new(instance.clone()), version, OnDuplicate::TakeOver);
        lease.publish(&[record]).await.remove(0)
    }

    pub(crate) async fn lookup(&self) -> Result<Listing, Error> {
        self.discovery().lookup(&target(), &Read::default()).await
    }

    pub(crate) fn watch(&self) -> WatchStream {
        self.discovery().watch(&target(), None)
    }
}

pub(crate) fn target() -> Target {
    Target::try_from("orders").unwrap()
}

pub(crate) fn instance(id: &str) -> Instance {
    let port = 8000 + u16::from(id.as_bytes()[0]);
    Instance::builder("orders").id(id).endpoint(format!("http://10.0.0.7:{port}")).build().unwrap()
}

/// What a watch tells, as a view of ids.
pub(crate) struct View {
    watch: WatchStream,
    pub(crate) ids: Vec<String>,
}

impl View {
    pub(crate) fn of(watch: WatchStream) -> Self {
        Self { watch, ids: Vec::new() }
    }

    pub(crate) async fn item(&mut self) -> Option<Result<Event, Error>> {
        let item = timeout(Duration::from_secs(30), self.watch.next()).await.expect("a watch says something");
        if let Some(Ok(event)) = &item {
            for change in &event.changes {
                match change {
                    Change::Reset(all) => self.ids = all.iter().map(|one| one.id().to_string()).collect(),
                    Change::Upsert(one) => {
                        self.ids.retain(|id| id != one.id().as_str());
                        self.ids.push(one.id().to_string());
                    }
                    Change::Remove(key) => self.ids.retain(|id| id != key.id.as_str()),
                    other => panic!("{other:?}"),
                }
            }
            self.ids.sort();
        }
        item
    }

    /// Follows the watch until it shows these ids.
    pub(crate) async fn shows(&mut self, ids: &[&str], within: Duration) {
        let shown = async {
            while self.ids != ids {
                self.item().await.expect("the watch goes on").expect("the watch has not failed");
            }
        };
        let shown = timeout(within, shown).await.is_ok();
        assert!(shown, "{:?} rather than {ids:?} after {within:?}", self.ids);
    }

    /// Follows the watch to its end.
    pub(crate) async fn failure(&mut self) -> Error {
        loop {
            match self.item().await.expect("a failure comes before the end") {
                Ok(_) => {}
                Err(error) => {
                    assert!(self.item().await.is_none(), "a failure is the last item");
                    return error;
                }
            }
        }
    }
}
