//! The token: fetched once for everybody, replaced when it is refused or its credential nears its end.
//!
//! etcd refuses an expired token in many voices (see [`error`](crate::error)); all of them end here. One refresh
//! runs at a time and the others take its result. A provider is asked in a task of its own, so that one that is slow
//! or hangs loses no progress when a call gives up, and stops nobody while the token works. A refused credential is remembered for a second, so that
//! a hundred watches with a wrong password don't make a hundred password hashes at the server.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture, future::Shared};
use http::HeaderValue;
use registry_core::{Credential, CredentialProvider, ErrorKind};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    channel::{Lane, TokenCell},
    error::{Fault, Reaction},
};

/// How long a refusal stands for all who ask.
const REFUSAL_STANDS: Duration = Duration::from_secs(1);

/// How soon a renewal that failed ahead of the credential's end is tried again.
const RENEWAL_RETRY: Duration = Duration::from_secs(5);

/// How long a provider may take for one answer.
const PROVIDER_LIMIT: Duration = Duration::from_secs(30);

type Answer = Shared<BoxFuture<'static, Result<Credential, Fault>>>;

/// Where credentials come from, and the token they gave.
pub(crate) struct Auth {
    source: Source,
    token: Arc<TokenCell>,
    /// When the credential is due for renewal.
    due: Mutex<Option<Instant>>,
    /// The provider's next answer, while it is being asked or wasn't used yet.
    asking: Mutex<Option<Answer>>,
    /// The single flight. A gate, not a guard of shared data: it is held while a refresh runs, and a caller that
    /// is dropped hands it to the next.
    flight: tokio::sync::Mutex<Flight>,
}

enum Source {
    None,
    Fixed(Credential),
    Provider(Arc<dyn CredentialProvider>),
}

#[derive(Default)]
struct Flight {
    credential: Option<Credential>,
    refused: Option<(Instant, String)>,
}

impl Auth {
    pub(crate) fn new(fixed: Option<Credential>, provider: Option<Arc<dyn CredentialProvider>>) -> Self {
        let source = match (provider, fixed) {
            (Some(provider), _) => Source::Provider(provider),
            (None, Some(credential)) => Source::Fixed(credential),
            (None, None) => Source::None,
        };
        Self {
            source,
            token: Arc::default(),
            due: Mutex::default(),
            asking: Mutex::default(),
            flight: tokio::sync::Mutex::default(),
        }
    }

    /// Waits for a provider without which no endpoint can be asked: its delay is not the endpoints' fault.
    pub(crate) async fn prepare(&self, deadline: Instant) -> Result<(), Fault> {
        let Source::Provider(provider) = &self.source else { return Ok(()) };
        // Whoever holds the flight asks already; a password can be exchanged again, a bare token can't.
        let known = |flight: &Flight| flight.credential.as_ref().is_some_and(|c| c.user.is_some());
        if !self.token.is_empty() || self.flight.try_lock().map_or(true, |flight| known(&flight)) {
            return Ok(());
        }
        match timeout_at(deadline, self.answer_of(provider)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(fault)) => {
                *self.asking.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Err(fault)
            }
            Err(_) => Err(Fault::new(
                ErrorKind::Unavailable,
                Reaction::Answer,
                "the credential provider has not answered yet",
            )),
        }
    }

    pub(crate) fn token(&self) -> &Arc<TokenCell> {
        &self.token
    }

    /// Makes sure that there is a token if one is needed; returns its generation.
    pub(crate) async fn ready(&self, lane: &Lane) -> Result<u64, Fault> {
        let seen = self.token.generation();
        let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = !matches!(self.source, Source::None) && self.token.is_empty();
        if missing {
            return self.refresh(seen, lane, false).await;
        }
        if due.is_some_and(|due| Instant::now() >= due) && self.has_answered() {
            // The token still works, so a provider that fails or a password that isn't known yet stops nobody.
            return match self.refresh(seen, lane, true).await {
                Ok(generation) => Ok(generation),
                Err(fault) => {
                    tracing::warn!(
                        error = fault.line(),
                        "renewing the credential failed; using the old token"
                    );
                    *self.due.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(Instant::now() + RENEWAL_RETRY);
                    Ok(seen)
                }
            };
        }
        Ok(seen)
    }

    /// Replaces the token of generation `seen`, which was refused; `None` if there is nothing to replace it with.
    pub(crate) async fn refused(&self, seen: u64, lane: &Lane) -> Option<Result<u64, Fault>> {
        match &self.source {
            Source::None => None,
            Source::Fixed(_) | Source::Provider(_) => Some(self.refresh(seen, lane, false).await),
        }
    }

    /// Forgets the token of generation `seen`: a stream that was opened with it was refused.
    pub(crate) fn forget(&self, seen: u64) {
        if self.token.generation() == seen {
            self.token.set(None);
        }
    }

    async fn refresh(&self, seen: u64, lane: &Lane, ask_provider: bool) -> Result<u64, Fault> {
        let asked = Instant::now();
        let mut flight = self.flight.lock().await;
        let current = self.token.generation();
        if current > seen && !self.token.is_empty() {
            return Ok(current);
        }
        if let Some((at, why)) = &flight.refused
            && (*at >= asked || asked < *at + REFUSAL_STANDS)
        {
            return Err(Fault::new(ErrorKind::Unauthenticated, Reaction::Answer, why.clone()));
        }
        flight.refused = None;
        // A bare token can't be exchanged for a fresh one: only its provider has another.
        let bare = flight.credential.as_ref().is_some_and(|c| c.user.is_none());
        let mut fresh = false;
        let mut credential = match flight.credential.clone() {
            Some(credential) if !ask_provider && !bare => credential,
            _ => {
                fresh = true;
                self.ask().await?
            }
        };
        loop {
            flight.credential = Some(credential.clone());
            let refusal = match exchange(&credential, lane).await {
                Ok(token) => {
                    let generation = self.token.set(Some(token));
                    tracing::debug!(generation, endpoint = %lane.endpoint, "got a token");
                    return Ok(generation);
                }
                Err(fault) if fault.kind == ErrorKind::Unauthenticated => fault,
                Err(fault) => return Err(fault),
            };
            // A rotated password: its provider may already know the new one.
            if !fresh && matches!(self.source, Source::Provider(_)) {
                fresh = true;
                let next = self.ask().await?;
                if next.secret != credential.secret || next.user != credential.user {
                    credential = next;
                    continue;
                }
            }
            flight.credential = None;
            flight.refused = Some((Instant::now(), refusal.message.clone()));
            return Err(Fault::new(ErrorKind::Unauthenticated, Reaction::Answer, refusal.message));
        }
    }

    async fn ask(&self) -> Result<Credential, Fault> {
        let credential = match &self.source {
            Source::None => {
                return Err(Fault::new(
                    ErrorKind::Unauthenticated,
                    Reaction::Answer,
                    "etcd wants a user; give one in the URL or by a credential provider",
                ));
            }
            Source::Fixed(credential) => credential.clone(),
            Source::Provider(provider) => {
                let answer = self.answer_of(provider).await;
                // Used up: the next question is asked anew.
                *self.asking.lock().unwrap_or_else(PoisonError::into_inner) = None;
                answer?
            }
        };
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) =
            credential.renew_after().map(|after| Instant::now() + after);
        Ok(credential)
    }
}

