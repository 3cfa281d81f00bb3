//! The credential: fixed, or asked for from a provider, at most once at a time.
//!
//! A provider is asked at the start, at 80 % of the credential's life, and once after each refusal; a refusal of what
//! was already replaced asks nobody. A provider that fails while the old credential still works stops nobody.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use registry_core::{Credential, CredentialProvider, Error, ErrorKind};
use tokio::time::{Instant, timeout};

/// How long a provider may take for one answer.
const PROVIDER_LIMIT: Duration = Duration::from_secs(30);
/// How soon it is asked again after it failed ahead of the credential's end.
const RENEWAL_RETRY: Duration = Duration::from_secs(5);
/// How long a credential that a provider has just given stands against refusals: many calls are refused at once.
const REFUSAL_STANDS: Duration = Duration::from_secs(1);

/// The credential of one registry.
pub(crate) struct Credentials {
    provider: Option<Arc<dyn CredentialProvider>>,
    held: RwLock<Held>,
    /// The single flight: a gate, not a guard of shared data.
    flight: tokio::sync::Mutex<()>,
}

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
        let held = Held { credential, ..Held::default() };
        Self { provider, held: RwLock::new(held), flight: tokio::sync::Mutex::default() }
    }

    /// The credential to use now.
    ///
    /// # Errors
    /// `Unavailable` if there is none yet and the provider fails.
    pub(crate) async fn current(&self) -> Result<Current, Error> {
        let held = self.held();
        let Some(provider) = &self.provider else { return Ok(held.current()) };
        match (&held.credential, held.due) {
            (Some(_), Some(due)) if Instant::now() >= due => {
                let Ok(flight) = self.flight.try_lock() else { return Ok(held.current()) };
                let renewed = self.ask(provider).await;
                drop(flight);
                renewed.or_else(|error| {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "renewing the credential failed; using the old one"
                    );
                    let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
                    held.due = Some(Instant::now() + RENEWAL_RETRY);
                    Ok(held.current())
                })
            }
            (Some(_), _) => Ok(held.current()),
            (None, _) => {
                let _flight = self.flight.lock().await;
                let held = self.held();
                if held.credential.is_some() { Ok(held.current()) } else { self.ask(provider).await }
            }
        }
    }

    /// What to use instead of the credential of generation `seen`, which was refused; `None` if there is nothing else.
    ///
    /// # Errors
    /// As for [`current`](Self::current).
    pub(crate) async fn refused(&self, seen: u64) -> Result<Option<Current>, Error> {
        let Some(provider) = &self.provider else { return Ok(None) };
        let _flight = self.flight.lock().await;
        let held = self.held();
        if held.generation > seen {
            return Ok(Some(held.current()));
        }
        if held.given.is_some_and(|given| given.elapsed() < REFUSAL_STANDS) {
            return Ok(None);
        }
        let next = self.ask(provider).await?;
        // The same again would be refused again.
        Ok((next.credential != held.credential).then_some(next))
    }

    async fn ask(&self, provider: &Arc<dyn CredentialProvider>) -> Result<Current, Error> {
        let answer = timeout(PROVIDER_LIMIT, provider.credential()).await;
        let credential = match answer {
            Ok(Ok(credential)) => credential,
            Ok(Err(error)) => {
                return Err(
                    Error::new(ErrorKind::Unavailable, "the credential provider failed").with_source(error)
                );
            }
            Err(_) => {
                let message = format!("the credential provider gave no answer in {PROVIDER_LIMIT:?}");
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        };
        let now = Instant::now();
        let share = 0.72 + 0.16 * fastrand::f64();
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.due = credential.expires_in.map(|life| now + life.mul_f64(share));
        held.credential = Some(Arc::new(credential));
        held.generation += 1;
        held.given = Some(now);
        Ok(held.current())
    }

    fn held(&self) -> Held {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Held {
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
