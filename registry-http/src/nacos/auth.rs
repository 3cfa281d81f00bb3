//! The access token: got by a login, renewed before it ends, and once after it was refused.
//!
//! ```text
//!   no token ──▶ log in; all wait ──▶ good ──renewal due──▶ due: one logs in and waits a moment, the others go on
//!      ▲  ▲            │ failed         ▲   new credential     │ done, or not: due again 5 s after one began to wait
//!      │  └─ for 1 s all get that error └──────────────────────┘
//!      └───────────────────────────── its end
//! ```
//!
//! Sent as a header, never in a URL, which servers and proxies log. One login is made at a time, in a task of its own,
//! so that a server that is slow to answer it makes progress although calls give up waiting.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderValue, header::AUTHORIZATION};
use registry_core::{Credential, CredentialProvider, Error, ErrorKind};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::Instrument as _;

use super::{answer::malformed, login::Login};
use crate::http::{Call, Credentials, LONGEST_LIFE, Servers};

/// How soon a renewal is tried again that has begun while the old token lasts.
const RETRY: Duration = Duration::from_secs(5);
/// How long a new token stands against refusals: then they are about rights.
const STANDS: Duration = Duration::from_secs(1);
/// How long a login that failed speaks for the next: many calls want one at once.
const FAILURE_STANDS: Duration = Duration::from_secs(1);

/// The token of one session.
pub(crate) struct Auth {
    shared: Arc<Shared>,
    /// The single flight.
    flight: Mutex<Option<Flight>>,
}

struct Shared {
    credentials: Credentials,
    login: Login,
    held: Mutex<Held>,
}

/// A login under way, which ends when this is dropped.
struct Flight {
    outcome: Outcome,
    _task: JoinSet<()>,
}

/// `None` until it has come.
type Outcome = watch::Receiver<Option<Result<Arc<Token>, Error>>>;

/// What a call is let in with.
pub(crate) struct Token {
    header: HeaderValue,
    /// Of the credential that it was got for.
    generation: u64,
    given: Instant,
    refresh_at: Instant,
    ends: Instant,
}

#[derive(Default)]
struct Held {
    token: Option<Arc<Token>>,
    /// A renewal that has begun isn't begun again before, nor waited for.
    put_off: Option<Instant>,
    failed: Option<Failed>,
}

struct Failed {
    error: Error,
    generation: u64,
    at: Instant,
}

/// What there is for a call.
enum Stock {
    Good(Arc<Token>),
    /// Good, and to be renewed.
    Due(Arc<Token>),
    Failed(Error),
    Nothing,
}

impl Token {
    /// `None` if the text can't stand in a header.
    fn new(text: &str, generation: u64, ttl: Duration) -> Option<Self> {
        let mut header = HeaderValue::from_str(&format!("Bearer {text}")).ok()?;
        header.set_sensitive(true);
        let (now, ttl) = (Instant::now(), ttl.min(LONGEST_LIFE));
        // Early by a 15th to a 10th, as the reference client does, so that a fleet doesn't log in at once.
        let early = ttl.mul_f64(1.0 / 15.0 + fastrand::f64() * (1.0 / 10.0 - 1.0 / 15.0));
        Some(Self { header, generation, given: now, refresh_at: now + ttl - early, ends: now + ttl })
    }

    pub(crate) fn sign(&self, call: Call) -> Call {
        call.header(AUTHORIZATION, self.header.clone())
    }
}

impl Held {
    fn stock(&self, generation: u64, now: Instant) -> Stock {
        if let Some(token) = self.token.as_ref().filter(|token| now < token.ends) {
            let is_put_off = self.put_off.is_some_and(|until| now < until);
            // That there is a newer credential takes nothing from a token: the login may be down for hours.
            let is_current = token.generation == generation && now < token.refresh_at;
            return match is_current || is_put_off {
                true => Stock::Good(Arc::clone(token)),
                false => Stock::Due(Arc::clone(token)),
            };
        }
        match &self.failed {
            Some(failed) if failed.generation == generation && now < failed.at + FAILURE_STANDS => {
                Stock::Failed(failed.error.clone())
            }
            _ => Stock::Nothing,
        }
    }

    fn put_off(&mut self, now: Instant) {
        self.put_off = Some(now + RETRY);
    }

