//! Rows 15, 16 and 22: lists that are suddenly short or empty, and a reader that is torn away while all changes.

use std::time::Duration;

use registry_testkit::{
    Proxy,
    faults::{
        Figure, FleetFactory, History, Invariant, Losses, Observation, Policy, Violation, d1_never_wiped,
        d2_convergence, d3_revisions, d4_event_algebra, d8_single_removals, losses, r1_reconvergence,
        r2_no_ghost,
    },
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    Place, Site,
    site::{COUNT, forgotten},
    world::{BACK_WITHIN, Must, READER, SLACK, instance, key, outage},
};

/// How long a suspicious shrink is held; shorter than the default, so that the stories are short too.
const HOLD: Duration = Duration::from_secs(4);

/// All expire at once, for good: held, then believed.
pub(crate) async fn all_expire(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let proxy = Proxy::start(place.address()).await.must("proxy")?;
    let stage = place.stage_via(&[proxy.address()]).reader(&place.url());
    let world = stage.options("shrink_guard=4s").open(fleets, history).await?;
    proxy.cut().await;
    history.outage("the writer is cut off");
    let begun = Instant::now();
    // The truth is empty when the registry has given up the last.
    let last = begun + place.bounds.forgets + SLACK;
    let emptied = registry_testkit::eventually("an empty registry", last - begun, async || {
        let entries = history.entries();
        let truth = entries.iter().rev().find_map(|entry| match &entry.what {
            Observation::Truth(records) => Some((entry.at, records.is_empty())),
            _ => None,
        });
        truth.and_then(|(at, empty)| empty.then_some(at))
    });
    let emptied = emptied.await.must("expiry")?;
    forgotten(history, world.keys(), "silent for too long");
    sleep(HOLD / 2 - SLACK).await;
    let held = d1_never_wiped(history, READER)?;
    history.mark("held so far");
    let empty = world.judged(HOLD + BACK_WITHIN, |h| {
        let entries = h.between(emptied, Duration::MAX).entries();
        let view = entries.iter().find_map(|entry| match &entry.what {
            Observation::View(view) if view.records.is_empty() => Some(entry.at - emptied),
            _ => None,
        });
        view.map(|after| Figure::new("zero after", after))
            .ok_or_else(|| Violation::run("the view was never empty"))
    });
    let empty = empty.await?;
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    world.judged(BACK_WITHIN, |h| r1_reconvergence(h, BACK_WITHIN)).await?;
    world.judged(BACK_WITHIN, |h| d2_convergence(h, READER, BACK_WITHIN)).await?;
    d3_revisions(history, READER)?;
    d4_event_algebra(history, READER)?;
    world.close().await?;
    Ok(empty.with(&held))
}

/// Most are deleted while the reader is away and nobody beats. So it finds a list that is short, and stays so for a
/// while; then all are back with their next beats: whoever reads has missed nobody.
pub(crate) async fn short_and_full_again(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let beats = Proxy::start(place.address()).await.must("proxy")?;
    let looks = Proxy::start(place.address()).await.must("proxy")?;
    let stage = place.stage_via(&[beats.address()]).reader(&place.url_via(&[looks.address()]));
    // As long as a reader waits who is told of changes; one that polls waits for two looks, which are short here.
    let world = stage.options("audit=2s&shrink_guard=30s").open(fleets, history).await?;
    beats.hold();
    looks.cut().await;
    let hit: Vec<_> = (0..COUNT - 2).map(|number| instance(&format!("i{number:02}"))).collect();
    let deletions = hit.iter().map(|instance| place.delete(history, instance));
    futures_util::future::try_join_all(deletions).await?;
    looks.restore().await;
    let held = registry_testkit::eventually("the reader holds them", place.bounds.short(), async || {
        let held = world.reader.view().held;
        (held > 0).then_some(held)
    });
    let held = held.await.must("a short list")?;
    beats.restore().await;
    history.usable("nobody beat until now");
    let within = place.bounds.noticed + SLACK;
    let back = world.judged(within, |h| r1_reconvergence(h, within)).await?;
    let keys: Vec<_> = hit.iter().map(service_registry::Instance::key).collect();
    losses(history, &keys, Losses::OneEach)?;
    world.judged(BACK_WITHIN, |h| d2_convergence(h, READER, BACK_WITHIN)).await?;
    let entries = history.entries();
    let churn = entries.iter().find_map(|entry| match &entry.what {
        Observation::Change { reader, diff, .. } if **reader == *READER => {
            (!diff.removed.is_empty()).then_some((entry.at, diff.removed.len()))
        }
        _ => None,
    });
    if let Some((at, removed)) = churn {
        return Err(Violation::at(Invariant::D1, at, format!("the reader was told that {removed} are gone")));
    }
    world.never_without()?;
    world.close().await?;
    Ok(back.and("held", held))
}

pub(crate) async fn single_removals(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let world = place.stage().open(fleets, history).await?;
    let within = place.bounds.removal;
    for number in 0..4 {
        let removed = key(&format!("i{number:02}"));
        world.writer.deregister(&removed).await;
        world.judged(within + SLACK, |h| d8_single_removals(h, READER, within + SLACK)).await?;
    }
    let removed = d8_single_removals(history, READER, within + SLACK)?;
    // What has left stays away.
    sleep_until(Instant::now() + 3 * place.bounds.ttl).await;
    world.judged(BACK_WITHIN, |h| r2_no_ghost(h, place.bounds.ttl)).await?;
    world.never_without()?;
    world.leave().await?;
    Ok(removed)
}

/// A reader whose connection is torn every now and then while all changes all the time.
pub(crate) async fn torn(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let proxy = Proxy::start(place.address()).await.must("proxy")?;
    let stage = place.stage().reader(&place.url_via(&[proxy.address()]));
    let world = stage.open(fleets, history).await?;
    for round in 0..8 {
        match round % 4 {
            1 => proxy.reset().await,
            2 => proxy.hold(),
            3 => proxy.restore().await,
            _ => {}
        }
        let changed = instance(&format!("i{:02}", round % 3));
        let release = changed.to_builder().metadata("release", round.to_string()).build();
        world.writer.update(release.must("an instance")?).await.must("update")?;
        let comes = format!("new{round}");
        world.writer.register(instance(&comes), Policy::default()).await.must("registering")?;
        world.writer.deregister(&key(&format!("i{:02}", 9 - round / 2))).await;
        if round > 0 {
            world.writer.deregister(&key(&format!("new{}", round - 1))).await;
        }
        outage(Instant::now(), Duration::from_millis(700)).await;
    }
    proxy.restore().await;
    history.usable("restored");
    // What was deleted when it ended may be held for a while.
    let fresh = world.judged(BACK_WITHIN, |h| d2_convergence(h, READER, BACK_WITHIN)).await?;
    world.never_without()?;
    world.close().await?;
    Ok(fresh)
}
