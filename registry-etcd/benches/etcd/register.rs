//! R1: 1,000 registrations.

use std::time::Duration;

use etcd_client::LeaseGrantOptions;
use futures_util::{StreamExt, future::try_join_all, stream};
use registry_bench_support::{Bound, quantile};
use registry_core::{
    ConnectContext, Connector, Incarnation, Namespace, OnDuplicate,
    backend::{Grant, Publish},
    model::RecordVersion,
};
use registry_etcd::EtcdConnector;
use tokio::time::Instant;

use crate::stage::{Stage, instance, key, under, value};

const ROUNDS: usize = 5;
const COUNT: usize = 1_000;
const IN_FLIGHT: usize = 64;
const TTL: Duration = Duration::from_secs(60);

pub(crate) async fn measure() -> Vec<Bound> {
    let stage = Stage::start("R1, 1,000 registrations").await;
    let (mut faster, mut own) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let one_by_one = sequential(&stage).await;
        let batch = through_the_client(&stage).await;
        let leases = own_leases(&stage).await;
        println!(
            "round {}: one by one {one_by_one:.1?}, batch {batch:.1?}, own leases {leases:.1?}",
            round + 1
        );
        faster.push(one_by_one.as_secs_f64() / batch.as_secs_f64());
        own.push(leases.as_secs_f64() / one_by_one.as_secs_f64());
    }
    let (faster, own) = (quantile(&faster, 0.5), quantile(&own, 0.5));
    vec![
        Bound::at_least("R1", "1,000 through the client", faster, 30.0, "x faster than one by one"),
        Bound::at_most("R1", "1,000 with a lease each, 64 in flight", own, 0.6, "x one by one"),
    ]
}

/// A bare client: a lease and a put each, one after the other.
async fn sequential(stage: &Stage) -> Duration {
    let mut raw = stage.raw().await;
    let values: Vec<_> = (0..COUNT).map(|number| (key(number), value(number, 1))).collect();
    let mut leases = Vec::new();
    let start = Instant::now();
    for (key, value) in values {
        let options = LeaseGrantOptions::new().with_id(fastrand::i64(1..i64::MAX));
        let lease = raw.lease_grant(TTL.as_secs().cast_signed(), Some(options)).await.unwrap().id();
        raw.put(key, value, under(lease)).await.unwrap();
        leases.push(lease);
    }
    let took = start.elapsed();
    stream::iter(leases)
        .for_each_concurrent(IN_FLIGHT, |lease| {
            let mut raw = raw.clone();
            async move { raw.lease_revoke(lease).await.map(|_| ()).unwrap() }
        })
        .await;
    stage.clear().await;
    took
}

/// One of our clients, asked for all at once.
async fn through_the_client(stage: &Stage) -> Duration {
    let client = stage.client().await;
    let instances: Vec<_> = (0..COUNT).map(instance).collect();
    let start = Instant::now();
    let registrations =
        try_join_all(instances.into_iter().map(|instance| client.register(instance))).await.unwrap();
    let took = start.elapsed();
    assert_eq!(registrations.len(), COUNT);
    client.close().await;
    stage.clear().await;
    took
}

/// Our backend with a lease for each record, as a gateway needs that registers for others.
async fn own_leases(stage: &Stage) -> Duration {
    let context = ConnectContext::new(Namespace::new("bench").unwrap(), TTL);
    let backend = EtcdConnector::new().connect(&stage.url().parse().unwrap(), &context).await.unwrap();
    let (registry, incarnation) = (backend.registry.unwrap(), Incarnation::generate());
    let version = RecordVersion { incarnation, epoch: 1, sequence: 1 };
    let records: Vec<_> = (0..COUNT)
        .map(|number| Publish::new(instance(number).into(), version, OnDuplicate::TakeOver))
        .collect();
    // Opens the connection.
    registry.grant(&Grant::new(TTL, incarnation)).await.unwrap().revoke().await.unwrap();
    let start = Instant::now();
    let leases: Vec<_> = stream::iter(records)
        .map(|record| {
            let registry = &registry;
            async move {
                let lease = registry.grant(&Grant::new(TTL, incarnation)).await.unwrap();
                lease.publish(&[record]).await.remove(0).unwrap();
                lease
            }
        })
        .buffer_unordered(IN_FLIGHT)
        .collect()
        .await;
    let took = start.elapsed();
    stream::iter(leases)
        .for_each_concurrent(IN_FLIGHT, |lease| async move { lease.revoke().await.unwrap() })
        .await;
    took
}
