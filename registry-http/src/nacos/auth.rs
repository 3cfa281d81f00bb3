//! The access token: got by a login, renewed before it ends, and once after it was refused.
//!
//! Sent as a header, never in a URL, which servers and proxies log. A login is made by one call at a time. One that
//! fails while the old token still lasts stops nobody.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderValue, header::AUTHORIZATION};
use registry_core::{Credential, CredentialProvider, Error, ErrorKind};
use tokio::time::Instant;

use super::{
    answer::{self, Login, malformed},
    error::{is_gone, is_unwelcome},
};
use crate::http::{Call, Credentials, LONGEST_LIFE, Path, Servers};

/// From the newest to the oldest server that has it.
const LOGINS: [&str; 3] = ["/v3/auth/user/login", "/v1/auth/users/login", "/v1/auth/login"];
/// How soon a login is tried again that failed while the old token lasts.
const RETRY: Duration = Duration::from_secs(5);
/// How long a new token stands against refusals: then they are about rights.
const STANDS: Duration = Duration::from_secs(1);
/// What a server that says nothing is taken to mean, as `TokenManager` does.
const DEFAULT_TTL: Duration = Duration::from_secs(18_000);

/// The token of one session.
pub(crate) struct Auth {
    credentials: Credentials,
    held: Mutex<Option<Arc<Token>>>,
    /// The single flight: a gate, not a guard of shared data.
    flight: tokio::sync::Mutex<()>,
}

/// What a call is let in with.
pub(crate) struct Token {
    header: HeaderValue,
    /// Of the credential that it was got for.
    generation: u64,
    given: Instant,
    refresh_at: Instant,
    ends: Instant,
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

impl Auth {
    pub(crate) fn new(fixed: Option<Credential>, provider: Option<Arc<dyn CredentialProvider>>) -> Self {
        Self {
            credentials: Credentials::new(fixed, provider),
            held: Mutex::default(),
            flight: tokio::sync::Mutex::default(),
        }
    }

    /// The token to use now; `None` without a credential.
    ///
    /// # Errors
    /// `Unauthenticated` if the login is refused; what kept the servers from answering it.
    pub(crate) async fn token(&self, login: LoginTo<'_>) -> Result<Option<Arc<Token>>, Error> {
        let current = self.credentials.current().await?;
        let Some(credential) = &current.credential else { return Ok(None) };
        let good =
            |token: &Arc<Token>| token.generation == current.generation && Instant::now() < token.refresh_at;
        let held = self.held();
        if let Some(token) = held.as_ref().filter(|token| good(token)) {
            return Ok(Some(Arc::clone(token)));
        }
        let lasting =
            held.filter(|token| token.generation == current.generation && Instant::now() < token.ends);
        let _flight = match &lasting {
            // Whoever renews it is quick enough.
            Some(token) => match self.flight.try_lock() {
                Ok(flight) => flight,
                Err(_) => return Ok(Some(Arc::clone(token))),
            },
            None => self.flight.lock().await,
        };
        if let Some(token) = self.held().filter(good) {
            return Ok(Some(token));
        }
        match login.run(credential, current.generation).await {
            Ok(token) => Ok(Some(self.hold(token))),
            Err(error) => match lasting {
                Some(token) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "renewing the access token failed; using the old one"
                    );
                    let again =
                        Token { header: token.header.clone(), refresh_at: Instant::now() + RETRY, ..*token };
                    Ok(Some(self.hold(again)))
                }
                None => Err(error),
            },
        }
    }

    /// What to use instead of a token that was refused; `None` if there is nothing better.
    ///
    /// # Errors
    /// As for [`token`](Self::token).
    pub(crate) async fn refused(
        &self,
        seen: &Arc<Token>,
        login: LoginTo<'_>,
    ) -> Result<Option<Arc<Token>>, Error> {
        let _flight = self.flight.lock().await;
        if let Some(token) = self.held().filter(|token| !Arc::ptr_eq(token, seen)) {
            return Ok(Some(token));
        }
        if seen.given.elapsed() < STANDS {
            return Ok(None);
        }
        let current = self.credentials.current().await?;
        let Some(credential) = &current.credential else { return Ok(None) };
        let again = match login.run(credential, current.generation).await {
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                let next = self.credentials.refused(current.generation).await?;
                let Some((credential, generation)) = next.and_then(|n| Some((n.credential?, n.generation)))
                else {
                    return Err(error);
                };
                login.run(&credential, generation).await?
            }
            result => result?,
        };
        let is_same = again.header == seen.header;
        let token = self.hold(again);
        Ok(if is_same { None } else { Some(token) })
    }

    fn held(&self) -> Option<Arc<Token>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, token: Token) -> Arc<Token> {
        let token = Arc::new(token);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&token));
        token
    }
}

