//! A user who picks all the time.

use std::time::Duration;

use registry_core::Upstream;
use tokio::{sync::oneshot, task::JoinHandle, time::interval};

/// Short against every outage.
const EVERY: Duration = Duration::from_millis(2);

pub(crate) struct Sampler {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Sampled>,
}

/// What the user met with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampled {
    pub(crate) picks: u64,
    pub(crate) failed: u64,
    pub(crate) empty: u64,
}

impl Sampler {
    /// The upstream has instances already.
    pub(crate) fn start(upstream: Upstream) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut sampled = Sampled::default();
            let mut ticks = interval(EVERY);
            loop {
                tokio::select! {
                    _ = &mut stopped => return sampled,
                    _ = ticks.tick() => {}
                }
                sampled.picks += 1;
                sampled.failed += u64::from(upstream.pick().is_err());
                sampled.empty += u64::from(upstream.snapshot().is_empty());
            }
        });
        Self { stop, task }
    }

    pub(crate) async fn stop(self) -> Sampled {
        let _ = self.stop.send(());
        let sampled = self.task.await.unwrap();
        assert!(sampled.picks > 0, "the sampler ran");
        sampled
    }
}
