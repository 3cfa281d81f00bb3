//! One login: which server is asked, in which way, and what its refusal means.
//!
//! All servers share the time of one request, each gets half of what is left, so that one that hangs keeps nobody from
//! the next; and those that failed lately come last, as in every other call.

use std::{sync::Arc, time::Duration};

use registry_core::{Credential, Error, ErrorKind, Secret};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    answer::{self, malformed},
    error::{is_gone, is_unwelcome},
};
use crate::http::{Answer, Call, Path, Servers};

/// From the newest to the oldest server that has it.
const LOGINS: [&str; 3] = ["/v3/auth/user/login", "/v1/auth/users/login", "/v1/auth/login"];
/// Where a server says whether it is well, its own database included if it has such a place; likewise.
const HEALTH: [&str; 3] =
    ["/v3/admin/core/state/readiness", "/v1/console/health/readiness", "/v1/ns/operator/metrics"];
/// What a server that says nothing is taken to mean, as `TokenManager` does.
const DEFAULT_TTL: Duration = Duration::from_secs(18_000);

/// Where to log in.
#[derive(Debug)]
pub(crate) struct Login {
    servers: Arc<Servers>,
    context: String,
}

/// An access token and how long it lives from now.
pub(crate) struct Given {
    pub(crate) token: Secret,
    pub(crate) ttl: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    access_token: Option<String>,
    /// Seconds.
    token_ttl: Option<i64>,
}

impl Login {
    pub(crate) fn new(servers: Arc<Servers>, context: String) -> Self {
        Self { servers, context }
    }

    /// The most that a login takes.
    pub(crate) fn limit(&self) -> Duration {
        self.servers.config().request_timeout
    }

    /// Gets a token for a credential; one that is a token already is taken as it is.
    ///
    /// # Errors
    /// `Unauthenticated` if a server refuses the credential, whatever became of the others; else what kept the last
    /// one from answering.
    pub(crate) async fn run(&self, credential: &Credential) -> Result<Given, Error> {
        let Some(user) = &credential.user else {
            return Ok(Given {
                token: credential.secret.clone(),
                ttl: credential.expires_in.unwrap_or(DEFAULT_TTL),
            });
        };
        let form = Path::form([("username", user.as_str()), ("password", credential.secret.expose())]);
        let deadline = Instant::now() + self.limit();
        let servers = self.servers.in_turn();
        let mut failure: Option<Error> = None;
        for (at, server) in servers.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let until = if at + 1 < servers.len() { Instant::now() + left / 2 } else { deadline };
            match self.ask(server, &form, until).await {
                Ok(given) => return Ok(given),
                // All of them know the same users.
                Err(error)
                    if failure.as_ref().is_none_or(|last| last.kind() != ErrorKind::Unauthenticated) =>
                {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        let error =
            failure.unwrap_or_else(|| Error::new(ErrorKind::Timeout, "no time was left to ask a server"));
        Err(error.with_context(super::NAME, "login"))
    }

    /// Asks one server, in the way that it knows.
    async fn ask(&self, server: &Arc<str>, form: &str, until: Instant) -> Result<Given, Error> {
        for path in LOGINS {
            let call = Call::post("login", format!("{}{path}", self.context)).form(form.to_owned());
            let call = call.repeatable().only(Arc::clone(server)).until(until);
            let answer = self.servers.call(call).await?;
            if answer.status.is_success() {
                return parse(&answer.body);
            }
            if is_gone(answer.status) {
                continue;
            }
            // 2.5 answers 500 to a wrong password, and so does 3.1 if the user exists; without a word.
            let is_mute = answer.status.as_u16() == 500;
            if is_unwelcome(answer.status) || (is_mute && self.is_well(server, until).await) {
                let message =
                    format!("{server} refused the login with {}; check user and password", answer.status);
                return Err(Error::new(ErrorKind::Unauthenticated, message));
            }
            return Err(unusable(&answer));
        }
        Err(Error::new(
            ErrorKind::Unauthenticated,
            format!("{server} has no login, so no credential is of use"),
        ))
    }

    /// Whether a server says that it works, so that a failure isn't its fault.
    async fn is_well(&self, server: &Arc<str>, until: Instant) -> bool {
        for path in HEALTH {
            let call = Call::get("login", format!("{}{path}", self.context));
            let Ok(answer) = self.servers.call(call.only(Arc::clone(server)).until(until)).await else {
                return false;
            };
            if is_gone(answer.status) {
                continue;
            }
            // One that asks for rights works too.
            let is_down = answer.body.windows(6).any(|bytes| bytes == br#""DOWN""#);
            return (answer.status.is_success() && !is_down) || is_unwelcome(answer.status);
        }
        false
    }
}

/// As for any other call, but without what was said: it may repeat what it was sent.
fn unusable(answer: &Answer) -> Error {
    let known = super::error::of_status(answer);
    let message = format!("{} answered {} to the login", answer.server, answer.status);
    let error = Error::new(known.kind(), message);
    match known.retry_after() {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

fn parse(body: &[u8]) -> Result<Given, Error> {
    let body = answer::text(body)?;
    let wire = |text: &str| {
        serde_json::from_str::<Wire>(text).map_err(|_| malformed("the login's answer is no token"))
    };
    let said = match wire(body)? {
        Wire { access_token: None, .. } => {
            match answer::wrapped(body).ok().and_then(|wrapped| wrapped.data) {
                Some(data) => wire(data.get())?,
                None => return Err(malformed("the login gave no token")),
            }
        }
        plain => plain,
    };
    let token = said.access_token.ok_or_else(|| malformed("the login gave no token"))?;
    let ttl = said.token_ttl.and_then(|ttl| u64::try_from(ttl).ok()).filter(|ttl| *ttl > 0);
    Ok(Given { token: Secret::new(token), ttl: ttl.map_or(DEFAULT_TTL, Duration::from_secs) })
}
