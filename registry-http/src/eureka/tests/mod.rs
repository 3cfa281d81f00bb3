//! The backend against servers that answer as they are told.

mod absence;
mod calls;
mod leases;
mod watches;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use registry_core::{
    Backend, ConnectContext, Error, Incarnation, Instance, Lease, Namespace, OnDuplicate, Target,
    backend::{Change, Event, Grant, Publish, WatchStream},
    model::RecordVersion,
};
use serde_json::{Value, json};

use super::{EurekaConfig, EurekaConnector};
use crate::http::fake::{Fake, Reply, Seen};

const OURS: Incarnation = Incarnation::from_bits(1);
const THEIRS: Incarnation = Incarnation::from_bits(2);
/// What anything that isn't to fail takes at most.
const PATIENCE: Duration = Duration::from_secs(10);

async fn backend(servers: &[&str], options: &str) -> Backend {
    let url = format!("eureka://{}?poll=100ms&{options}", servers.join(","));
    let config: EurekaConfig = url.trim_end_matches('&').parse().unwrap();
    let context = ConnectContext::new(Namespace::default(), Duration::from_secs(30));
    EurekaConnector::new().backend(config, &context).await.unwrap()
}

async fn lease(backend: &Backend) -> Arc<dyn Lease> {
    let grant = Grant::new(Duration::from_secs(30), OURS);
    backend.registry.as_ref().unwrap().grant(&grant).await.unwrap()
}

fn instance(id: &str) -> Instance {
    Instance::builder("orders").id(id).endpoint("http://10.0.0.7:8080").build().unwrap()
}

fn record(instance: &Instance) -> Publish {
    let version = RecordVersion { incarnation: OURS, epoch: 1, sequence: 1 };
    Publish::new(Arc::new(instance.clone()), version, OnDuplicate::TakeOver)
}

/// An instance as a server lists it, by its own dialect.
fn listed(id: &str, action: &str) -> Value {
    json!({"instanceId": id, "hostName": "h", "app": "ORDERS", "status": "UP", "port": {"$": 80, "@enabled": "true"},
        "leaseInfo": {"registrationTimestamp": 7}, "actionType": action})
}

fn applications(hash: &str, instances: &[Value]) -> String {
    let apps = json!([{"name": "ORDERS", "instance": instances}]);
    json!({"applications": {"versions__delta": "1", "apps__hashcode": hash, "application": apps}}).to_string()
}

fn list(ids: &[&str]) -> Reply {
    let instances: Vec<_> = ids.iter().map(|id| listed(id, "ADDED")).collect();
    let hash = if ids.is_empty() { String::new() } else { format!("UP_{}_", ids.len()) };
    Reply::ok(applications(&hash, &instances))
}

fn delta(hash: &str, items: &[(&str, &str)]) -> Reply {
    let instances: Vec<_> = items.iter().map(|(id, action)| listed(id, action)).collect();
    Reply::ok(applications(hash, &instances))
}

fn target() -> Target {
    Target::try_from("orders").unwrap()
}

fn watch(backend: &Backend) -> WatchStream {
    backend.discovery.as_ref().unwrap().watch(&target(), None)
}

async fn next(watch: &mut WatchStream) -> Result<Event, Error> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("in time").expect("the stream goes on")
}

/// The changes of an event in short: `=[a b]`, `+a`, `-a`; nothing for a sign of life.
fn told(event: &Event) -> String {
    let id = |instance: &Arc<Instance>| instance.id().as_str().to_owned();
    let told = event.changes.iter().map(|change| match change {
        Change::Reset(all) => {
            let mut ids: Vec<_> = all.iter().map(id).collect();
            ids.sort();
            format!("=[{}]", ids.join(" "))
        }
        Change::Upsert(instance) => format!("+{}", id(instance)),
        Change::Remove(key) => format!("-{}", key.id),
        other => panic!("{other:?}"),
    });
    told.collect::<Vec<_>>().join(" ")
}

fn count(fake: &Fake, method: &str, target: &str) -> usize {
    fake.seen().iter().filter(|seen| seen.method == method && seen.target.starts_with(target)).count()
}

/// Whether one instance is asked for, of which a server says what it knows from the start.
fn is_single(seen: &Seen) -> bool {
    seen.target.trim_start_matches("/eureka/apps/").contains('/')
}
