//! Waiting for a condition instead of for a time.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

/// The pause between two probes: short against what is waited for, long against a probe.
const PAUSE: Duration = Duration::from_millis(10);

/// Probes until `probe` gives a value, for at most `within`.
///
/// A probe that hangs ends with the deadline too.
///
/// # Errors
///
/// `what` was waited for and how long.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> Result<T, Timeout> {
    let deadline = Instant::now() + within;
    let probing = async {
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            sleep(PAUSE).await;
        }
    };
    timeout_at(deadline, probing).await.map_err(|_| Timeout { what: what.to_owned(), within })
}

/// A condition did not come true in time.
#[derive(Clone, Debug)]
pub struct Timeout {
    what: String,
    within: Duration,
}

impl std::fmt::Display for Timeout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: not within {:?}", self.what, self.within)
    }
}

impl std::error::Error for Timeout {}