impl Auth {
    /// The provider's answer, which it is asked for if it isn't already.
    fn answer_of(&self, provider: &Arc<dyn CredentialProvider>) -> Answer {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.get_or_insert_with(|| ask(Arc::clone(provider))).clone()
    }

    /// Whether a new credential can be had without waiting; sees to it that it can soon.
    fn has_answered(&self) -> bool {
        match &self.source {
            Source::Provider(provider) => self.answer_of(provider).now_or_never().is_some(),
            Source::None | Source::Fixed(_) => true,
        }
    }
}

/// Asks in a task that ends with the last who waits for it, with its answer, or at its limit.
fn ask(provider: Arc<dyn CredentialProvider>) -> Answer {
    // Not the endpoint's fault: asking the next one would only ask the provider again.
    let failed = |why: String| Fault::new(ErrorKind::Unavailable, Reaction::Answer, why);
    let mut task = JoinSet::new();
    task.spawn(async move { timeout(PROVIDER_LIMIT, provider.credential()).await });
    let answer = async move {
        match task.join_next().await {
            Some(Ok(Ok(answer))) => {
                answer.map_err(|error| failed(format!("the credential provider failed: {error:#}")))
            }
            Some(Ok(Err(_))) => {
                Err(failed(format!("the credential provider gave no answer in {PROVIDER_LIMIT:?}")))
            }
            Some(Err(_)) | None => Err(failed("the credential provider panicked".to_owned())),
        }
    };
    answer.boxed().shared()
}

/// Exchanges a user's password for a token; a bare token is one already.
async fn exchange(credential: &Credential, lane: &Lane) -> Result<HeaderValue, Fault> {
    let mut token = match &credential.user {
        Some(user) => {
            let secret = credential.secret.expose().to_owned();
            let answer = lane.auth.clone().authenticate(user.clone(), secret).await?;
            HeaderValue::from_str(answer.token())
        }
        None => HeaderValue::from_str(credential.secret.expose()),
    }
    .map_err(|_| Fault::protocol("the token holds characters that a header can't carry"))?;
    token.set_sensitive(true);
    Ok(token)
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::None => "none",
            Source::Fixed(_) => "fixed",
            Source::Provider(_) => "provider",
        };
        f.debug_struct("Auth").field("source", &source).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use registry_core::{Error, Secret};

    use super::*;

    #[derive(Debug)]
    struct Lasting(Duration);

    #[async_trait]
    impl CredentialProvider for Lasting {
        async fn credential(&self) -> Result<Credential, Error> {
            Ok(Credential { user: None, secret: Secret::new("t0ken"), expires_in: Some(self.0) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_that_lives_longer_than_a_clock_can_tell_is_taken() {
        for life in [Duration::MAX, Duration::from_secs(u64::MAX / 2), Duration::ZERO] {
            let auth = Auth::new(None, Some(Arc::new(Lasting(life))));
            let credential = auth.ask().await.expect("a credential");
            assert_eq!(credential.secret.expose(), "t0ken");
            assert!(auth.due.lock().unwrap().is_some());
        }
    }
}
