//! Row 32: the executor is blocked, so that nothing of ours runs.

use std::time::Duration;

use registry_testkit::{
    Etcd, eventually,
    faults::{
        Figure, FleetFactory, History, Invariant, Losses, Observation, Policy, Recorders, Violation, figure,
        losses, r1_reconvergence, r4_callback_discipline,
    },
};
use service_registry::Phase;

use crate::memory::executor::{executor, survives_a_blocked_executor};

use super::{
    rows,
    truth::Truth,
    world::{BACK_WITHIN, LONG, Must, instance, judged, key, url},
};

rows! {
    row_32_a_blocked_executor_leaves_an_honest_status_and_costs_one_loss = blocked;
}

/// The fleet lives on a runtime of one thread, which a task blocks for twice the time to live.
async fn blocked(fleets: &dyn FleetFactory, history: &History) -> Result<Figure, Violation> {
    let etcd = Etcd::start().await.must("etcd")?;
    let mut recorders = Recorders::new(history);
    let truth = Truth::of(&etcd);
    recorders.truths(move || truth.clone().ask());
    let url = url(&[etcd.address()]);
    let alone = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.must("a runtime")?.block_on(blocks_itself(fleets, history, &url))
    };
    // The test's own runtime goes on meanwhile, on its other thread.
    let figure = tokio::task::block_in_place(|| {
        std::thread::scope(|scope| scope.spawn(alone).join().map_err(|_| Violation::run("it panicked")))
    });
    recorders.stop().await;
    figure?
}

async fn blocks_itself(fleets: &dyn FleetFactory, history: &History, url: &str) -> Result<Figure, Violation> {
    let fleet = fleets.open("blocked", url, history).await.must("opening")?;
    fleet.register(instance("a"), Policy::default()).await.must("registering")?;
    let key = key("a");
    let seen = eventually("a first look", BACK_WITHIN, async || r1_reconvergence(history, BACK_WITHIN).ok());
    seen.await.must("the start")?;
    history.mark("blocked");
    block(LONG);
    // Nothing of the client has run since, so only the check at the reading can know.
    let claimed = fleet.phase(&key);
    history.record(Observation::Status {
        client: "blocked".into(),
        key: key.clone(),
        phase: claimed.unwrap_or(Phase::Absent),
    });
    history.usable("unblocked");
    if claimed == Some(Phase::Live) {
        return Err(Violation::new(
            Invariant::R3,
            "live, after nobody could renew for twice the time to live",
        ));
    }
    let mut statuses = Recorders::new(history);
    statuses.statuses(&fleet);
    let back = judged(history, BACK_WITHIN, |h| {
        losses(h, std::slice::from_ref(&key), Losses::OneEach)?;
        r1_reconvergence(h, BACK_WITHIN)
    });
    let back = back.await?;
    r4_callback_discipline(history)?;
    statuses.stop().await;
    fleet.close().await;
    Ok(back)
}

#[expect(clippy::disallowed_methods, reason = "this is the fault")]
fn block(length: Duration) {
    std::thread::sleep(length);
}

#[test]
#[ignore = "needs etcd: cargo xtask servers"]
fn row_32_a_dedicated_keeper_loses_nothing_on_etcd_while_the_executor_is_blocked() {
    // The launcher's runtime is another one, as the server is another process.
    let launcher = tokio::runtime::Runtime::new().unwrap();
    let etcd = launcher.block_on(Etcd::start()).unwrap();
    executor()
        .block_on(survives_a_blocked_executor(service_registry::builder().url(&url(&[etcd.address()]))));
    figure(32, "etcd", "blocked for 2 L with a thread of its own", "no loss");
}
