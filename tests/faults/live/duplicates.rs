//! Row 21: two processes publish under one id.

use std::time::Duration;

use registry_testkit::{
    eventually,
    faults::{
        Figure, FleetFactory, History, Invariant, Losses, Observation, Policy, Violation, losses,
        r4_callback_discipline,
    },
};
use service_registry::{ErrorKind, InstanceKey, LossCause, OnDuplicate, Phase};
use tokio::time::sleep;

use super::{
    Place, Site,
    operator::lost_once,
    site::COUNT,
    world::{Must, SLACK, call, ensure, instance, key},
};

/// Audits are how the loser hears of it.
const AUDIT: &str = "audit=2s";

pub(crate) async fn take_over(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let world = place.stage().count(COUNT).options(AUDIT).open(fleets, history).await?;
    let hit = key("i02");
    let url = format!("{}&{AUDIT}", place.url());
    let rival = fleets.open("rival", &url, history).await.must("opening the rival")?;
    rival.register(instance("i02"), Policy::default()).await.must("taking over")?;
    history.mark("taken over");
    let heard = eventually("the loser hears of it", place.bounds.superseded + SLACK, async || {
        lost_once(history, &hit, LossCause::Superseded).ok()
    });
    heard.await.must("the loss")?;
    // Several audits and a time to live: time enough to fight back.
    sleep(2 * place.bounds.ttl).await;
    lost_once(history, &hit, LossCause::Superseded)?;
    let claimed = world.writer.phase(&hit);
    ensure(claimed != Some(Phase::Live), "the loser claims to be live")?;
    let winner = rival.phase(&hit);
    ensure(winner == Some(Phase::Live), format!("the winner is {winner:?}"))?;
    let owners = owners(history, &hit);
    if owners != 2 {
        return Err(Violation::new(Invariant::R4, format!("{} swaps of the record", owners.max(1) - 1)));
    }
    r4_callback_discipline(history)?;
    world.never_without()?;
    rival.close().await;
    drop(rival);
    world.leave().await?;
    Ok(Figure::new("swaps", 1_u64).and("losses", 1_u64))
}

pub(crate) async fn reject(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let world = place.stage().count(COUNT).options(AUDIT).open(fleets, history).await?;
    let rival = fleets.open("rival", &place.url(), history).await.must("opening the rival")?;
    let policy = Policy::default().on_duplicate(OnDuplicate::Reject);
    let refused = call(history, "register", rival.register(instance("i02"), policy)).await;
    let kind = refused.err().map(|error| error.kind());
    ensure(kind == Some(ErrorKind::Conflict), format!("a duplicate was answered with {kind:?}"))?;
    sleep(place.bounds.ttl + Duration::from_secs(1)).await;
    losses(history, &world.keys(), Losses::None)?;
    let owners = owners(history, &key("i02"));
    ensure(owners == 1, format!("the record had {owners} owners"))?;
    rival.close().await;
    drop(rival);
    history.usable("all the time");
    let figure = world.recovers(Losses::None).await?;
    Ok(Figure::new("refused as", "Conflict").with(&figure))
}

/// How many lives have owned a record, counted in turns.
pub(crate) fn owners(history: &History, key: &InstanceKey) -> usize {
    let mut turns = Vec::new();
    for entry in history.entries() {
        if let Observation::Truth(records) = &entry.what
            && let Some(version) = records.get(key).and_then(|record| record.record_version())
            && turns.last() != Some(&version.incarnation)
        {
            turns.push(version.incarnation);
        }
    }
    turns.len()
}