    fn take(&mut self, generation: u64, result: &Result<Arc<Token>, Error>, now: Instant) {
        match result {
            Ok(token) => *self = Self { token: Some(Arc::clone(token)), ..Self::default() },
            Err(error) => {
                if self.token.as_ref().is_some_and(|token| now < token.ends) {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "renewing the access token failed; the old one is used while it lasts"
                    );
                }
                self.failed = Some(Failed { error: error.clone(), generation, at: now });
            }
        }
    }
}

impl Auth {
    pub(crate) fn new(
        fixed: Option<Credential>,
        provider: Option<Arc<dyn CredentialProvider>>,
        servers: Arc<Servers>,
        context: String,
    ) -> Self {
        let shared = Shared {
            credentials: Credentials::new(fixed, provider),
            login: Login::new(servers, context),
            held: Mutex::default(),
        };
        Self { shared: Arc::new(shared), flight: Mutex::default() }
    }

    /// The token to use now; `None` without a credential.
    ///
    /// # Errors
    /// `Unauthenticated` if the login is refused; what kept the servers from answering it.
    ///
    /// # Cancel safety
    /// The login goes on, for whoever comes next.
    pub(crate) async fn token(&self) -> Result<Option<Arc<Token>>, Error> {
        let current = self.shared.credentials.current().await?;
        let Some(credential) = current.credential else { return Ok(None) };
        let (outcome, due) = {
            let mut flight = self.flight();
            let stock = self.shared.held().stock(current.generation, Instant::now());
            let due = match stock {
                Stock::Good(token) => return Ok(Some(token)),
                Stock::Failed(error) => return Err(error),
                Stock::Due(token) => Some(token),
                Stock::Nothing => None,
            };
            (self.log_in(&mut flight, credential, current.generation), due)
        };
        let Some(old) = due else { return result(outcome).await.map(Some) };
        let moment = self.shared.login.limit() / 4;
        Ok(Some(timeout(moment, result(outcome)).await.ok().and_then(Result::ok).unwrap_or(old)))
    }

    /// What to use instead of a token that was refused; `None` if there is nothing better.
    ///
    /// # Errors
    /// As for [`token`](Self::token).
    ///
    /// # Cancel safety
    /// As for [`token`](Self::token).
    pub(crate) async fn refused(&self, seen: &Arc<Token>) -> Result<Option<Arc<Token>>, Error> {
        let current = self.shared.credentials.current().await?;
        let Some(credential) = current.credential else { return Ok(None) };
        let outcome = {
            let mut flight = self.flight();
            let held = self.shared.held();
            if let Some(token) = held.token.as_ref().filter(|token| !Arc::ptr_eq(token, seen)) {
                return Ok(Some(Arc::clone(token)));
            }
            if seen.given.elapsed() < STANDS {
                return Ok(None);
            }
            if let Some(failed) = held.failed.as_ref().filter(|failed| failed.at.elapsed() < FAILURE_STANDS) {
                return Err(failed.error.clone());
            }
            drop(held);
            self.log_in(&mut flight, credential, current.generation)
        };
        let token = result(outcome).await?;
        // The same again would be refused again.
        Ok((token.header != seen.header).then_some(token))
    }

