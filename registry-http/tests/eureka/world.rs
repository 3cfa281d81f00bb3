//! A fleet of providers, a consumer, and what they saw.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use registry_core::{Client, Instance, Phase, Registration, RegistrationEvent, Status, Upstream};
use registry_http::eureka::EurekaConnector;
use registry_testkit::{Eureka, eventually};
use tokio::task::JoinSet;

/// Of every registration here.
pub(crate) const TTL: Duration = Duration::from_secs(6);
/// For whatever has to come about: a server's start on a busy machine, a few times to live.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) async fn client(url: &str) -> Client {
    let url = format!("{url}?poll=300ms");
    Client::builder().connector(EurekaConnector::new()).url(&url).ttl(TTL).build().await.unwrap()
}

pub(crate) fn instance(id: &str) -> Instance {
    Instance::builder("orders").id(id).endpoint("http://10.0.0.7:8080").build().unwrap()
}

/// A registered instance with its client.
pub(crate) struct Provider {
    pub(crate) client: Client,
    pub(crate) registration: Registration,
    pub(crate) told: Arc<std::sync::Mutex<Vec<String>>>,
    _listener: JoinSet<()>,
}

impl Provider {
    pub(crate) async fn start(url: &str, instance: Instance) -> Self {
        let client = client(url).await;
        let registration = client.register(instance).await.unwrap();
        let mut events = registration.events();
        let told: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
        let notes = Arc::clone(&told);
        let mut listener = JoinSet::new();
        listener.spawn(async move {
            while let Some(event) = events.next().await {
                let note = match event {
                    RegistrationEvent::Lost { cause, .. } => format!("lost: {cause:?}"),
                    RegistrationEvent::Recovered { .. } => "recovered".to_owned(),
                    _ => continue,
                };
                notes.lock().unwrap().push(note);
            }
        });
        Self { client, registration, told, _listener: listener }
    }

    pub(crate) async fn reaches(&self, phase: Phase) {
        let reached =
            eventually("the phase", LONG, async || (self.registration.phase() == phase).then_some(()));
        assert!(reached.await.is_ok(), "{phase} rather than {:?}", self.registration.state());
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

/// Who looks for the instances, and remembers the fewest that he ever saw.
pub(crate) struct Consumer {
    _client: Client,
    pub(crate) upstream: Upstream,
    fewest: Arc<AtomicUsize>,
    _observer: JoinSet<()>,
}

impl Consumer {
    pub(crate) async fn start(url: &str, expected: usize) -> Self {
        let client = client(url).await;
        let upstream = client.discover("orders").await.unwrap();
        upstream.ready_within(expected, LONG).await.unwrap();
        let fewest = Arc::new(AtomicUsize::new(usize::MAX));
        let (seen, all) = (Arc::clone(&fewest), upstream.clone());
        let mut observer = JoinSet::new();
        observer.spawn(async move {
            loop {
                seen.fetch_min(all.snapshot().len(), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { _client: client, upstream, fewest, _observer: observer }
    }

    pub(crate) fn fewest(&self) -> usize {
        self.fewest.load(Ordering::Relaxed)
    }

    pub(crate) async fn sees(&self, id: &str, what: &str, is: impl Fn(&Instance) -> bool + Send + Sync) {
        let seen = eventually(what, LONG, async || {
            let snapshot = self.upstream.snapshot();
            snapshot.iter().any(|instance| instance.id().as_str() == id && is(instance)).then_some(())
        });
        assert!(seen.await.is_ok(), "{what}: {:?}", self.upstream.snapshot());
    }

    pub(crate) async fn sees_status(&self, id: &str, status: Status) {
        self.sees(id, &format!("{id} {status}"), |instance| instance.status() == status).await;
    }
}

/// The instance ids that a server itself lists, sorted.
pub(crate) async fn listed(eureka: &Eureka) -> Vec<String> {
    let answer = eureka.api().get("/eureka/apps/ORDERS").await.unwrap();
    if answer.status != 200 {
        return Vec::new();
    }
    let instances = answer.json()["application"]["instance"].as_array().cloned().unwrap_or_default();
    let mut ids: Vec<_> = instances.iter().map(|i| i["instanceId"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

pub(crate) async fn lists(eureka: &Eureka, ids: &[&str]) {
    let mut last = Vec::new();
    let listing = eventually("the server's list", LONG, async || {
        last = listed(eureka).await;
        (last == ids).then_some(())
    });
    let listing = listing.await;
    assert!(listing.is_ok(), "{last:?} rather than {ids:?}");
}
