//! Discovering.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions, WatchStream};
use registry_core::{Error, ErrorKind, Instance, InstanceId, Update, ViewState, model::decode_record};
use registry_testkit::faults::{Reader, View, records};
use tokio::{task::AbortHandle, time::sleep};

/// Before a watch that ended is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// A map that a watch keeps up to date.
#[derive(Debug)]
pub struct NaiveReader {
    name: Arc<str>,
    shown: Arc<Shown>,
    watching: AbortHandle,
    /// Round robin.
    next: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shown(Mutex<Contents>);

#[derive(Debug, Default)]
struct Contents {
    version: u64,
    /// By etcd key.
    instances: BTreeMap<Vec<u8>, Arc<Instance>>,
}

impl NaiveReader {
    pub(crate) async fn open(
        name: &str,
        mut etcd: Client,
        prefix: String,
    ) -> Result<Self, etcd_client::Error> {
        let shown = Arc::<Shown>::default();
        let list = etcd.get(prefix.as_str(), Some(GetOptions::new().with_prefix())).await?;
        for record in list.kvs() {
            shown.put(record);
        }
        let watch = watch(&mut etcd, &prefix).await?;
        let watching = tokio::spawn(follow(etcd, prefix, watch, Arc::clone(&shown))).abort_handle();
        Ok(Self { name: name.into(), shown, watching, next: AtomicUsize::new(0) })
    }
}

async fn watch(etcd: &mut Client, prefix: &str) -> Result<WatchStream, etcd_client::Error> {
    etcd.watch(prefix, Some(WatchOptions::new().with_prefix())).await
}

/// Applies what comes; opens the watch again when it ends.
async fn follow(mut etcd: Client, prefix: String, mut watched: WatchStream, shown: Arc<Shown>) {
    loop {
        while let Ok(Some(answer)) = watched.message().await {
            for event in answer.events() {
                match (event.event_type(), event.kv()) {
                    (EventType::Put, Some(record)) => shown.put(record),
                    (EventType::Delete, Some(record)) => shown.delete(record),
                    (_, None) => {}
                }
            }
        }
        watched = loop {
            sleep(REOPEN).await;
            if let Ok(watched) = watch(&mut etcd, &prefix).await {
                break watched;
            }
        };
    }
}

impl Shown {
    fn put(&self, record: &KeyValue) {
        // One bad record must not stop the others; that much everybody thinks of.
        let Ok(instance) = decode_record(record.value()) else { return };
        let mut contents = self.contents();
        contents.version += 1;
        contents.instances.insert(record.key().to_vec(), Arc::new(instance));
    }

    fn delete(&self, record: &KeyValue) {
        let mut contents = self.contents();
        contents.version += 1;
        contents.instances.remove(record.key());
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Reader for NaiveReader {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn view(&self) -> View {
        let contents = self.shown.contents();
        // It knows of no other state.
        View::new(&self.name, contents.version, records(contents.instances.values()), ViewState::Fresh)
    }

    fn pick(&self) -> Result<InstanceId, Error> {
        let contents = self.shown.contents();
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % contents.instances.len().max(1);
        let instance = contents.instances.values().nth(turn);
        instance
            .map(|instance| instance.id().clone())
            .ok_or_else(|| Error::new(ErrorKind::NoInstance, "nobody"))
    }

    async fn changed(&self) -> Option<Update> {
        None
    }
}

impl Drop for NaiveReader {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
