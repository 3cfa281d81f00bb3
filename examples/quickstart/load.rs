//! What the callers do: one real HTTP request after another, the whole time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use service_registry::{Attempt, CallError, Upstream};
use tokio::{sync::oneshot, task::JoinHandle, time::interval};

use crate::{Result, say, timeline};

/// One call each so often. Retries are limited to a fifth of the calls and 3 per second besides: enough at this
/// rate even while one instance of three is dead and not yet removed.
const EVERY: Duration = Duration::from_millis(60);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Calls in the background, and what came of them.
pub(crate) struct Load {
    counts: Arc<Mutex<Counts>>,
    stop: oneshot::Sender<()>,
    calling: JoinHandle<()>,
}

/// What came of the calls so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// All calls that have ended.
    pub(crate) calls: usize,
    /// Calls that no instance answered.
    pub(crate) failures: usize,
    /// Attempts that were made again on another instance.
    pub(crate) retries: usize,
    /// The answers, by instance.
    pub(crate) answers: HashMap<String, usize>,
}

impl Counts {
    /// How many calls this instance answered.
    pub(crate) fn answers_of(&self, name: &str) -> usize {
        self.answers.get(name).copied().unwrap_or_default()
    }
}

impl Load {
    /// Starts to call.
    pub(crate) fn start(upstream: Upstream) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(ATTEMPT).build()?;
        let counts = Arc::<Mutex<Counts>>::default();
        let (stop, mut stopped) = oneshot::channel();
        let counted = Arc::clone(&counts);
        let calling = tokio::spawn(async move {
            let mut pace = interval(EVERY);
            loop {
                tokio::select! {
                    _ = pace.tick() => one_call(&upstream, &http, &counted).await,
                    _ = &mut stopped => break,
                }
            }
        });
        Ok(Self { counts, stop, calling })
    }

    /// What came of the calls so far.
    pub(crate) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// Ends the calls, the last one included.
    pub(crate) async fn finish(self) -> Result<Counts> {
        // An error means that the calls have ended already, which the join tells better.
        let _ended = self.stop.send(());
        self.calling.await?;
        let counts = lock(&self.counts).clone();
        Ok(counts)
    }
}

/// The whole of what a caller writes: the closure is one attempt, and where to is not its business.
async fn one_call(upstream: &Upstream, http: &reqwest::Client, counts: &Mutex<Counts>) {
    let mut attempts = 0;
    let result = upstream
        .call(|instance| {
            attempts += 1;
            let request = http.get(instance.endpoint().to_string());
            async move { fetch(request).await.map_err(Attempt::retry) }
        })
        .await;
    if let Err(error) = &result {
        let cause = error.cause().map_or_else(String::new, |cause| timeline::chain(cause));
        say!("CALL FAILED: {error}; {cause}");
    }
    lock(counts).note(attempts, result);
}

async fn fetch(request: reqwest::RequestBuilder) -> reqwest::Result<String> {
    request.send().await?.error_for_status()?.text().await
}

impl Counts {
    fn note(&mut self, attempts: usize, result: Result<String, CallError<reqwest::Error>>) {
        self.calls += 1;
        self.retries += attempts.saturating_sub(1);
        match result {
            Ok(name) => *self.answers.entry(name).or_default() += 1,
            Err(_) => self.failures += 1,
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
