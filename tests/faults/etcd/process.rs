//! Rows 12 and 20: the application itself is stopped or killed. It is this test binary, started once more.

use std::time::Duration;

use registry_testkit::{
    Etcd, Process, ProcessBuilder, eventually,
    faults::{
        ClientFleets, Figure, FleetFactory, History, Invariant, Losses, Observation, Policy, Violation,
        d8_single_removals, losses, r4_callback_discipline, r7_isolation,
    },
};
use service_registry::{InstanceKey, Phase};
use tokio::time::{Instant, interval, sleep};

use super::{
    rows,
    truth::Truth,
    world::{BACK_WITHIN, Must, READER, SLACK, Stage, TTL, World, ensure, instance, key, url},
};

rows! {
    row_12_a_process_that_was_stopped_for_three_ttls_is_honest_tells_one_loss_and_comes_back = stopped;
    row_20_an_application_killed_without_a_word_is_gone_within_its_ttl = killed;
}

/// The URL for a child; whoever finds it plays the child.
const URL: &str = "FAULTS_CHILD";
/// The kind of its fleet.
const KIND: &str = "FAULTS_CHILD_KIND";
/// What etcd may take beyond the time to live: it looks for expired leases every 0.5 s, and its clock has seconds.
const ETCD_SLACK: Duration = Duration::from_millis(1500);
const FEW: usize = 10;
/// A pause between two looks of the child that only a stop explains.
const STOPPED: Duration = Duration::from_secs(3);

/// The child's part: registers `child` and tells what it lives through, until it is killed.
pub(crate) async fn play_the_child() -> bool {
    let Ok(url) = std::env::var(URL) else { return false };
    let kind = std::env::var(KIND).unwrap_or_default();
    let history = History::new();
    let fleet = factory(&kind).open("child", &url, &history).await.expect("the child opens");
    fleet.register(instance("child"), Policy::default()).await.expect("the child registers");
    say("registered");
    let key = key("child");
    let mut ticks = interval(Duration::from_millis(5));
    let (mut last, mut stopped) = (Instant::now(), false);
    loop {
        ticks.tick().await;
        // The status first: it is the first thing that is asked after a stop.
        let (phase, epoch, now) = (fleet.phase(&key), fleet.epoch(&key), Instant::now());
        if now - last > STOPPED {
            stopped = true;
            say(&format!("stopped {} claims {phase:?} epoch {epoch:?}", (now - last).as_millis()));
            let renewed = epoch.is_some_and(|epoch| epoch > 1);
            if phase == Some(Phase::Live) && !renewed {
                say("verdict: R3 violated: live after three times to live without a renewal");
            }
        }
        last = now;
        let lived = losses(&history, std::slice::from_ref(&key), Losses::OneEach);
        if stopped && phase == Some(Phase::Live) && lived.is_ok() {
            stopped = false;
            let told = r4_callback_discipline(&history);
            say(&told.map_or_else(|v| format!("verdict: {v}"), |f| format!("verdict: kept, {f}")));
        }
    }
}

fn say(line: &str) {
    println!("child: {line}");
}

/// The kinds of fleet a child can be.
fn factory(kind: &str) -> Box<dyn FleetFactory> {
    let _ = kind;
    Box::new(ClientFleets::new(service_registry::builder))
}

async fn child(fleets: &dyn FleetFactory, url: &str) -> Result<Process, Violation> {
    let this = std::env::current_exe().must("this test's own program")?;
    let test = "etcd::process::row_20_an_application_killed_without_a_word_is_gone_within_its_ttl";
    let child = ProcessBuilder::new("child", this)
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(URL, url)
        .env(KIND, fleets.kind())
        .spawn();
    let child = child.await.must("a child")?;
    let says = eventually("the child registers", 2 * BACK_WITHIN, async || {
        child.output().contains("child: registered").then_some(())
    });
    says.await.must("the child")?;
    Ok(child)
}

async fn world_with_child<'a>(
    etcd: &Etcd,
    fleets: &dyn FleetFactory,
    history: &'a History,
) -> Result<(World<'a>, Process), Violation> {
    let url = url(&[etcd.address()]);
    let world = Stage::new(&url, Truth::of(etcd)).count(FEW).open(fleets, history).await?;
    let child = child(fleets, &url).await?;
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
