//! Rows 28 and 36: an operator deletes records behind our back.

use registry_testkit::{
    eventually,
    faults::{
        Entry, Figure, FleetFactory, History, Invariant, Losses, Observation, Policy, Violation, losses,
        r1_reconvergence, r4_callback_discipline, r7_isolation,
    },
};
use service_registry::{InstanceKey, LossCause, OnMissing, Phase, RegistrationEvent};
use tokio::time::{Instant, sleep};

use super::{
    Place, Site,
    world::{BACK_WITHIN, Must, SLACK, WRITER, World, ensure, instance, key, told},
};

/// Configured; the default is 60 s. What a beat shows needs none.
pub(crate) const AUDIT: &str = "audit=2s";

async fn world<'a>(
    place: &Place<'_>,
    fleets: &dyn FleetFactory,
    history: &'a History,
    on_missing: OnMissing,
) -> Result<World<'a>, Violation> {
    let stage = place.stage().options(AUDIT);
    stage.policy(Policy::default().on_missing(on_missing)).open(fleets, history).await
}

async fn delete(place: &Place<'_>, history: &History, id: &str) -> Result<(), Violation> {
    place.delete(history, &instance(id)).await?;
    // What counts from now on: the record is gone, and has to be missed.
    history.usable("deleted");
    Ok(())
}

pub(crate) async fn reassert(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let world = world(&place, fleets, history, OnMissing::Reassert).await?;
    let hit = key("i07");
    delete(&place, history, "i07").await?;
    // A look that was begun after the deletion, or nothing seems to be missing.
    gone_once(&world, &hit).await?;
    let within = place.bounds.noticed;
    let back = world.judged(within + SLACK, |h| r1_reconvergence(h, within + SLACK)).await?;
    lost_once(history, &hit, LossCause::Missing)?;
    let others = r7_isolation(history, &[hit])?;
    world.never_without()?;
    world.close().await?;
    Ok(back.with(&others))
}

pub(crate) async fn respect(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let world = world(&place, fleets, history, OnMissing::Respect).await?;
    let hit = key("i07");
    delete(&place, history, "i07").await?;
    let start = Instant::now();
    let blocked = eventually("blocked", place.bounds.noticed + SLACK, async || {
        (world.writer.phase(&hit) == Some(Phase::Blocked)).then_some(())
    });
    blocked.await.must("respecting the deletion")?;
    let noticed = start.elapsed();
    // Some beats and audits long.
    sleep(2 * place.bounds.noticed).await;
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

/// One is deleted, another taken over by a stranger; nobody else suffers.
pub(crate) async fn one_of_many(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let world = world(&place, fleets, history, OnMissing::Reassert).await?;
    let hit = [key("i03"), key("i07")];
    delete(&place, history, "i03").await?;
    let url = format!("{}&{AUDIT}", place.url());
    let rival = fleets.open("rival", &url, history).await.must("opening the rival")?;
    rival.register(instance("i07"), Policy::default()).await.must("taking over")?;
    let within = place.bounds.noticed + SLACK;
    world.judged(within, |h| told_loss(h, &hit[0], LossCause::Missing)).await?;
    let within = place.bounds.superseded + SLACK;
    world.judged(within, |h| told_loss(h, &hit[1], LossCause::Superseded)).await?;
    // A time to live later nobody else has suffered.
    sleep(place.bounds.ttl).await;
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

/// Waits until somebody has seen that the record is gone.
pub(crate) async fn gone_once(world: &World<'_>, key: &InstanceKey) -> Result<(), Violation> {
    let seen = eventually("a look that shows that it is gone", BACK_WITHIN, async || {
        let entries = world.history.entries();
        let usable = entries.iter().rposition(|entry| matches!(entry.what, Observation::Usable(_)))?;
        let gone = |entry: &Entry| match &entry.what {
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
pub(crate) fn lost_once(history: &History, key: &InstanceKey, cause: LossCause) -> Result<(), Violation> {
    told_loss(history, key, cause)?;
    r4_callback_discipline(history)?;
    let count = told(history, WRITER, key).iter().filter(|event| is_lost(event)).count();
    if count != 1 {
        return Err(Violation::new(Invariant::R4, format!("{key} was lost {count} times")));
    }
    Ok(())
}
