//! What a client told about its registrations, and whether it told it properly.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::StreamExt;
use service_registry::{Client, InstanceKey, RegistrationEvent};
use tokio::task::JoinHandle;

/// What a story expects the registrations to have lived through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Losses {
    /// No `Lost` and no `Recovered`.
    None,
    /// Each registration: one `Lost`, then one `Recovered`.
    OneEach,
}

type Log = Arc<Mutex<Vec<(InstanceKey, RegistrationEvent)>>>;

/// Collects the client's events from its start on.
pub(crate) struct Recorder {
    log: Log,
    task: JoinHandle<()>,
}

impl Recorder {
    pub(crate) fn start(client: &Client) -> Self {
        let log = Log::default();
        let mut events = client.events();
        let heard = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Some(batch) = events.next().await {
                heard.lock().unwrap_or_else(PoisonError::into_inner).extend(batch.events.iter().cloned());
            }
        });
        Self { log, task }
    }

    /// Checks the promises about every key, then what this story expects of `keys`.
    pub(crate) fn assert(&self, keys: &[InstanceKey], expected: Losses) {
        let told = self.by_key();
        for (key, events) in &told {
            alternate(key, events);
        }
        for key in keys {
            let told: Vec<_> = told.get(key).into_iter().flatten().filter(|event| is_loss(event)).collect();
            let right = match expected {
                Losses::None => told.is_empty(),
                Losses::OneEach => {
                    matches!(told[..], [RegistrationEvent::Lost { .. }, RegistrationEvent::Recovered { .. }])
                }
            };
            assert!(right, "{key}: expected {expected:?}, was told {told:?}");
        }
    }

    fn by_key(&self) -> HashMap<InstanceKey, Vec<RegistrationEvent>> {
        let mut told: HashMap<_, Vec<_>> = HashMap::new();
        for (key, event) in self.log.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            told.entry(key.clone()).or_default().push(event.clone());
        }
        told
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn is_loss(event: &RegistrationEvent) -> bool {
    matches!(event, RegistrationEvent::Lost { .. } | RegistrationEvent::Recovered { .. })
}

/// At most one `Lost` per epoch, each followed by the `Recovered` that names it.
fn alternate(key: &InstanceKey, events: &[RegistrationEvent]) {
    let mut lost = None;
    let mut last = 0;
    for event in events {
        match event {
            RegistrationEvent::Lost { epoch, .. } => {
                assert!(lost.is_none(), "{key}: lost twice without a recovery: {events:?}");
                assert!(*epoch > last, "{key}: epoch {epoch} lost again: {events:?}");
                (lost, last) = (Some(*epoch), *epoch);
            }
            RegistrationEvent::Recovered { old_epoch, epoch, .. } => {
                assert_eq!(lost.take(), Some(*old_epoch), "{key}: recovered from no loss: {events:?}");
                assert!(epoch > old_epoch, "{key}: recovered into an old epoch: {events:?}");
            }
            RegistrationEvent::Lagged { missed } => panic!("{key}: the recorder missed {missed}"),
            _ => {}
        }
    }
}
