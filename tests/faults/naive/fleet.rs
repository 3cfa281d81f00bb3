//! Registering.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use etcd_client::{Client, LeaseKeepAliveStream, LeaseKeeper, PutOptions};
use futures_util::{FutureExt, future::BoxFuture};
use registry_core::{
    ClientConfig, Deregistration, Error, ErrorKind, Instance, InstanceKey, Phase, RegistryUrl,
    model::encode_record,
};
use registry_testkit::faults::{Fleet, FleetFactory, History, Observation, Policy, Reader};
use tokio::{sync::OnceCell, task::AbortHandle, time::sleep};

use crate::reader::NaiveReader;

/// One process with one lease for everything it registers.
pub struct NaiveFleet {
    name: Arc<str>,
    etcd: Client,
    namespace: String,
    ttl: Duration,
    history: History,
    lease: OnceCell<Lease>,
    registered: Mutex<BTreeMap<InstanceKey, Arc<Instance>>>,
}

struct Lease {
    id: i64,
    /// Whether the loop goes on, which is all that this client knows of its lease.
    renewed: Arc<AtomicBool>,
    renewing: AbortHandle,
}

impl NaiveFleet {
    async fn open(name: &str, url: &str, history: &History) -> Result<Self, Error> {
        let url: RegistryUrl = url.parse()?;
        let ttl = url.duration_option("ttl")?.unwrap_or_else(|| ClientConfig::default().ttl);
        let endpoints: Vec<String> = url.hosts().iter().map(|host| host.authority(2379)).collect();
        let etcd = Client::connect(endpoints, None).await.map_err(failed)?;
        Ok(Self {
            name: name.into(),
            etcd,
            namespace: url.path().join("/"),
            ttl,
            history: history.clone(),
            lease: OnceCell::new(),
            registered: Mutex::default(),
        })
    }

    async fn lease(&self) -> Result<&Lease, Error> {
        self.lease
            .get_or_try_init(async || {
                let mut etcd = self.etcd.clone();
                let seconds = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
                let id = etcd.lease_grant(seconds, None).await.map_err(failed)?.id();
                let (keeper, answers) = etcd.lease_keep_alive(id).await.map_err(failed)?;
                let renewed = Arc::new(AtomicBool::new(true));
                let renewing = renew(keeper, answers, self.ttl / 3, Arc::clone(&renewed));
                Ok(Lease { id, renewed, renewing: tokio::spawn(renewing).abort_handle() })
            })
            .await
    }

    async fn put(&self, instance: &Instance) -> Result<(), Error> {
        let lease = self.lease().await?.id;
        let value = encode_record(instance, None)?;
        let options = PutOptions::new().with_lease(lease);
        self.etcd.clone().put(self.key(&instance.key()), value, Some(options)).await.map_err(failed)?;
        let instance = Arc::new(instance.clone());
        self.history.record(Observation::wanted(&self.name, Arc::clone(&instance)));
        self.registered().insert(instance.key(), instance);
        Ok(())
    }

    fn key(&self, key: &InstanceKey) -> String {
        format!("/{}/{}/{}", self.namespace, key.service, key.id)
    }

    fn registered(&self) -> MutexGuard<'_, BTreeMap<InstanceKey, Arc<Instance>>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Three times per life of the lease, until something goes wrong.
async fn renew(
    mut keeper: LeaseKeeper,
    mut answers: LeaseKeepAliveStream,
    every: Duration,
    renewed: Arc<AtomicBool>,
) {
    loop {
        sleep(every).await;
        if keeper.keep_alive().await.is_err() {
            break;
        }
        match answers.message().await {
            Ok(Some(answer)) if answer.ttl() > 0 => {}
            _ => break,
        }
    }
    renewed.store(false, Ordering::Relaxed);
}

#[async_trait]
impl Fleet for NaiveFleet {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    async fn register(&self, instance: Instance, _policy: Policy) -> Result<(), Error> {
        self.put(&instance).await
    }

    async fn update(&self, instance: Instance) -> Result<(), Error> {
        // What the application wants from now on, whether or not the put gets through.
        self.history.record(Observation::wanted(&self.name, Arc::new(instance.clone())));
        self.put(&instance).await
    }

    async fn deregister(&self, key: &InstanceKey) -> Option<Deregistration> {
        self.registered().remove(key)?;
        let deleted = self.etcd.clone().delete(self.key(key), None).await;
        self.history.record(Observation::unwanted(&self.name, key.clone(), deleted.is_ok()));
        Some(if deleted.is_ok() { Deregistration::Confirmed } else { Deregistration::TtlWillExpire })
    }

    fn phase(&self, key: &InstanceKey) -> Option<Phase> {
        self.registered().get(key)?;
        let renewed = self.lease.get().is_some_and(|lease| lease.renewed.load(Ordering::Relaxed));
        Some(if renewed { Phase::Live } else { Phase::Lost })
    }

    fn keys(&self) -> Vec<InstanceKey> {
        self.registered().keys().cloned().collect()
    }

    async fn discover(&self, reader: &str, service: &str) -> Result<Arc<dyn Reader>, Error> {
        let prefix = format!("/{}/{service}/", self.namespace);
        Ok(Arc::new(NaiveReader::open(reader, self.etcd.clone(), prefix).await.map_err(failed)?))
    }

    async fn close(&self) {
        for key in self.keys() {
            self.deregister(&key).await;
        }
        if let Some(lease) = self.lease.get() {
            lease.renewing.abort();
        }
    }
}

impl Drop for NaiveFleet {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.get() {
            lease.renewing.abort();
        }
    }
}

impl std::fmt::Debug for NaiveFleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NaiveFleet").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Opens [`NaiveFleet`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct NaiveFleets;

impl FleetFactory for NaiveFleets {
    fn kind(&self) -> &'static str {
        "naive"
    }

    fn open<'a>(
        &'a self,
        name: &'a str,
        url: &'a str,
        history: &'a History,
    ) -> BoxFuture<'a, Result<Arc<dyn Fleet>, Error>> {
        async move {
            let fleet: Arc<dyn Fleet> = Arc::new(NaiveFleet::open(name, url, history).await?);
            Ok(fleet)
        }
        .boxed()
    }
}

fn failed(error: etcd_client::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "etcd").with_source(error)
}
