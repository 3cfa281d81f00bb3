//! Rows 28 and 36, and more: an operator deletes records or revokes a lease behind our back.

use registry_testkit::{
    Etcd,
    faults::{Figure, FleetFactory, History, Losses, Observation, Violation, r1_reconvergence},
};
use service_registry::LossCause;

use super::{
    rows,
    site::EtcdSite,
    truth::Truth,
    world::{BACK_WITHIN, Must, Stage, ensure, key, path, url},
};
use crate::live::operator::{self, AUDIT, gone_once, lost_once};

rows! {
    everywhere on EtcdSite {
        row_28_a_record_that_an_operator_deletes_comes_back_with_the_next_audit = operator::reassert;
        row_28_a_deletion_is_respected_if_so_configured_until_the_next_update = operator::respect;
        row_36_one_deleted_record_of_many_under_one_lease_is_nobody_elses_loss = operator::one_of_many;
    }
    here {
        row_28_a_revoked_lease_costs_each_registration_one_loss = revoked;
    }
}

async fn revoked(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let stage = Stage::new(&url(&[etcd.address()]), Truth::of(&etcd)).options(AUDIT);
    let world = stage.open(fleets, history).await?;
    let keys = world.keys();
    let stored = etcd.ctl().get_prefix(&path("")).await.must("keys")?;
    let lease = stored.first().map(|key| key.lease).unwrap_or_default();
    ensure(lease != 0, "the records have no lease")?;
    ensure(stored.iter().all(|key| key.lease == lease), "the records don't share one lease")?;
    etcd.ctl().revoke_lease(lease).await.must("revoke")?;
    for key in &keys {
        history.record(Observation::Gone { key: key.clone(), why: "lease revoked".into() });
    }
    history.usable("revoked");
    gone_once(&world, &key("i07")).await?;
    world.judged(BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
    for key in &keys {
        lost_once(history, key, LossCause::Revoked)?;
    }
    world.recovers(Losses::OneEach).await
}
