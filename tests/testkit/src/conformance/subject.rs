//! The backend in a case, with two client lives that use it.

use std::{collections::BTreeMap, future::Future, net::Ipv4Addr, sync::Arc, time::Duration};

use registry_core::{
    Backend, Catalogue, Discovery, Error, ErrorKind, Incarnation, Instance, InstanceId, InstanceKey, Lease,
    OnDuplicate, Registry, ServiceName, Target,
    backend::{Cursor, Grant, Outcome, Publish, Read},
    model::RecordVersion,
};

use super::{DEADLINE, Fixture, Stage, watch::Watch};
use crate::eventually;

/// Of leases that must not end while a case runs.
pub(super) const TTL: Duration = Duration::from_secs(60);

pub(super) const OURS: Incarnation = Incarnation::from_bits(0xA11CE);
pub(super) const THEIRS: Incarnation = Incarnation::from_bits(0xB0B);

pub(super) struct Subject {
    pub(super) backend: Backend,
}

impl Subject {
    pub(super) async fn open(fixture: &impl Fixture) -> Self {
        Self::with_standing(fixture, Vec::new()).await
    }

    /// Opens the backend with these instances in it.
    pub(super) async fn with_standing(fixture: &impl Fixture, standing: Vec<Instance>) -> Self {
        let backend = fixture.open(Stage::new(standing.clone())).await;
        let subject = Self { backend };
        let expected = standing.clone();
        if subject.backend.registry.is_some() && !standing.is_empty() {
            // The lease may be dropped: that withdraws nothing.
            let lease = subject.grant(OURS).await;
            for some in standing.chunks(subject.backend.capabilities.publish_batch) {
                let records: Vec<_> = some.iter().map(|instance| record(OURS, instance)).collect();
                all_ok(&publish(&lease, &records).await);
            }
        }
        subject.stand(&expected).await;
        subject
    }

    /// Waits until as many instances are found as stand there: a registry may show what was written only later.
    async fn stand(&self, standing: &[Instance]) {
        if self.backend.discovery.is_none() {
            return;
        }
        let mut counts: BTreeMap<ServiceName, usize> = BTreeMap::new();
        for instance in standing {
            *counts.entry(instance.service().clone()).or_default() += 1;
        }
        for (service, count) in counts {
            let mut last = 0;
            let stands = eventually("what stands there", DEADLINE, async || {
                last = self.lookup(&service).await.len();
                (last == count).then_some(())
            });
            let stands = stands.await;
            assert!(stands.is_ok(), "a lookup of {service} finds {last} instances rather than {count}");
        }
    }

    pub(super) fn discovery(&self) -> &Arc<dyn Discovery> {
        self.backend.discovery.as_ref().expect("this group needs a Discovery")
    }

    pub(super) fn catalogue(&self) -> &Arc<dyn Catalogue> {
        self.backend.catalogue.as_ref().expect("this group needs a Catalogue")
    }

    fn registry(&self) -> &Arc<dyn Registry> {
        self.backend.registry.as_ref().expect("this group needs a Registry")
    }

    /// A lease that outlives the case.
    pub(super) async fn grant(&self, incarnation: Incarnation) -> Arc<dyn Lease> {
        self.grant_for(incarnation, TTL).await
    }

    pub(super) async fn grant_for(&self, incarnation: Incarnation, ttl: Duration) -> Arc<dyn Lease> {
        let grant = Grant::new(ttl, incarnation);
        within("a grant", self.registry().grant(&grant)).await.expect("the registry grants a lease")
    }

    /// One look; the instances sorted by id.
    pub(super) async fn lookup(&self, service: &ServiceName) -> Vec<Instance> {
        let (target, read) = (Target::new(service.clone()), Read::default());
        let listing = within("a lookup", self.discovery().lookup(&target, &read)).await;
        let listing = listing.expect("the registry answers");
        assert_eq!(listing.rejected, [], "every record can be decoded");
        let mut instances: Vec<_> = listing.instances.iter().map(|instance| (**instance).clone()).collect();
        instances.sort_by(|a, b| a.id().cmp(b.id()));
        instances
    }

