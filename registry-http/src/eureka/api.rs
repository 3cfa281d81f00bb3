//! Eureka's operations, one request each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, AUTHORIZATION},
};
use registry_core::{Credential, Error, ErrorKind};
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::Instant;

use super::{
    config::EurekaConfig,
    error::{Why, is_unready, malformed, misled, refused, stranger, unready},
};
use crate::{
    http::{Answer, Call, Credentials, Path, Servers},
    json,
};

/// By which the servers' rate limiter and their logs tell clients apart: what, of which version, and which of them.
const IDENTITY: [HeaderName; 3] = [
    HeaderName::from_static("discoveryidentity-name"),
    HeaderName::from_static("discoveryidentity-version"),
    HeaderName::from_static("discoveryidentity-id"),
];

/// How often another server is preferred, from half to one and a half of it: the reference client's session
/// (`sessionedClientReconnectIntervalSeconds`), with its jitter.
const REBALANCE: Duration = Duration::from_secs(20 * 60);

/// A server that refuses lists for longer doesn't wait for its peers. By default it does for 5 min
/// (`wait-time-in-ms-when-sync-empty`), and a registry may be set up to take more time.
const LONGEST_WARMING: Duration = Duration::from_secs(15 * 60);

/// The servers of one registry.
#[derive(Debug)]
pub(crate) struct Api {
    servers: Servers,
    credentials: Credentials,
    context: String,
    /// Another for each client, and for each process.
    identity: HeaderValue,
    /// The servers that have refused all lists as they do while they wait for their peers, since there was the last.
    warming: Mutex<HashMap<Arc<str>, Warming>>,
}

/// From when to when a server has refused lists.
#[derive(Clone, Copy, Debug)]
struct Warming {
    since: Instant,
    last: Instant,
}

/// One of our records, by Eureka's names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) app: Box<str>,
    pub(crate) id: Box<str>,
}

/// What an answer about one instance says.
#[derive(Debug)]
pub(crate) enum Known<T> {
    Yes(T),
    /// A 404: this server's, or that of somebody in front of it. `absence.rs` tells them apart.
    Denied(Arc<str>),
}

/// A list as it came.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    pub(crate) server: Arc<str>,
}

impl Body {
    /// The body, if it may be JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] for other text, such as the XML of a server that didn't listen.
    pub(crate) fn text(&self, operation: &'static str) -> Result<&str, Error> {
        let text = std::str::from_utf8(&self.bytes).map_err(|e| malformed(&self.server, operation, e))?;
        if text.trim_start().starts_with('<') {
            let why = "it is XML or HTML; is the option context right?";
            return Err(malformed(&self.server, operation, Why(why)));
        }
        Ok(text)
    }
}

