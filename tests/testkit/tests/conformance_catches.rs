//! That the conformance suite fails a backend that breaks its promises: each fault of the in-process registry, and each
//! flaw of a lease around it, is noticed by the cases that ask for what it breaks.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_trait::async_trait;
use registry_core::{
    Error, ErrorKind, Instance, InstanceKey, Lease, MemoryRegistry, OnDuplicate, Registry,
    backend::{Backend, Grant, Lifetime, Outcome, Presence, Publish, Renewal},
    memory::Faults,
};
use registry_testkit::conformance::{Pace, Stage, cases, run};

/// Whether a case fails on a registry with this fault, and passes without.
macro_rules! catches {
    ($case:ident, $fault:expr) => {{
        let fault: fn(&Faults) = $fault;
        let fails = |fault: Option<fn(&Faults)>| {
            let open = async move |_: Stage| -> Backend {
                let memory = MemoryRegistry::new();
                if let Some(fault) = fault {
                    fault(&memory.faults());
                }
                memory.backend()
            };
            let case =
                || run(Pace::Paused, async { |stage: Stage| open(stage) }, async |f| cases::$case(f).await);
            catch_unwind(AssertUnwindSafe(case)).is_err()
        };
        assert!(!fails(None), "{} passes on a healthy registry", stringify!($case));
        fails(Some(fault))
    }};
}

#[test]
fn publications_that_are_not_stored() {
    fn fault(faults: &Faults) {
        faults.lose_publishes(true);
    }
    assert!(catches!(a_published_instance_is_found_with_all_its_fields, fault));
    assert!(catches!(a_prefix_of_a_name_is_another_service, fault));
    assert!(catches!(publish_replaces_our_own_record, fault));
    assert!(catches!(a_foreign_record_is_taken_over_when_asked, fault));
    assert!(catches!(a_foreign_record_is_refused_when_asked, fault));
    assert!(catches!(withdraw_leaves_a_successor_alone, fault));
    assert!(catches!(inspect_tells_ours_foreign_and_missing, fault));
    assert!(catches!(renewing_keeps_a_lease_alive, fault));
    assert!(catches!(the_catalogue_lists_services_with_instances, fault));
    assert!(catches!(the_catalogue_follows_services_that_come_and_go, fault));
}

#[test]
fn events_out_of_order_or_doubled() {
    assert!(catches!(upserts_and_removals_arrive_in_order, |faults| faults.reorder_events(true)));
    assert!(catches!(upserts_and_removals_arrive_in_order, |faults| faults.duplicate_events(true)));
}

#[test]
fn a_registry_that_is_silent() {
    fn fault(faults: &Faults) {
        faults.hang(true);
    }
    assert!(catches!(a_watch_opens_with_a_reset, fault));
    assert!(catches!(an_idle_watch_gives_signs_of_life, fault));
    assert!(catches!(a_lookup_of_an_unknown_service_is_empty, fault));
    assert!(catches!(renewing_a_revoked_lease_is_lease_lost, fault));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    IgnoresReject,
    RejectsEverything,
    WithdrawsAnybodys,
    FailsToWithdrawTwice,
    RevokesNothing,
    RevokesWhenDropped,
    RenewsWhatIsGone,
    CallsNothingForeign,
}

#[derive(Clone, Debug)]
struct Flawed {
    memory: MemoryRegistry,
    flaw: Flaw,
}

#[derive(Debug)]
struct FlawedLease {
    registry: Flawed,
    inner: Arc<dyn Lease>,
}

#[async_trait]
impl Registry for Flawed {
    async fn grant(&self, grant: &Grant) -> Result<Arc<dyn Lease>, Error> {
        let inner = self.memory.grant(grant).await?;
        Ok(Arc::new(FlawedLease { registry: self.clone(), inner }))
    }
}

#[async_trait]
impl Lease for FlawedLease {
    fn lifetime(&self) -> Lifetime {
        self.inner.lifetime()
    }

