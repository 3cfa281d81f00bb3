//! One line per fact, with the time since the start; and waits that always end.

use std::{
    error::Error,
    io::{Write, stdout},
    sync::OnceLock,
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::Result;

/// How often a condition that nothing announces is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

static BEGIN: OnceLock<Instant> = OnceLock::new();

/// Prints one fact.
#[macro_export]
macro_rules! say {
    ($($fact:tt)*) => { $crate::timeline::print(&format!($($fact)*)) };
}

/// Starts the clock.
pub(crate) fn begin() {
    BEGIN.get_or_init(Instant::now);
}

/// Prints one line; [`say!`] formats it. Without a clock, as in an instance's own process, the fact alone.
pub(crate) fn print(fact: &str) {
    let mut out = stdout().lock();
    let printed = match BEGIN.get() {
        Some(begin) => writeln!(out, "[{:5.1}s] {fact}", begin.elapsed().as_secs_f64()),
        None => writeln!(out, "{fact}"),
    };
    // A reader that went away is no reason to end the story.
    drop(printed);
}

/// Waits for what the story needs to come true; an error if it doesn't within `within`.
pub(crate) async fn wait_for<T>(what: &str, within: Duration, truth: impl Future<Output = T>) -> Result<T> {
    let late = |_| format!("{what}: not true after {within:?}").into();
    timeout(within, truth).await.map_err(late)
}

/// As [`wait_for`], for a condition that must be looked at.
pub(crate) async fn wait_until(
    what: &str,
    within: Duration,
    condition: impl Fn() -> bool + Send + Sync,
) -> Result<()> {
    let looking = async {
        while !condition() {
            sleep(LOOK_AGAIN).await;
        }
    };
    wait_for(what, within, looking).await
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
