//! The reflector's rules, one by one, over random scripts, and with the task around them.

mod bench;
mod exhaustive;
mod fake;
mod properties;
mod rules;
mod sessions;
mod task;
mod upstream;

use std::{sync::Arc, time::Duration};

use crate::{
    Status,
    backend::{Change, Cursor, Event, Evidence, Listing, SourceId},
    model::{Instance, InstanceId, InstanceKey, ServiceName},
};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn key(id: &str) -> InstanceKey {
    InstanceKey::new(ServiceName::new("orders").unwrap(), InstanceId::new(id).unwrap())
}

fn keys(ids: &[&str]) -> Vec<InstanceKey> {
    ids.iter().map(|id| key(id)).collect()
}

fn instance(id: &str) -> Arc<Instance> {
    weighted(id, 100)
}

fn weighted(id: &str, weight: u32) -> Arc<Instance> {
    let builder = Instance::builder("orders").id(id).endpoint("http://10.0.0.7:8080").weight(weight);
    Arc::new(builder.build().unwrap())
}

fn draining(id: &str) -> Arc<Instance> {
    Arc::new(instance(id).to_builder().status(Status::Draining).build().unwrap())
}

fn instances(ids: &[&str]) -> Vec<Arc<Instance>> {
    ids.iter().map(|id| instance(id)).collect()
}

/// Evidence of the data `a` at a revision, from endpoint `n1`.
fn at(revision: u64) -> Evidence {
    Evidence { endpoint: Some("n1".into()), ..Evidence::at(SourceId::new("a"), revision) }
}

fn event(changes: Vec<Change>, revision: u64) -> Event {
    Event::new(changes, Some(Cursor::new(revision.to_string())), at(revision))
}

fn reset(ids: &[&str], revision: u64) -> Event {
    event(vec![Change::Reset(instances(ids))], revision)
}

fn removal(ids: &[&str], revision: u64) -> Event {
    event(ids.iter().map(|id| Change::Remove(key(id))).collect(), revision)
}

fn listing(ids: &[&str], revision: u64) -> Listing {
    Listing::new(instances(ids), at(revision))
}
