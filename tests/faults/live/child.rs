//! The application itself, to be stopped or killed: this test binary, started once more.

use std::time::Duration;

use registry_testkit::{
    Process, ProcessBuilder, eventually,
    faults::{
        ClientFleets, FleetFactory, History, Losses, Policy, Violation, losses, r4_callback_discipline,
    },
};
use service_registry::Phase;
use tokio::time::{Instant, interval};

use super::world::{BACK_WITHIN, Must, instance, key};

/// The URL for a child; whoever finds it plays the child.
const URL: &str = "FAULTS_CHILD";
/// The kind of its fleet.
const KIND: &str = "FAULTS_CHILD_KIND";
/// A pause between two looks of the child that only a stop explains.
const STOPPED: Duration = Duration::from_secs(3);

/// The child's part: registers `child` and tells what it lives through, until it is killed. Whoever isn't one is told
/// so.
pub(crate) async fn play() -> bool {
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

/// Starts one, which is `test`, and waits until it is registered.
pub(crate) async fn start(fleets: &dyn FleetFactory, test: &str, url: &str) -> Result<Process, Violation> {
    let this = std::env::current_exe().must("this test's own program")?;
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