    /// Joins the login that is under way, or begins one; for a while nobody else who has a good token waits for it.
    fn log_in(&self, flight: &mut Option<Flight>, credential: Arc<Credential>, generation: u64) -> Outcome {
        self.shared.held().put_off(Instant::now());
        if let Some(Flight { outcome, .. }) = flight
            && outcome.has_changed().is_ok()
            && outcome.borrow().is_none()
        {
            return outcome.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let shared = Arc::clone(&self.shared);
        let login = async move {
            let (generation, result) = shared.log_in(credential, generation).await;
            shared.held().take(generation, &result, Instant::now());
            tell.send_replace(Some(result));
        };
        let mut task = JoinSet::new();
        task.spawn(login.instrument(tracing::info_span!("login")));
        *flight = Some(Flight { outcome: outcome.clone(), _task: task });
        outcome
    }

    fn flight(&self) -> MutexGuard<'_, Option<Flight>> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn result(mut outcome: Outcome) -> Result<Arc<Token>, Error> {
    let result = outcome.wait_for(Option::is_some).await.ok().and_then(|result| (*result).clone());
    result.unwrap_or_else(|| Err(Error::new(ErrorKind::Unavailable, "the login ended without an answer")))
}

impl Shared {
    /// With the credential, and once more with the next one if it is refused and there is one; says which it was.
    async fn log_in(&self, credential: Arc<Credential>, generation: u64) -> (u64, Result<Arc<Token>, Error>) {
        let refused = match self.login.run(&credential).await {
            Err(error) if error.kind() == ErrorKind::Unauthenticated => error,
            result => return (generation, result.and_then(|given| token(&given, generation))),
        };
        let next = match self.credentials.refused(generation).await {
            Ok(next) => next.and_then(|next| Some((next.credential?, next.generation))),
            Err(error) => return (generation, Err(error)),
        };
        match next {
            Some((credential, generation)) => {
                let result = self.login.run(&credential).await;
                (generation, result.and_then(|given| token(&given, generation)))
            }
            None => (generation, Err(refused)),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn token(given: &super::login::Given, generation: u64) -> Result<Arc<Token>, Error> {
    let token = Token::new(given.token.expose(), generation, given.ttl);
    token.map(Arc::new).ok_or_else(|| malformed("the token can't stand in a header"))
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("credentials", &self.shared.credentials).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_may_say_that_it_never_ends() {
        for ttl in [Duration::from_secs(u64::MAX), Duration::MAX] {
            let token = Token::new("t", 1, ttl).unwrap();
            assert!(token.given < token.refresh_at && token.refresh_at < token.ends);
        }
    }

    fn failed() -> Result<Arc<Token>, Error> {
        Err(Error::new(ErrorKind::Unavailable, "down"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_has_begun_is_not_begun_again_at_once() {
        let mut held = Held::default();
        held.take(1, &Ok(Arc::new(Token::new("t", 1, Duration::from_secs(100)).unwrap())), Instant::now());
        let mut begun = Vec::new();
        for second in 0..100 {
            match held.stock(1, Instant::now()) {
                Stock::Good(_) => {}
                Stock::Due(_) => {
                    begun.push(second);
                    held.put_off(Instant::now());
                }
                _ => panic!("it lasts at second {second}"),
            }
            if begun.last().is_some_and(|begun| second == begun + 2) {
                held.take(1, &failed(), Instant::now());
            }
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(begun.len(), 2, "{begun:?}");
        assert!(begun[0] >= 90 && begun[1] == begun[0] + 5, "{begun:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_login_speaks_for_the_next_for_a_moment_and_for_its_credential_only() {
        let mut held = Held::default();
        held.take(1, &failed(), Instant::now());
        assert!(matches!(held.stock(1, Instant::now()), Stock::Failed(_)));
        assert!(matches!(held.stock(2, Instant::now()), Stock::Nothing));
        advance(FAILURE_STANDS).await;
        assert!(matches!(held.stock(1, Instant::now()), Stock::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_lasts_is_of_use_while_one_for_a_newer_credential_is_got() {
        let mut held = Held::default();
        held.take(1, &Ok(Arc::new(Token::new("t", 1, Duration::from_secs(100)).unwrap())), Instant::now());
        assert!(matches!(held.stock(2, Instant::now()), Stock::Due(_)));
        held.put_off(Instant::now());
        held.take(2, &failed(), Instant::now());
        assert!(matches!(held.stock(2, Instant::now()), Stock::Good(_)), "the login is down");
        advance(RETRY).await;
        assert!(matches!(held.stock(2, Instant::now()), Stock::Due(_)));
        advance(Duration::from_secs(100)).await;
        assert!(matches!(held.stock(2, Instant::now()), Stock::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_a_good_token_waits_for_a_slow_login_once_in_five_seconds() {
        let url = "nacos://nacos:hunter2@10.0.0.7?request_timeout=2s".parse().unwrap();
        let config = crate::nacos::config::NacosConfig::from_url(&url).unwrap();
        let servers = Arc::new(Servers::new(crate::nacos::NAME, config.common));
        let auth = Auth::new(config.credential, None, servers, String::new());
        let token = |text: &str| Arc::new(Token::new(text, 0, Duration::from_secs(200)).unwrap());
        auth.shared.held().take(0, &Ok(token("old")), Instant::now());
        advance(Duration::from_secs(188)).await;
        let (tell, outcome) = watch::channel(None);
        *auth.flight() = Some(Flight { outcome, _task: JoinSet::new() });
        let began = Instant::now();
        let mut waited = Vec::new();
        while began.elapsed() < Duration::from_secs(12) {
            let asked = Instant::now();
            let given = auth.token().await.unwrap().unwrap();
            assert_eq!(given.header, "Bearer old");
            if asked.elapsed() > Duration::ZERO {
                waited.push(asked - began);
            }
            advance(Duration::from_millis(100)).await;
        }
        assert!(waited.len() <= 3, "{waited:?}");
        tell.send_replace(Some(Ok(token("new"))));
    }
}
