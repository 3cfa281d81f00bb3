//! The credential: fixed, or asked for from a provider, at most once at a time.
//!
//! A provider is asked at the start, at 80 % of the credential's life, and once after each refusal; a refusal of what
//! was already replaced asks nobody. It is asked in a task of its own, so that one that is slow loses no progress when a
//! call gives up. Only who has no credential, or whose was refused, waits for the answer. A provider that fails while
//! the old credential still works stops nobody.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use registry_core::{Credential, CredentialProvider, Error, ErrorKind};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::Instrument as _;

/// How long a provider may take for one answer.
const PROVIDER_LIMIT: Duration = Duration::from_secs(30);
/// How soon it is asked again after it failed ahead of the credential's end.
const RENEWAL_RETRY: Duration = Duration::from_secs(5);
/// How long a credential that a provider has just given stands against refusals: many calls are refused at once.
const REFUSAL_STANDS: Duration = Duration::from_secs(1);
/// What a longer life counts as.
#[cfg(feature = "nacos")]
pub(crate) const LONGEST_LIFE: Duration = Credential::LONGEST_LIFE;

/// The credential of one registry.
pub(crate) struct Credentials {
    provider: Option<Arc<dyn CredentialProvider>>,
    held: Arc<RwLock<Held>>,
    /// The single flight.
    asking: Mutex<Option<Asking>>,
}

/// A question to the provider, which ends when this is dropped.
struct Asking {
    answer: Answer,
    _task: JoinSet<()>,
}

/// `None` until it has come.
type Answer = watch::Receiver<Option<Result<Current, Error>>>;

#[derive(Clone, Default)]
struct Held {
    credential: Option<Arc<Credential>>,
    generation: u64,
    given: Option<Instant>,
    due: Option<Instant>,
}

/// A credential with the generation that tells whether it has been replaced since.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    /// None: the registry is asked as nobody.
    pub(crate) credential: Option<Arc<Credential>>,
    pub(crate) generation: u64,
}

impl Credentials {
    pub(crate) fn new(fixed: Option<Credential>, provider: Option<Arc<dyn CredentialProvider>>) -> Self {
        let credential = if provider.is_some() { None } else { fixed.map(Arc::new) };
        let held = Arc::new(RwLock::new(Held { credential, ..Held::default() }));
        Self { provider, held, asking: Mutex::default() }
    }

    /// The credential to use now.
    ///
    /// # Errors
    /// `Unavailable` if there is none yet and the provider fails.
    ///
    /// # Cancel safety
    /// The provider is asked on, for whoever comes next.
    pub(crate) async fn current(&self) -> Result<Current, Error> {
        let held = self.held();
        let Some(provider) = &self.provider else { return Ok(held.current()) };
        if held.credential.is_none() {
            return self.next(provider, held.generation).await;
        }
        if held.due.is_some_and(|due| Instant::now() >= due) {
            self.ask(provider, held.generation);
        }
        Ok(held.current())
    }

    /// What to use instead of the credential of generation `seen`, which was refused; `None` if there is nothing else.
    ///
    /// # Errors
    /// As for [`current`](Self::current).
    ///
    /// # Cancel safety
    /// As for [`current`](Self::current).
    pub(crate) async fn refused(&self, seen: u64) -> Result<Option<Current>, Error> {
        let Some(provider) = &self.provider else { return Ok(None) };
        let held = self.held();
        if held.generation > seen {
            return Ok(Some(held.current()));
        }
        if held.given.is_some_and(|given| given.elapsed() < REFUSAL_STANDS) {
            return Ok(None);
        }
        let next = self.next(provider, seen).await?;
        // The same again would be refused again.
        Ok((next.credential != held.credential).then_some(next))
    }

    /// Waits for one that is newer than generation `seen`.
    async fn next(&self, provider: &Arc<dyn CredentialProvider>, seen: u64) -> Result<Current, Error> {
        let Some(mut answer) = self.ask(provider, seen) else { return Ok(self.held().current()) };
        let answer = answer.wait_for(Option::is_some).await.ok().and_then(|answer| (*answer).clone());
        answer.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Unavailable, "the credential provider ended without an answer"))
        })
    }

    /// Asks the provider, unless it is being asked; `None` if there is one newer than generation `seen` already.
    fn ask(&self, provider: &Arc<dyn CredentialProvider>, seen: u64) -> Option<Answer> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Asking { answer, .. }) = &*asking
            && answer.has_changed().is_ok()
            && answer.borrow().is_none()
        {
            return Some(answer.clone());
        }
        {
            let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
            if held.generation > seen {
                return None;
            }
            held.put_off();
        }
        let (tell, answer) = watch::channel(None);
        let (provider, held) = (Arc::clone(provider), Arc::clone(&self.held));
        let question = async move {
            let answer = question(&*provider, &held).await;
            tell.send_replace(Some(answer));
        };
        let mut task = JoinSet::new();
        task.spawn(question.instrument(tracing::info_span!("credential")));
        *asking = Some(Asking { answer: answer.clone(), _task: task });
        Some(answer)
    }

    fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asks the provider and notes its answer.
async fn question(provider: &dyn CredentialProvider, held: &RwLock<Held>) -> Result<Current, Error> {
    let answer = timeout(PROVIDER_LIMIT, provider.credential()).await;
    let mut held = held.write().unwrap_or_else(PoisonError::into_inner);
    let error = match answer {
        Ok(Ok(credential)) => return Ok(held.take(credential)),
        Ok(Err(error)) => {
            Error::new(ErrorKind::Unavailable, "the credential provider failed").with_source(error)
        }
        Err(_) => {
            let message = format!("the credential provider gave no answer in {PROVIDER_LIMIT:?}");
            Error::new(ErrorKind::Unavailable, message)
        }
    };
    if held.credential.is_some() {
        tracing::warn!(error = format!("{error:#}"), "renewing the credential failed; keeping the old one");
    }
    held.put_off();
    Err(error)
}

impl Held {
    fn take(&mut self, credential: Credential) -> Current {
        let now = Instant::now();
        self.due = credential.renew_after().map(|after| now + after);
        self.credential = Some(Arc::new(credential));
        self.generation += 1;
        self.given = Some(now);
        self.current()
    }

    /// A renewal that is due isn't due again at once.
    fn put_off(&mut self) {
        self.due = self.due.map(|due| due.max(Instant::now() + RENEWAL_RETRY));
    }

    fn current(&self) -> Current {
        Current { credential: self.credential.clone(), generation: self.generation }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("provider", &self.provider).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
