//! Shorthands for what the tests do with the backend.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::StreamExt;
use registry_core::{
    Backend, Client, ConnectContext, Connector, CredentialProvider, Error, Incarnation, Instance,
    InstanceKey, Lease, Namespace, OnDuplicate, Status, Target,
    backend::{Change, Event, Grant, Listing, Outcome, Publish, Read, WatchStream},
    model::RecordVersion,
};
use registry_http::consul::ConsulConnector;
use registry_testkit::eventually;
use tokio::time::{Instant, timeout};

pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A backend and the client life it writes for.
pub(crate) struct Node {
    pub(crate) backend: Backend,
    pub(crate) incarnation: Incarnation,
}

pub(crate) async fn connect(url: &str) -> Node {
    connect_with(url, None).await
}

pub(crate) async fn connect_with(url: &str, credentials: Option<Arc<dyn CredentialProvider>>) -> Node {
    let mut context = ConnectContext::new(Namespace::default(), Duration::from_secs(5));
    context.credentials = credentials;
    let backend = ConsulConnector::new().connect(&url.parse().unwrap(), &context).await.unwrap();
    Node { backend, incarnation: Incarnation::generate() }
}

/// A whole client, whose time to live is 3 s and whose idle watches return every second.
pub(crate) async fn client(url: &str) -> Client {
    client_with(url, "").await
}

/// The same with more options.
pub(crate) async fn client_with(url: &str, options: &str) -> Client {
    let url = format!("{url}?ttl=3s&wait=1s{options}");
    Client::builder().connector(ConsulConnector::new()).url(&url).build().await.unwrap()
}

impl Node {
    pub(crate) async fn grant(&self, secs: u64) -> Arc<dyn Lease> {
        let grant = Grant::new(Duration::from_secs(secs), self.incarnation);
        self.backend.registry.as_ref().unwrap().grant(&grant).await.unwrap()
    }

    pub(crate) fn record(&self, instance: &Instance, sequence: u64) -> Publish {
        let version = RecordVersion { incarnation: self.incarnation, epoch: 1, sequence };
        Publish::new(Arc::new(instance.clone()), version, OnDuplicate::TakeOver)
    }

    pub(crate) async fn publish(&self, lease: &Arc<dyn Lease>, id: &str) -> Outcome {
        lease.publish(&[self.record(&instance("orders", id), 1)]).await.remove(0)
    }

    pub(crate) async fn lookup(&self, target: &Target) -> Result<Listing, Error> {
        self.backend.discovery.as_ref().unwrap().lookup(target, &Read::default()).await
    }

    pub(crate) fn watch(&self, target: &Target) -> WatchStream {
        self.backend.discovery.as_ref().unwrap().watch(target, None)
    }

    /// Waits until a look finds exactly these ids.
    pub(crate) async fn finds(&self, target: &Target, ids: &[&str]) {
        let mut last = None;
        let found = eventually("a list", LONG, async || {
            last = Some(self.lookup(target).await);
            let listing = last.as_ref()?.as_ref().ok()?;
            let mut found: Vec<&str> = listing.instances.iter().map(|one| one.id().as_str()).collect();
            found.sort_unstable();
            (found == ids).then_some(())
        });
        assert!(found.await.is_ok(), "{last:?} rather than {ids:?}");
    }
}

pub(crate) fn target(service: &str) -> Target {
    Target::try_from(service).unwrap()
}

pub(crate) fn instance(service: &str, id: &str) -> Instance {
    Instance::builder(service).id(id).endpoint("http://10.0.0.7:8080").build().unwrap()
}

pub(crate) fn key(id: &str) -> InstanceKey {
    instance("orders", id).key()
}

/// When a renewal has to be done.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(2)
}

/// A view that is folded from a watch: ids with their status.
pub(crate) struct View {
    stream: WatchStream,
    pub(crate) view: BTreeMap<String, Status>,
    pub(crate) events: Vec<Event>,
}

impl View {
    pub(crate) fn new(stream: WatchStream) -> Self {
        Self { stream, view: BTreeMap::new(), events: Vec::new() }
    }

    /// Takes the next event in; `Err` is the end of the session.
    pub(crate) async fn next(&mut self) -> Result<(), Error> {
        let item = timeout(LONG, self.stream.next()).await.expect("something comes in time");
        let event = item.expect("a session ends with an error")?;
        for change in &event.changes {
            match change {
                Change::Reset(all) => {
                    self.view = all.iter().map(|one| (one.id().to_string(), one.status())).collect();
                }
                Change::Upsert(one) => {
                    self.view.insert(one.id().to_string(), one.status());
                }
                Change::Remove(key) => {
                    self.view.remove(key.id.as_str());
                }
                other => panic!("{other:?}"),
            }
        }
        self.events.push(event);
        Ok(())
    }

    /// Reads until it shows exactly these.
    pub(crate) async fn shows(&mut self, wanted: &[(&str, Status)]) {
        let reading = async {
            while !self.view.iter().map(|(id, status)| (id.as_str(), *status)).eq(wanted.iter().copied()) {
                self.next().await.expect("the session goes on");
            }
        };
        let shown = timeout(LONG, reading).await.is_ok();
        assert!(shown, "{:?} rather than {wanted:?}", self.view);
    }

    /// How the session ends.
    pub(crate) async fn failure(&mut self) -> Error {
        loop {
            if let Err(error) = self.next().await {
                assert!(self.stream.next().await.is_none(), "the failure is the last item");
                return error;
            }
        }
    }
}
