//! The fleet of this project: a `Client`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use registry_core::{
    Client, ClientBuilder, Deregistration, Error, ErrorKind, Instance, InstanceId, InstanceKey, Phase,
    RegisterOptions, Registration, Update, Upstream,
};
use tokio::task::JoinHandle;

use super::{
    History,
    fleet::{Fleet, FleetFactory, Policy, Reader},
    observation::{Observation, View, records},
};

/// A [`Client`] as a fleet. Its events go to the history from the start on.
#[derive(Debug)]
pub struct ClientFleet {
    name: Arc<str>,
    client: Client,
    history: History,
    registrations: Mutex<BTreeMap<InstanceKey, Arc<Registration>>>,
    events: JoinHandle<()>,
}

impl ClientFleet {
    /// Wraps a client that has no registrations yet.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(name: &str, client: Client, history: &History) -> Arc<Self> {
        let name: Arc<str> = name.into();
        let mut events = client.events();
        let (heard, teller) = (history.clone(), Arc::clone(&name));
        let events = tokio::spawn(async move {
            while let Some(batch) = events.next().await {
                for (key, event) in batch.events.iter() {
                    let (client, key, event) = (Arc::clone(&teller), key.clone(), event.clone());
                    heard.record(Observation::Event { client, key, event });
                }
            }
        });
        Arc::new(Self { name, client, history: history.clone(), registrations: Mutex::default(), events })
    }

    /// The client itself.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// A registration.
    #[must_use]
    pub fn registration(&self, key: &InstanceKey) -> Option<Arc<Registration>> {
        self.registrations().get(key).cloned()
    }

    fn registrations(&self) -> MutexGuard<'_, BTreeMap<InstanceKey, Arc<Registration>>> {
        self.registrations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self, instance: &Arc<Instance>) {
        let (client, instance) = (Arc::clone(&self.name), Arc::clone(instance));
        self.history.record(Observation::Wanted { client, instance });
    }
}

#[async_trait]
impl Fleet for ClientFleet {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    async fn register(&self, instance: Instance, policy: Policy) -> Result<(), Error> {
        let options = RegisterOptions::new()
            .start(policy.start)
            .on_duplicate(policy.on_duplicate)
            .on_missing(policy.on_missing);
        let registration = self.client.register_with(instance, options).await?;
        self.wanted(&registration.instance());
        self.registrations().insert(registration.key(), Arc::new(registration));
        Ok(())
    }

    async fn update(&self, instance: Instance) -> Result<(), Error> {
        let key = instance.key();
        let registration = self.registration(&key).ok_or_else(|| unknown(&key))?;
        registration.update(instance)?;
        self.wanted(&registration.instance());
        Ok(())
    }

    async fn deregister(&self, key: &InstanceKey) -> Option<Deregistration> {
        let registration = self.registrations().remove(key)?;
        let outcome = match Arc::try_unwrap(registration) {
            Ok(registration) => registration.deregister().await,
            // Somebody looks at it right now; the withdrawal begins when they are done.
            Err(_) => Deregistration::TtlWillExpire,
        };
        let (client, key) = (Arc::clone(&self.name), key.clone());
        let confirmed = outcome == Deregistration::Confirmed;
        self.history.record(Observation::Unwanted { client, key, confirmed });
        Some(outcome)
    }

    fn phase(&self, key: &InstanceKey) -> Option<Phase> {
        self.registrations().get(key).map(|registration| registration.phase())
    }

    fn epoch(&self, key: &InstanceKey) -> Option<u64> {
        self.registrations().get(key).map(|registration| registration.state().epoch)
    }

    fn keys(&self) -> Vec<InstanceKey> {
        self.registrations().keys().cloned().collect()
    }

    async fn discover(&self, reader: &str, service: &str) -> Result<Arc<dyn Reader>, Error> {
        let upstream = self.client.discover(service).await?;
        Ok(Arc::new(UpstreamReader::new(reader, upstream)))
    }

    async fn close(&self) {
        let keys = self.keys();
        self.client.close().await;
        let left = std::mem::take(&mut *self.registrations());
        for key in keys {
            let outcome = left.get(&key).and_then(|registration| registration.state().outcome);
            let confirmed = outcome == Some(Deregistration::Confirmed);
            self.history.record(Observation::Unwanted { client: Arc::clone(&self.name), key, confirmed });
        }
    }
}

impl Drop for ClientFleet {
    fn drop(&mut self) {
        self.events.abort();
    }
}

fn unknown(key: &InstanceKey) -> Error {
    Error::new(ErrorKind::NotFound, format!("{key} is not registered"))
}

/// An [`Upstream`] as a reader.
#[derive(Debug)]
pub struct UpstreamReader {
    name: Arc<str>,
    upstream: Upstream,
    /// One reader at a time, which is all a recorder needs.
    changes: tokio::sync::Mutex<registry_core::Changes>,
    latest: Mutex<Option<View>>,
}

impl UpstreamReader {
    /// Wraps an upstream.
    #[must_use]
    pub fn new(name: &str, upstream: Upstream) -> Self {
        let changes = tokio::sync::Mutex::new(upstream.changes());
        Self { name: name.into(), upstream, changes, latest: Mutex::new(None) }
    }

    /// The upstream itself.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }
}

#[async_trait]
impl Reader for UpstreamReader {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn view(&self) -> View {
        let snapshot = self.upstream.snapshot();
        let freshness = self.upstream.freshness();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        // A version doesn't change, so its map is made once.
        let known = latest.as_ref().filter(|view| view.version == snapshot.version());
        let records = known.map_or_else(|| records(snapshot.iter()), |view| Arc::clone(&view.records));
        let mut view = View::new(&self.name, snapshot.version(), records, freshness.state);
        view.revision = snapshot.revision();
        view.source = freshness.source;
        view.held = freshness.held;
        view.rejected = freshness.rejected;
        latest.replace(view.clone());
        view
    }

    fn pick(&self) -> Result<InstanceId, Error> {
        self.upstream.with_pick(|instance| instance.id().clone())
    }

    async fn changed(&self) -> Option<Update> {
        self.changes.lock().await.next().await
    }
}

type Configure = dyn Fn() -> ClientBuilder + Send + Sync;

/// Opens [`ClientFleet`]s.
pub struct ClientFleets {
    configure: Box<Configure>,
}

impl ClientFleets {
    /// Clients from a builder that knows the schemes of the URLs, such as `service_registry::builder`.
    pub fn new(configure: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self { configure: Box::new(configure) }
    }
}

impl std::fmt::Debug for ClientFleets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientFleets").finish_non_exhaustive()
    }
}

impl FleetFactory for ClientFleets {
    fn kind(&self) -> &'static str {
        "client"
    }

    fn open<'a>(
        &'a self,
        name: &'a str,
        url: &'a str,
        history: &'a History,
    ) -> BoxFuture<'a, Result<Arc<dyn Fleet>, Error>> {
        async move {
            let client = (self.configure)().url(url).build().await?;
            let fleet: Arc<dyn Fleet> = ClientFleet::new(name, client, history);
            Ok(fleet)
        }
        .boxed()
    }
}
