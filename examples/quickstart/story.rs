//! The story: what happens, and what must come true each time.

use std::time::Duration;

use service_registry::{Upstream, ViewState};

use crate::{
    Result,
    fleet::{Fleet, SERVICE},
    load::{Counts, Load},
    say,
    timeline::{self, wait_for, wait_until},
};

/// How long a leaving instance may take.
const LEAVING: Duration = Duration::from_secs(14);
/// How often the registry is asked how many it knows.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How many calls must be made in an outage before it counts as survived.
const CALLS_IN_OUTAGE: usize = 40;

/// Tells it in one place; an error if anything didn't come true, or if any call failed.
pub(crate) async fn tell(mut fleet: impl Fleet) -> Result<()> {
    timeline::begin();
    say!("three instances of {SERVICE:?} and {}", fleet.registry());
    let client = fleet.client().await?;
    for name in ["orders-1", "orders-2", "orders-3"] {
        fleet.start(name).await?;
    }
    let upstream = client.discover(SERVICE).await?;
    wait_for("all three are discovered", fleet.soon(), upstream.ready(3)).await??;
    say!("a caller discovers all three and starts to call");
    let narrator = tokio::spawn(narrate(upstream.clone()));
    let load = Load::start(upstream.clone())?;

    all_answer(&fleet, &load, &["orders-1", "orders-2", "orders-3"]).await?;
    a_crash(&mut fleet, &upstream, &load).await?;
    a_drain(&mut fleet, &upstream, &load).await?;
    a_newcomer(&mut fleet, &load).await?;
    an_outage(&mut fleet, &upstream, &load).await?;
    all_answer(&fleet, &load, &["orders-3", "orders-4"]).await?;

    let counts = load.finish().await?;
    client.close().await;
    narrator.await?;
    for name in ["orders-3", "orders-4"] {
        wait_for("the rest leaves", LEAVING, fleet.drain(name)).await??;
    }
    say!("the rest left cleanly");
    let misses: usize = counts.misses.values().sum();
    say!(
        "{} calls, {} failed; {misses} attempts failed and were made again elsewhere",
        counts.calls,
        counts.failures
    );
    if counts.failures > 0 { Err("calls failed".into()) } else { Ok(()) }
}

async fn a_crash(fleet: &mut impl Fleet, upstream: &Upstream, load: &Load) -> Result<()> {
    let before = load.counts();
    fleet.crash("orders-1").await?;
    let met = || load.counts().misses_of("orders-1") > before.misses_of("orders-1");
    wait_until("a call meets the dead instance", fleet.soon(), met).await?;
    say!("a call met the dead instance and is tried again elsewhere");
    wait_until("the dead instance is removed", fleet.soon(), || !knows(upstream, "orders-1")).await?;
    nothing_failed(load, &before, "since the crash")
}

async fn a_drain(fleet: &mut impl Fleet, upstream: &Upstream, load: &Load) -> Result<()> {
    let before = load.counts();
    say!("orders-2 is asked to leave");
    wait_for("orders-2 leaves", LEAVING, fleet.drain("orders-2")).await??;
    say!("orders-2 left: deregistered, served on while the news travelled, finished what was in flight");
    wait_until("orders-2 is removed", fleet.soon(), || !knows(upstream, "orders-2")).await?;
    let misses = load.counts().misses_of("orders-2") - before.misses_of("orders-2");
    if misses > 0 {
        return Err(format!("{misses} calls met an instance that was leaving cleanly").into());
    }
    nothing_failed(load, &before, "during the drain, none of them turned away")
}

async fn a_newcomer(fleet: &mut impl Fleet, load: &Load) -> Result<()> {
    fleet.start("orders-4").await?;
    wait_until("orders-4 gets traffic", fleet.soon(), || load.counts().answers_of("orders-4") > 0).await?;
    say!("orders-4 got its first call");
    Ok(())
}

async fn an_outage(fleet: &mut impl Fleet, upstream: &Upstream, load: &Load) -> Result<()> {
    let before = load.counts();
    fleet.registry_goes_away().await?;
    let stale = || upstream.freshness().state == ViewState::Stale;
    wait_until("the caller notices", fleet.soon(), stale).await?;
    say!("the caller knows that its view is stale, and goes on with it");
    fleet.registry_forgets().await?;
    let survived = || load.counts().calls >= before.calls + CALLS_IN_OUTAGE;
    wait_until("calls go on without the registry", fleet.soon(), survived).await?;
    nothing_failed(load, &before, "without the registry")?;

    let before = load.counts();
    fleet.registry_comes_back().await?;
    let again = async {
        while fleet.registered().await? < 2 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    wait_for("everybody is registered again", fleet.soon(), again).await??;
    say!("everybody is registered again");
    let fresh = || upstream.freshness().state == ViewState::Fresh;
    wait_until("the view is fresh", fleet.soon(), fresh).await?;
    say!("the caller's view is fresh again");
    nothing_failed(load, &before, "since the registry is back")
}

/// Each of them answers at least twice from now on.
async fn all_answer(fleet: &impl Fleet, load: &Load, names: &[&str]) -> Result<()> {
    let before = load.counts();
    let answered =
        |counts: &Counts| names.iter().all(|name| counts.answers_of(name) >= before.answers_of(name) + 2);
    wait_until("everybody answers", fleet.soon(), || answered(&load.counts())).await?;
    say!("{} answer in turn", names.join(", "));
    Ok(())
}

fn nothing_failed(load: &Load, before: &Counts, when: &str) -> Result<()> {
    let now = load.counts();
    let (calls, failed) = (now.calls - before.calls, now.failures - before.failures);
    if failed > 0 {
        return Err(format!("{failed} of {calls} calls failed {when}").into());
    }
    say!("{calls} calls {when}; none failed");
    Ok(())
}

fn knows(upstream: &Upstream, name: &str) -> bool {
    upstream.snapshot().iter().any(|instance| instance.id().as_str() == name)
}

/// Tells each change of the caller's view, until the client is closed.
async fn narrate(upstream: Upstream) {
    let mut changes = upstream.changes();
    // The first item is the view as it is.
    changes.next().await;
    while let Some(update) = changes.next().await {
        for instance in &update.diff.added {
            say!("  the caller's view gains {}", instance.id());
        }
        for instance in &update.diff.removed {
            say!("  the caller's view loses {}", instance.id());
        }
        for (old, new) in &update.diff.changed {
            match new.status() {
                status if status != old.status() => say!("  the caller sees that {} is {status}", new.id()),
                _ => say!("  the caller sees the new record of {}", new.id()),
            }
        }
    }
}
