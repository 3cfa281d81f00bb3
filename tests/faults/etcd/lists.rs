//! Rows 10 and 15: history that is gone, and lists that are suddenly empty.

use std::time::Duration;

use registry_testkit::{
    Etcd, Proxy,
    faults::{
        Figure, FleetFactory, History, Observation, Policy, Violation, d1_never_wiped, d2_convergence,
        d8_single_removals, r2_no_ghost,
    },
};
use tokio::time::{Instant, sleep_until};

use super::{
    rows,
    truth::Truth,
    world::{BACK_WITHIN, Must, READER, SLACK, Stage, TTL, World, instance, key, path, url},
};

rows! {
    row_10_compaction_while_disconnected_costs_a_new_list_and_no_view = compacted;
    row_15_a_prefix_that_is_deleted_at_once_is_held_and_then_believed = deleted_at_once;
    row_15_a_list_that_is_empty_after_a_reconnect_is_held_and_then_believed = empty_after_a_reconnect;
    row_15_single_removals_apply_within_a_second = single_removals;
}

/// How long a suspicious shrink is held; shorter than the default, so that the stories are short too.
const HOLD: Duration = Duration::from_secs(4);
const HELD: &str = "shrink_guard=4s";

/// A world whose reader is behind a proxy.
async fn apart<'a>(
    etcd: &Etcd,
    fleets: &dyn FleetFactory,
    history: &'a History,
) -> Result<(Proxy, World<'a>), Violation> {
    let proxy = Proxy::start(etcd.address()).await.must("proxy")?;
    let stage = Stage::new(&url(&[etcd.address()]), Truth::of(etcd)).reader(&url(&[proxy.address()]));
    Ok((proxy, stage.options(HELD).open(fleets, history).await?))
}

async fn compact(etcd: &Etcd) -> Result<(), Violation> {
    let ctl = etcd.ctl();
    let revision = ctl.revision().await.must("revision")?;
    ctl.compact(revision).await.must("compact")
}

async fn compacted(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let (proxy, world) = apart(&etcd, fleets, history).await?;
    proxy.cut().await;
    history.outage("the reader is cut off");
    for number in 0..10 {
        world.writer.deregister(&key(&format!("i{number:02}"))).await;
        let new = instance(&format!("new{number}"));
        world.writer.register(new, Policy::default()).await.must("registering")?;
    }
    compact(&etcd).await?;
    history.mark("compacted");
    history.ending("ending");
    proxy.restore().await;
    history.usable("restored");
    world.reader_recovers().await
}

async fn deleted_at_once(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let stage = Stage::new(&url(&[etcd.address()]), Truth::of(&etcd)).options(HELD);
    let world = stage.open(fleets, history).await?;
    etcd.ctl().delete_prefix("/stories/").await.must("delete")?;
    history.mark("everything is deleted");
    held_then_believed(world, Instant::now()).await
}

async fn empty_after_a_reconnect(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let (proxy, world) = apart(&etcd, fleets, history).await?;
    proxy.cut().await;
    etcd.ctl().delete_prefix("/stories/").await.must("delete")?;
    compact(&etcd).await?;
    history.mark("everything was deleted and compacted while the reader was away");
    proxy.restore().await;
    held_then_believed(world, Instant::now()).await
}

/// Confirmed by a second look after half of the hold at the earliest, and believed at its end at the latest.
async fn held_then_believed(world: World<'_>, deleted: Instant) -> Result<Figure, Violation> {
    let history = world.history;
    let gone = history.offset(deleted);
    for key in world.keys() {
        history.record(Observation::Gone { key, why: "deleted".into() });
    }
    sleep_until(deleted + HOLD / 2 - SLACK / 2).await;
    let held = d1_never_wiped(history, READER)?;
    history.mark("held so far");
    let late = HOLD + BACK_WITHIN;
    let empty = world.judged(late, |h| {
        let zero = d2_convergence(h, READER, late)?;
        let views = h.between(gone, Duration::MAX).entries();
        let view = views.iter().find_map(|entry| match &entry.what {
            Observation::View(view) if view.records.is_empty() => Some(entry.at - gone),
            _ => None,
        });
        view.map(|after| Figure::new("zero after", after).with(&zero))
            .ok_or_else(|| Violation::run("the view was never empty"))
    });
    let empty = empty.await?;
    registry_testkit::faults::d3_revisions(history, READER)?;
    registry_testkit::faults::d4_event_algebra(history, READER)?;
    world.leave().await?;
    Ok(empty.with(&held))
}

async fn single_removals(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let world = Stage::new(&url(&[etcd.address()]), Truth::of(&etcd)).open(fleets, history).await?;
    for number in 0..5 {
        let removed = key(&format!("i{number:02}"));
        if number % 2 == 0 {
            world.writer.deregister(&removed).await;
        } else {
            etcd.ctl().run(&["del", "--", &path(removed.id.as_str())]).await.must("delete")?;
            history.record(Observation::Gone { key: removed, why: "deleted by hand".into() });
        }
        world
            .judged(Duration::from_secs(2), |h| d8_single_removals(h, READER, Duration::from_secs(1)))
            .await?;
    }
    let removed = d8_single_removals(history, READER, Duration::from_secs(1))?;
    // What has left stays away.
    sleep_until(Instant::now() + 3 * TTL).await;
    world.judged(BACK_WITHIN, |h| r2_no_ghost(h, TTL)).await?;
    world.never_without()?;
    world.leave().await?;
    Ok(removed)
}
