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
    /// The attempts that failed, by instance; counted as they fail, before the call is tried elsewhere.
    pub(crate) misses: HashMap<String, usize>,
    /// The answers, by instance.
    pub(crate) answers: HashMap<String, usize>,
}

impl Counts {
    /// How many attempts failed on this instance.
    pub(crate) fn misses_of(&self, name: &str) -> usize {
        self.misses.get(name).copied().unwrap_or_default()
    }

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
    let result = upstream
        .call(|instance| async move {
            let answer = fetch(http.get(instance.endpoint().to_string())).await;
            answer.map_err(|error| {
                *lock(counts).misses.entry(instance.id().to_string()).or_default() += 1;
                Attempt::retry(error)
            })
        })
        .await;
    if let Err(error) = &result {
        let cause = error.cause().map_or_else(String::new, |cause| timeline::chain(cause));
        say!("CALL FAILED: {error}; {cause}");
    }
    lock(counts).note(result);
}

async fn fetch(request: reqwest::RequestBuilder) -> reqwest::Result<String> {
    request.send().await?.error_for_status()?.text().await
}

impl Counts {
    fn note(&mut self, result: Result<String, CallError<reqwest::Error>>) {
        self.calls += 1;
        match result {
            Ok(name) => *self.answers.entry(name).or_default() += 1,
            Err(_) => self.failures += 1,
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
