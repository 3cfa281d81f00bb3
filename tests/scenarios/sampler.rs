//! A user of a service who asks all the time and is never told that nobody is there.

use std::time::Duration;

use service_registry::Upstream;
use tokio::{sync::oneshot, task::JoinHandle, time::MissedTickBehavior};

/// Short against every outage, long against a pick.
const EVERY: Duration = Duration::from_millis(5);

/// Looks at the snapshot and picks every 5 ms; both have to give an instance.
pub(crate) struct Sampler {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Sampled>,
}

#[derive(Debug)]
struct Sampled {
    samples: usize,
    failures: Vec<String>,
}

impl Sampler {
    /// The upstream has instances already.
    pub(crate) fn start(upstream: Upstream) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut sampled = Sampled { samples: 0, failures: Vec::new() };
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    _ = &mut stopped => return sampled,
                    _ = ticks.tick() => {}
                }
                sampled.samples += 1;
                if upstream.snapshot().is_empty() {
                    sampled.failures.push(format!("sample {}: empty", sampled.samples));
                }
                if let Err(error) = upstream.pick() {
                    sampled.failures.push(format!("sample {}: {error}", sampled.samples));
                }
            }
        });
        Self { stop, task }
    }

    /// How often it looked.
    pub(crate) async fn assert_never_without(self) -> usize {
        let _ = self.stop.send(());
        let Sampled { samples, failures } = self.task.await.unwrap();
        assert!(
            failures.is_empty(),
            "{} of {samples}: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
        assert!(samples > 0, "the sampler never ran");
        samples
    }
}