impl Api {
    pub(crate) fn new(config: &EurekaConfig, credentials: Credentials) -> Self {
        let servers = Servers::new(super::NAME, config.common.clone()).rebalanced(REBALANCE);
        let identity = HeaderValue::from_str(&format!("{:016x}", fastrand::u64(..))).expect("digits");
        Self { servers, credentials, context: config.context.clone(), identity, warming: Mutex::default() }
    }

    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// When a call ends that begins now.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.servers.config().request_timeout
    }

    // === records ===

    /// Registers an instance; the server keeps what it has if that has a larger `lastDirtyTimestamp`.
    pub(crate) async fn register(&self, app: &str, body: Vec<u8>, until: Instant) -> Result<(), Error> {
        let call = Call::post("publish", self.path("apps").segment(app)).json(body).repeatable();
        let answer = self.send(call.until(until)).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Err(self.misled(&answer, "publish")),
            status if status.is_success() => Ok(()),
            _ => Err(refused(&answer, "publish")),
        }
    }

    /// One beat; whether the server knows the instance, in this version at least.
    pub(crate) async fn beat(
        &self,
        place: &Place,
        status: &str,
        dirty: u64,
        until: Instant,
    ) -> Result<Known<()>, Error> {
        let path = self.record(place).query("status", status).query("lastDirtyTimestamp", &dirty.to_string());
        self.is_known(Call::put("renew", path).until(until)).await
    }

    /// Cancels a registration; whether there was one.
    pub(crate) async fn cancel(&self, place: &Place, until: Instant) -> Result<Known<()>, Error> {
        self.is_known(Call::delete("withdraw", self.record(place)).until(until)).await
    }

    /// Overrides the status of an instance; whether there is one.
    pub(crate) async fn override_status(
        &self,
        place: &Place,
        status: &str,
        until: Instant,
    ) -> Result<Known<()>, Error> {
        let path = self.record(place).segment("status").query("value", status);
        self.is_known(Call::put("publish", path).until(until)).await
    }

    /// Ends an override. Never without the status that follows it: it would be UNKNOWN, and beats answered with 404.
    pub(crate) async fn end_override(
        &self,
        place: &Place,
        status: &str,
        until: Instant,
    ) -> Result<Known<()>, Error> {
        let path = self.record(place).segment("status").query("value", status);
        self.is_known(Call::delete("publish", path).until(until)).await
    }

    /// One instance, past the server's cache; of this server, if any is named.
    pub(crate) async fn instance(
        &self,
        place: &Place,
        server: Option<Arc<str>>,
        operation: &'static str,
        until: Instant,
    ) -> Result<Known<Body>, Error> {
        let call = Call::get(operation, self.record(place)).until(until);
        let answer = self.send(pinned(call, server)).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Known::Denied(answer.server)),
            status if status.is_success() => {
                Ok(Known::Yes(Body { bytes: answer.body, server: answer.server }))
            }
            _ => Err(refused(&answer, operation)),
        }
    }

    // === lists ===

    /// One application; `None` if there is none.
    pub(crate) async fn application(
        &self,
        app: &str,
        avoid: Option<Arc<str>>,
    ) -> Result<Option<Body>, Error> {
        let answer = self.list(Call::get("lookup", self.path("apps").segment(app)).avoiding(avoid)).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => Ok(Some(Body { bytes: answer.body, server: answer.server })),
        }
    }

    /// Everything; also that of other regions, if any are named.
    pub(crate) async fn all(
        &self,
        regions: Option<&str>,
        operation: &'static str,
        avoid: Option<Arc<str>>,
    ) -> Result<Body, Error> {
        let path = String::from(self.path("apps/").maybe_query("regions", regions));
        let answer = self.list(Call::get(operation, path).avoiding(avoid)).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Err(self.misled(&answer, operation)),
            _ => Ok(Body { bytes: answer.body, server: answer.server }),
        }
    }

    /// What changed in the last minutes; `None` if the server doesn't offer that, or says nothing.
    pub(crate) async fn delta(&self, regions: Option<&str>) -> Result<Option<Body>, Error> {
        let path = String::from(self.path("apps/delta").maybe_query("regions", regions));
        let answer = self.send(Call::get("watch", path).list()).await?;
        match answer.status {
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => {
                let is_blank =
                    matches!(json::trim(&answer.body), b"" | b"null" | br#"{"applications":null}"#);
                Ok((!is_blank).then_some(Body { bytes: answer.body, server: answer.server }))
            }
            _ => Err(refused(&answer, "watch")),
        }
    }

    /// Whether this server has lists, as none but Eureka has.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if it has none, or what kept it from answering.
    pub(crate) async fn recognise(
        &self,
        server: &Arc<str>,
        operation: &'static str,
        until: Instant,
    ) -> Result<(), Error> {
        // What changed lately is short. Not every server offers it, and one that doesn't may say so by a success of nothing.
        for path in ["apps/delta", "apps/"] {
            let call = Call::get(operation, self.path(path)).list().until(until).only(Arc::clone(server));
            let answer = self.send(call).await?;
            match answer.status {
                status if status.is_success() && is_list(&answer.body) => return Ok(()),
                status if status.is_success() || status == StatusCode::NOT_FOUND => {}
                // They are there, if not for us or not yet.
                StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => return Ok(()),
                _ => return Err(refused(&answer, operation)),
            }
        }
        Err(stranger(server, operation))
    }

    /// Asks another server first from now on, for a while.
    pub(crate) fn blame(&self, server: &str) {
        self.servers.blame(server, "it is no eureka");
    }

    // === one request ===

    /// A 404 that Eureka never gives; another server is asked first from now on.
    fn misled(&self, answer: &Answer, operation: &'static str) -> Error {
        self.blame(&answer.server);
        misled(answer, operation)
    }

    fn path(&self, rest: &str) -> Path {
        Path::new(format!("{}/{rest}", self.context))
    }

    fn record(&self, place: &Place) -> Path {
        self.path("apps").segment(&place.app).segment(&place.id)
    }

    async fn is_known(&self, call: Call) -> Result<Known<()>, Error> {
        let operation = call.operation;
        let answer = self.send(call).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(Known::Denied(answer.server)),
            status if status.is_success() => Ok(Known::Yes(())),
            _ => Err(refused(&answer, operation)),
        }
    }

    /// A list, or a 404. One that has just started and waits for its peers is followed by one of those.
    async fn list(&self, call: Call) -> Result<Answer, Error> {
        let (operation, until) = (call.operation, self.deadline());
        let answer = self.send(call.list().until(until).passed_on(is_unready)).await?;
        match answer.status {
            status if status.is_success() || status == StatusCode::NOT_FOUND => {
                self.warming().clear();
                Ok(answer)
            }
            _ if is_unready(&answer) => Err(self.refusal(&answer, operation, until).await),
            _ => Err(refused(&answer, operation)),
        }
    }

    /// What a list was refused for that may only be refused for now: who waits for its peers knows of single instances
    /// all the same, that there are none; who lets us read nothing refuses that too, in the same words.
    async fn refusal(&self, answer: &Answer, operation: &'static str, until: Instant) -> Error {
        let path = self.path("apps").segment("UNKNOWN").segment("unknown");
        let look = self.send(Call::get(operation, path).until(until).only(Arc::clone(&answer.server))).await;
        if let Ok(look) = look
            && matches!(look.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED)
        {
            return refused(&look, operation);
        }
        let now = Instant::now();
        let mut warming = self.warming();
        let known = warming.entry(Arc::clone(&answer.server)).or_insert(Warming { since: now, last: now });
        if now.saturating_duration_since(known.last) >= LONGEST_WARMING {
            // Nobody asked meanwhile: by now it may well have started once more.
            known.since = now;
        }
        known.last = now;
        match now.saturating_duration_since(known.since) < LONGEST_WARMING {
            true => unready(answer, operation),
            false => refused(answer, operation),
        }
    }

    fn warming(&self) -> MutexGuard<'_, HashMap<Arc<str>, Warming>> {
        self.warming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what every request has, and asks again once with a new credential if this one was refused.
    async fn send(&self, call: Call) -> Result<Answer, Error> {
        let operation = call.operation;
        let [name, version, id] = IDENTITY;
        let call = call
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(name, HeaderValue::from_static("service-registry"))
            .header(version, HeaderValue::from_static(env!("CARGO_PKG_VERSION")))
            .header(id, self.identity.clone());
        let current = self.credentials.current().await.map_err(|e| e.with_context(super::NAME, operation))?;
        let answer = self.servers.call(authorized(call.clone(), current.credential.as_deref())?).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let next = self.credentials.refused(current.generation).await;
        match next.map_err(|e| e.with_context(super::NAME, operation))? {
            None => Ok(answer),
            Some(next) => self.servers.call(authorized(call, next.credential.as_deref())?).await,
        }
    }
}

fn pinned(call: Call, server: Option<Arc<str>>) -> Call {
    match server {
        Some(server) => call.only(server),
        None => call,
    }
}

/// Whether a body is what every list is, full or delta.
fn is_list(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct List {
        #[serde(rename = "applications")]
        _applications: IgnoredAny,
    }
    serde_json::from_slice::<List>(body).is_ok()
}

/// A user's password as basic authentication, a bare secret as a bearer token.
fn authorized(call: Call, credential: Option<&Credential>) -> Result<Call, Error> {
    let Some(credential) = credential else { return Ok(call) };
    let secret = credential.secret.expose();
    let text = match &credential.user {
        Some(user) => format!("Basic {}", STANDARD.encode(format!("{user}:{secret}"))),
        None => format!("Bearer {secret}"),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        Error::new(ErrorKind::InvalidArgument, "the credential holds characters that a header can't carry")
            .with_context(super::NAME, call.operation)
    })?;
    value.set_sensitive(true);
    Ok(call.header(AUTHORIZATION, value))
}