    /// Waits until a look finds exactly these instances, as registries may answer from a replica or a cache.
    pub(super) async fn finds(&self, service: &ServiceName, expected: &[Instance]) {
        let mut expected = expected.to_vec();
        expected.sort_by(|a, b| a.id().cmp(b.id()));
        let mut last = Vec::new();
        let found = eventually("the expected listing", DEADLINE, async || {
            last = self.lookup(service).await;
            (last == expected).then_some(())
        });
        let found = found.await;
        assert!(found.is_ok(), "a lookup of {service} gives {last:#?}\nrather than {expected:#?}");
    }

    pub(super) fn watch(&self, service: &ServiceName, cursor: Option<Cursor>) -> Watch {
        Watch::new(self.discovery().watch(&Target::new(service.clone()), cursor))
    }
}

/// Waits, for a bounded time.
pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    within_time(what, DEADLINE, future).await
}

pub(super) async fn within_time<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

pub(super) fn service(name: &str) -> ServiceName {
    ServiceName::foreign(name).expect("a name")
}

pub(super) fn instance(service: &str, id: &str) -> Instance {
    Instance::builder(service).id(id).endpoint(endpoint(id)).build().expect("an instance")
}

/// An endpoint that no other id of the suite has: some registries know an instance by its address.
pub(super) fn endpoint(id: &str) -> String {
    // FNV-1a, as the hashers of the standard library may change.
    let hash =
        id.bytes().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    // Of the upper half of 10/8: cases write addresses of the lower half by hand.
    let host = Ipv4Addr::from(0x0A80_0000 | ((hash ^ (hash >> 9)) & 0x007F_FFFF));
    format!("http://{host}:8080")
}

/// An instance that can be told from others of the same key.
pub(super) fn weighing(id: &str, weight: u32) -> Instance {
    instance("orders", id).to_builder().weight(weight).build().expect("an instance")
}

pub(super) fn key(id: &str) -> InstanceKey {
    InstanceKey::new(service("orders"), InstanceId::new(id).expect("an id"))
}

/// A record that replaces whatever stands there.
pub(super) fn record(incarnation: Incarnation, instance: &Instance) -> Publish {
    record_of(incarnation, instance, OnDuplicate::TakeOver)
}

pub(super) fn record_of(incarnation: Incarnation, instance: &Instance, on_duplicate: OnDuplicate) -> Publish {
    // The sequence follows the content, as it does in a client.
    let version = RecordVersion { incarnation, epoch: 1, sequence: u64::from(instance.weight().get()) };
    Publish::new(Arc::new(instance.clone()), version, on_duplicate)
}

pub(super) async fn publish(lease: &Arc<dyn Lease>, records: &[Publish]) -> Vec<Outcome> {
    let outcomes = within("a publication", lease.publish(records)).await;
    assert_eq!(outcomes.len(), records.len(), "one outcome per record");
    outcomes
}

pub(super) async fn withdraw(lease: &Arc<dyn Lease>, instances: &[Instance]) -> Vec<Outcome> {
    let instances: Vec<_> = instances.iter().cloned().map(Arc::new).collect();
    let outcomes = within("a withdrawal", lease.withdraw(&instances)).await;
    assert_eq!(outcomes.len(), instances.len(), "one outcome per instance");
    outcomes
}

pub(super) async fn revoke(lease: &Arc<dyn Lease>) {
    within("a revocation", lease.revoke()).await.expect("the registry confirms the revocation");
}

pub(super) fn all_ok(outcomes: &[Outcome]) {
    assert_eq!(kinds(outcomes), vec![None; outcomes.len()], "{outcomes:?}");
}

/// What kind of error each outcome is; none for a success.
pub(super) fn kinds(outcomes: &[Outcome]) -> Vec<Option<ErrorKind>> {
    outcomes.iter().map(|outcome| outcome.as_ref().err().map(Error::kind)).collect()
}
