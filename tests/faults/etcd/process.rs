//! Rows 12 and 20: the application itself is stopped or killed. It is this test binary, started once more.

use std::time::Duration;

use registry_testkit::{
    Etcd, Process, eventually,
    faults::{
        Figure, FleetFactory, History, Invariant, Observation, Violation, d8_single_removals, r7_isolation,
    },
};
use service_registry::InstanceKey;
use tokio::time::{Instant, sleep};

use super::{
    rows,
    truth::Truth,
    world::{BACK_WITHIN, Must, READER, SLACK, Stage, TTL, World, ensure, key, url},
};
use crate::live::child;

rows! {
    row_12_a_process_that_was_stopped_for_three_ttls_is_honest_tells_one_loss_and_comes_back = stopped;
    row_20_an_application_killed_without_a_word_is_gone_within_its_ttl = killed;
}

/// A test of this file, which the child is.
const TEST: &str = "etcd::process::row_20_an_application_killed_without_a_word_is_gone_within_its_ttl";
/// What etcd may take beyond the time to live: it looks for expired leases every 0.5 s, and its clock has seconds.
const ETCD_SLACK: Duration = Duration::from_millis(1500);
const FEW: usize = 10;

async fn world_with_child<'a>(
    etcd: &Etcd,
    fleets: &dyn FleetFactory,
    history: &'a History,
) -> Result<(World<'a>, Process), Violation> {
    let url = url(&[etcd.address()]);
    let world = Stage::new(&url, Truth::of(etcd)).count(FEW).open(fleets, history).await?;
    let child = child::start(fleets, TEST, &url).await?;
    world.sees("child").await?;
    Ok((world, child))
}

async fn stopped(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let (world, child) = world_with_child(&etcd, fleets, history).await?;
    child.freeze().await.must("stop")?;
    history.mark("the child is stopped");
    sleep(3 * TTL).await;
    let kept = world.reader.view().records.contains_key(&key("child"));
    ensure(!kept, "the reader still shows a process that was stopped for three times to live")?;
    let start = Instant::now();
    child.thaw().must("continue")?;
    history.mark("the child goes on");
    world.sees("child").await?;
    let back = start.elapsed();
    let verdict = eventually("the child's verdict", BACK_WITHIN, async || {
        let output = child.output();
        output.lines().find_map(|line| line.strip_prefix("child: verdict: ").map(str::to_owned))
    });
    let verdict = verdict.await.must(&child.output())?;
    for line in child.output().lines().filter(|line| line.starts_with("child: ")) {
        history.mark(line);
    }
    if !verdict.starts_with("kept") {
        return Err(Violation::new(Invariant::R3, verdict));
    }
    child.kill().await.must("kill")?;
    let others = r7_isolation(history, &[key("child")])?;
    world.never_without()?;
    world.leave().await?;
    Ok(Figure::new("back after", back).and("child:", verdict).with(&others))
}

async fn killed(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let (world, child) = world_with_child(&etcd, fleets, history).await?;
    child.kill().await.must("kill")?;
    let key: InstanceKey = key("child");
    // From its last renewal on, which was before this.
    history.record(Observation::Gone { key: key.clone(), why: "killed".into() });
    let within = TTL + ETCD_SLACK;
    let gone = world.judged(within, |h| d8_single_removals(h, READER, within)).await?;
    sleep(TTL + SLACK).await;
    let others = r7_isolation(history, &[key])?;
    world.never_without()?;
    world.close().await?;
    Ok(gone.with(&others))
}