    async fn publish(&self, records: &[Publish]) -> Vec<Outcome> {
        let mut records = records.to_vec();
        match self.registry.flaw {
            Flaw::IgnoresReject => records.iter_mut().for_each(|r| r.on_duplicate = OnDuplicate::TakeOver),
            Flaw::RejectsEverything => records.iter_mut().for_each(|r| r.on_duplicate = OnDuplicate::Reject),
            _ => {}
        }
        self.inner.publish(&records).await
    }

    async fn withdraw(&self, instances: &[Arc<Instance>]) -> Vec<Outcome> {
        let faults = self.registry.memory.faults();
        let delete = |instance: &Arc<Instance>| match faults.delete(&instance.key()) {
            false if self.registry.flaw == Flaw::FailsToWithdrawTwice => {
                Err(Error::new(ErrorKind::NotFound, "no such record"))
            }
            _ => Ok(()),
        };
        match self.registry.flaw {
            Flaw::WithdrawsAnybodys | Flaw::FailsToWithdrawTwice => instances.iter().map(delete).collect(),
            _ => self.inner.withdraw(instances).await,
        }
    }

    async fn renew(&self, deadline: tokio::time::Instant) -> Result<Renewal, Error> {
        match self.inner.renew(deadline).await {
            Err(_) if self.registry.flaw == Flaw::RenewsWhatIsGone => Ok(Renewal::default()),
            answer => answer,
        }
    }

    async fn inspect(&self, keys: &[InstanceKey]) -> Result<Vec<Presence>, Error> {
        let mut found = self.inner.inspect(keys).await?;
        if self.registry.flaw == Flaw::CallsNothingForeign {
            found.iter_mut().filter(|p| **p == Presence::Foreign).for_each(|p| *p = Presence::Missing);
        }
        Ok(found)
    }

    async fn revoke(&self) -> Result<(), Error> {
        if self.registry.flaw == Flaw::RevokesNothing { Ok(()) } else { self.inner.revoke().await }
    }
}

impl Drop for FlawedLease {
    fn drop(&mut self) {
        if self.registry.flaw == Flaw::RevokesWhenDropped {
            let inner = Arc::clone(&self.inner);
            drop(tokio::spawn(async move { inner.revoke().await }));
        }
    }
}

macro_rules! notices {
    ($case:ident, $flaw:expr) => {{
        let open = async |stage: Stage| -> Backend {
            drop(stage);
            let memory = MemoryRegistry::new();
            let backend = memory.backend();
            backend.with_registry(Arc::new(Flawed { memory, flaw: $flaw }))
        };
        let case = || run(Pace::Paused, async { |stage| open(stage) }, async |f| cases::$case(f).await);
        catch_unwind(AssertUnwindSafe(case)).is_err()
    }};
}

#[test]
fn a_lease_that_breaks_a_promise() {
    assert!(notices!(a_foreign_record_is_refused_when_asked, Flaw::IgnoresReject));
    assert!(!notices!(publish_replaces_our_own_record, Flaw::RejectsEverything), "ours is no duplicate");
    assert!(notices!(a_foreign_record_is_taken_over_when_asked, Flaw::RejectsEverything));
    assert!(notices!(withdraw_leaves_a_successor_alone, Flaw::WithdrawsAnybodys));
    assert!(notices!(withdraw_is_idempotent, Flaw::FailsToWithdrawTwice));
    assert!(notices!(revoke_removes_everything_and_is_idempotent, Flaw::RevokesNothing));
    assert!(notices!(publishing_under_a_revoked_lease_is_lease_lost, Flaw::RevokesNothing));
    assert!(notices!(dropping_a_lease_withdraws_nothing, Flaw::RevokesWhenDropped));
    assert!(notices!(renewing_a_revoked_lease_is_lease_lost, Flaw::RenewsWhatIsGone));
    assert!(notices!(inspect_tells_ours_foreign_and_missing, Flaw::CallsNothingForeign));
}