/// Where to log in.
#[derive(Clone, Copy)]
pub(crate) struct LoginTo<'a> {
    pub(crate) servers: &'a Servers,
    pub(crate) context: &'a str,
}

impl LoginTo<'_> {
    async fn run(self, credential: &Credential, generation: u64) -> Result<Token, Error> {
        let unusable = || malformed("the token can't stand in a header");
        let Some(user) = &credential.user else {
            let ttl = credential.expires_in.unwrap_or(DEFAULT_TTL);
            return Token::new(credential.secret.expose(), generation, ttl).ok_or_else(unusable);
        };
        let form = Path::form([("username", user.as_str()), ("password", credential.secret.expose())]);
        let mut last = None;
        for server in &self.servers.config().servers {
            match self.ask(server, &form).await {
                Ok(Login { access_token: Some(text), token_ttl }) => {
                    let ttl = token_ttl.and_then(|ttl| u64::try_from(ttl).ok()).filter(|ttl| *ttl > 0);
                    let ttl = ttl.map_or(DEFAULT_TTL, Duration::from_secs);
                    return Token::new(&text, generation, ttl).ok_or_else(unusable);
                }
                Ok(_) => last = Some(malformed("the login gave no token")),
                Err(error) => last = Some(error),
            }
        }
        let error =
            last.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "there is no server to log in to"));
        Err(error.with_context(super::NAME, "login"))
    }

    /// Asks one server, in the way that it knows.
    async fn ask(self, server: &str, form: &str) -> Result<Login, Error> {
        for path in LOGINS {
            let call = Call::post("login", format!("{}{path}", self.context)).form(form.to_owned());
            let answer = self.servers.call(call.repeatable().only(server.into())).await?;
            if answer.status.is_success() {
                return parse(&answer.body);
            }
            if is_gone(answer.status) {
                continue;
            }
            // Some builds answer 500 to a wrong password, without a word.
            if is_unwelcome(answer.status) || answer.status.as_u16() == 500 {
                let message =
                    format!("{server} refused the login with {}; check user and password", answer.status);
                return Err(Error::new(ErrorKind::Unauthenticated, message));
            }
            return Err(super::error::of_status(&answer));
        }
        Err(Error::new(
            ErrorKind::Unauthenticated,
            format!("{server} has no login, so no credential is of use"),
        ))
    }
}

fn parse(body: &[u8]) -> Result<Login, Error> {
    let body = answer::text(body)?;
    let login = |text: &str| {
        serde_json::from_str::<Login>(text).map_err(|_| malformed("the login's answer is no token"))
    };
    match login(body)? {
        Login { access_token: None, .. } => match answer::wrapped(body)?.data {
            Some(data) => login(data.get()),
            None => Err(malformed("the login gave no token")),
        },
        plain => Ok(plain),
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_may_say_that_it_never_ends() {
        for ttl in [Duration::from_secs(u64::MAX), Duration::MAX] {
            let token = Token::new("t", 1, ttl).unwrap();
            assert!(token.given < token.refresh_at && token.refresh_at < token.ends);
        }
    }
}
