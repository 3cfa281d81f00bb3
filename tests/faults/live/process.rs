//! Rows 12 and 20: the application itself is stopped or killed.

use registry_testkit::{
    Process, eventually,
    faults::{
        Figure, FleetFactory, History, Invariant, Observation, Violation, d8_single_removals, r7_isolation,
    },
};
use tokio::time::{Instant, sleep};

use super::{
    Place, Site, child,
    site::COUNT,
    world::{BACK_WITHIN, Must, READER, SLACK, World, ensure, key},
};

async fn world_with_child<'a>(
    place: &Place<'_>,
    fleets: &dyn FleetFactory,
    history: &'a History,
) -> Result<(World<'a>, Process), Violation> {
    let world = place.stage().count(COUNT).open(fleets, history).await?;
    let child = child::start(fleets, &place.site.child(), &place.url()).await?;
    world.sees("child").await?;
    Ok((world, child))
}

pub(crate) async fn stopped(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let (world, child) = world_with_child(&place, fleets, history).await?;
    child.freeze().await.must("stop")?;
    history.mark("the child is stopped");
    sleep((3 * place.bounds.ttl).max(place.bounds.forgets)).await;
    let kept = world.reader.view().records.contains_key(&key("child"));
    ensure(!kept, "the reader still shows a process that was stopped for so long")?;
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

pub(crate) async fn killed(
    site: &dyn Site,
    fleets: &dyn FleetFactory,
    history: &History,
) -> Result<Figure, Violation> {
    let place = Place::shared(site).await?;
    let (world, child) = world_with_child(&place, fleets, history).await?;
    child.kill().await.must("kill")?;
    let key = key("child");
    // From its last beat on, which was before this.
    history.record(Observation::Gone { key: key.clone(), why: "killed".into() });
    let within = place.bounds.forgets;
    let gone = world.judged(within, |h| d8_single_removals(h, READER, within + SLACK)).await?;
    sleep(place.bounds.ttl + SLACK).await;
    let others = r7_isolation(history, &[key])?;
    world.never_without()?;
    world.close().await?;
    Ok(gone.with(&others))
}
