//! Rows 28 and 36, and more: an operator deletes records or revokes a lease behind our back.

use std::time::Duration;

use registry_testkit::{
    Etcd,
    faults::{
        Figure, FleetFactory, History, Invariant, Losses, Observation, Policy, Violation, losses,
        r1_reconvergence, r4_callback_discipline, r7_isolation,
    },
};
use service_registry::{InstanceKey, LossCause, OnMissing, Phase, RegistrationEvent};
use tokio::time::{Instant, sleep};

use super::{
    rows,
    truth::Truth,
    world::{BACK_WITHIN, Must, SLACK, Stage, TTL, WRITER, World, ensure, instance, key, path, told, url},
};

rows! {
    row_28_a_record_that_an_operator_deletes_comes_back_with_the_next_audit = reassert;
    row_28_a_deletion_is_respected_if_so_configured_until_the_next_update = respect;
    row_36_one_deleted_record_of_many_under_one_lease_is_nobody_elses_loss = one_of_many;
    row_28_a_revoked_lease_costs_each_registration_one_loss = revoked;
}

/// Configured; the default is 60 s.
const AUDIT: Duration = Duration::from_secs(2);
/// An audit comes within 1.2 times its period, asks, and publishes.
const AUDITED: Duration = Duration::from_millis(2400);

async fn world<'a>(
    etcd: &Etcd,
    fleets: &dyn FleetFactory,
    history: &'a History,
    on_missing: OnMissing,
) -> Result<World<'a>, Violation> {
    let stage = Stage::new(&url(&[etcd.address()]), Truth::of(etcd)).options("audit=2s");
    stage.policy(Policy::default().on_missing(on_missing)).open(fleets, history).await
}

async fn delete(etcd: &Etcd, history: &History, key: &InstanceKey) -> Result<(), Violation> {
    etcd.ctl().run(&["del", "--", &path(key.id.as_str())]).await.must("delete")?;
    history.record(Observation::Gone { key: key.clone(), why: "deleted by an operator".into() });
    // What counts from now on: the record is gone, and the audit has to find it.
    history.usable("deleted");
    Ok(())
}

async fn reassert(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let world = world(&etcd, fleets, history, OnMissing::Reassert).await?;
    let hit = key("i07");
    delete(&etcd, history, &hit).await?;
    // A look that was begun after the deletion, or nothing seems to be missing.
    gone_once(&world, &hit).await?;
    let back = world.judged(AUDITED + SLACK, |h| r1_reconvergence(h, AUDITED + SLACK)).await?;
    lost_once(history, &hit, LossCause::Missing)?;
    let others = r7_isolation(history, &[hit])?;
    world.never_without()?;
    world.close().await?;
    Ok(back.with(&others))
}

async fn respect(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let world = world(&etcd, fleets, history, OnMissing::Respect).await?;
    let hit = key("i07");
    delete(&etcd, history, &hit).await?;
    let start = Instant::now();
    let blocked = registry_testkit::eventually("blocked", AUDITED + SLACK, async || {
        (world.writer.phase(&hit) == Some(Phase::Blocked)).then_some(())
    });
    blocked.await.must("respecting the deletion")?;
    let noticed = start.elapsed();
    // Some audits long.
    sleep(2 * AUDIT).await;
    let stands = world.reader.view().records.contains_key(&hit);
    ensure(!stands, "the deleted record came back")?;
    let others = r7_isolation(history, std::slice::from_ref(&hit))?;
    let newer = instance("i07").to_builder().metadata("release", "2").build().must("an instance")?;
    world.writer.update(newer).await.must("update")?;
    history.usable("updated");
    world.judged(BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
    r4_callback_discipline(history)?;
    world.never_without()?;
    world.close().await?;
    Ok(Figure::new("noticed after", noticed).with(&others))
}

async fn one_of_many(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let world = world(&etcd, fleets, history, OnMissing::Reassert).await?;
    let hit = [key("i07"), key("i42")];
    delete(&etcd, history, &hit[0]).await?;
    // The other is taken over by a stranger.
    let url = format!("{}&audit=2s", url(&[etcd.address()]));
    let rival = fleets.open("rival", &url, history).await.must("opening the rival")?;
    rival.register(instance("i42"), Policy::default()).await.must("taking over")?;
    gone_once(&world, &hit[0]).await?;
    world.judged(AUDITED + SLACK, |h| told_loss(h, &hit[1], LossCause::Superseded)).await?;
    world.judged(AUDITED + SLACK, |h| told_loss(h, &hit[0], LossCause::Missing)).await?;
    // A time to live later nobody else has suffered.
    sleep(TTL).await;
    let others = r7_isolation(history, &hit)?;
    let keys: Vec<InstanceKey> = world.keys().into_iter().filter(|key| !hit.contains(key)).collect();
    losses(history, &keys, Losses::None)?;
    lost_once(history, &hit[0], LossCause::Missing)?;
    lost_once(history, &hit[1], LossCause::Superseded)?;
    world.never_without()?;
    rival.close().await;
    drop(rival);
    world.leave().await?;
    Ok(others)
}

async fn revoked(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let world = world(&etcd, fleets, history, OnMissing::Reassert).await?;
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

/// Waits until somebody has seen that the record is gone.
async fn gone_once(world: &World<'_>, key: &InstanceKey) -> Result<(), Violation> {
    let seen = registry_testkit::eventually("a look that shows that it is gone", BACK_WITHIN, async || {
        let entries = world.history.entries();
        let usable = entries.iter().rposition(|entry| matches!(entry.what, Observation::Usable(_)))?;
        let gone = |entry: &registry_testkit::faults::Entry| match &entry.what {
            Observation::Truth(records) => !records.contains_key(key),
            _ => false,
        };
        // It may have been back before anybody looked, which its loss tells.
        let lost = told(world.history, WRITER, key).iter().any(is_lost);
        (lost || entries[usable..].iter().any(gone)).then_some(())
    });
    seen.await.must("the deletion")
}

fn is_lost(event: &RegistrationEvent) -> bool {
    matches!(event, RegistrationEvent::Lost { .. })
}

fn told_loss(history: &History, key: &InstanceKey, expected: LossCause) -> Result<Figure, Violation> {
    let told = told(history, WRITER, key);
    let lost = told.iter().find_map(|event| match event {
        RegistrationEvent::Lost { cause, .. } => Some(*cause),
        _ => None,
    });
    if lost == Some(expected) {
        return Ok(Figure::default());
    }
    Err(Violation::new(Invariant::R4, format!("{key} was told {told:?}, not that it is {expected:?}")))
}

/// Exactly one loss, for the right reason.
pub(super) fn lost_once(history: &History, key: &InstanceKey, cause: LossCause) -> Result<(), Violation> {
    told_loss(history, key, cause)?;
    r4_callback_discipline(history)?;
    let count = told(history, WRITER, key).iter().filter(|event| is_lost(event)).count();
    if count != 1 {
        return Err(Violation::new(Invariant::R4, format!("{key} was lost {count} times")));
    }
    Ok(())
}
