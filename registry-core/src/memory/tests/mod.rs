//! What the in-process registry promises, and that each fault does what it says.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;

use super::*;
use crate::{
    ErrorKind,
    backend::{
        Change, Cursor, Discovery, Event, Grant, Lease, OnDuplicate, Outcome, Publish, Read, Registry,
        WatchStream,
    },
    model::{Incarnation, InstanceKey, RecordVersion, Target},
};

mod fault;
mod lease;
mod watch;

const TTL: Duration = Duration::from_secs(15);
const US: Incarnation = Incarnation::from_bits(1);
const THEM: Incarnation = Incarnation::from_bits(2);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn instance(id: &str) -> Arc<Instance> {
    Arc::new(Instance::builder("orders").id(id).endpoint("http://10.0.0.7:8080").build().unwrap())
}

fn key(id: &str) -> InstanceKey {
    instance(id).key()
}

fn target() -> Target {
    Target::try_from("orders").unwrap()
}

fn version(incarnation: Incarnation, epoch: u64) -> RecordVersion {
    RecordVersion { incarnation, epoch, sequence: 1 }
}

fn record(incarnation: Incarnation, id: &str) -> Publish {
    Publish::new(instance(id), version(incarnation, 1), OnDuplicate::TakeOver)
}

async fn lease_of(memory: &MemoryRegistry, incarnation: Incarnation) -> Arc<dyn Lease> {
    memory.grant(&Grant::new(TTL, incarnation)).await.unwrap()
}

/// A lease of ours with these instances published.
async fn published(memory: &MemoryRegistry, ids: &[&str]) -> Arc<dyn Lease> {
    let lease = lease_of(memory, US).await;
    let records: Vec<_> = ids.iter().map(|id| record(US, id)).collect();
    for outcome in lease.publish(&records).await {
        outcome.unwrap();
    }
    lease
}

fn ids(memory: &MemoryRegistry) -> Vec<String> {
    memory.snapshot_of("orders").iter().map(|i| i.id().to_string()).collect()
}

fn kinds(outcomes: &[Outcome]) -> Vec<Option<ErrorKind>> {
    outcomes.iter().map(|o| o.as_ref().err().map(Error::kind)).collect()
}

/// An open watch whose opening event was read.
async fn opened(memory: &MemoryRegistry) -> (WatchStream, Event) {
    let mut watch = memory.watch(&target(), None);
    let opening = next(&mut watch).await;
    (watch, opening)
}

async fn next(watch: &mut WatchStream) -> Event {
    watch.next().await.expect("the watch goes on").expect("the watch has not failed")
}

/// The next event that changes something.
async fn change(watch: &mut WatchStream) -> Event {
    loop {
        let event = next(watch).await;
        if !event.changes.is_empty() || !event.rejected.is_empty() {
            return event;
        }
    }
}

/// The one error a watch ends with.
async fn end(watch: &mut WatchStream) -> ErrorKind {
    loop {
        match watch.next().await.expect("a watch ends with an error") {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.backend(), Some("memory"));
                assert_eq!(error.operation(), Some("watch"));
                assert!(watch.next().await.is_none(), "the error is the last item");
                return error.kind();
            }
        }
    }
}

/// `=a,b` for a reset, `~` for resumed, `+a` for an upsert, `-a` for a removal, `?a` for an undecodable record.
fn told(event: &Event) -> String {
    let list = |all: &[Arc<Instance>]| all.iter().map(|i| i.id().as_str()).collect::<Vec<_>>().join(",");
    let changes = event.changes.iter().map(|change| match change {
        Change::Reset(all) => format!("={}", list(all)),
        Change::Resumed => "~".to_owned(),
        Change::Upsert(instance) => format!("+{}", instance.id()),
        Change::Remove(key) => format!("-{}", key.id),
    });
    let rejected = event.rejected.iter().map(|key| format!("?{}", key.id));
    changes.chain(rejected).collect::<Vec<_>>().join(" ")
}

async fn look(memory: &MemoryRegistry) -> Vec<String> {
    let listing = memory.lookup(&target(), &Read::default()).await.unwrap();
    listing.instances.iter().map(|i| i.id().to_string()).collect()
}
