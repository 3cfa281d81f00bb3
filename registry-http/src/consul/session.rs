//! Calls with the token, and which registry it is that answers.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use registry_core::{CredentialProvider, Error, ErrorKind, backend::SourceId};
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use super::{config::ConsulConfig, error, shown::Shown};
use crate::http::{Answer, Call, Credentials, Path, Servers};

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
/// Blocking queries that are open at the same time; agents allow a client 200 connections.
const POLLS: usize = 128;
/// How long it is believed which registry this is: sessions that fail together ask once.
const SOURCE_HOLDS: Duration = Duration::from_secs(2);

/// What the parts of one backend share.
pub(super) struct Session {
    pub(super) config: ConsulConfig,
    servers: Servers,
    credentials: Credentials,
    pub(super) polls: Semaphore,
    /// What watches were shown.
    pub(super) shown: Shown,
    /// By data centre, empty for the agent's own.
    sources: Mutex<HashMap<String, Source>>,
    /// The agent's own data centre, once it has told.
    home: OnceLock<String>,
}

/// What is known of one data centre's data.
#[derive(Default)]
struct Source {
    id: Option<SourceId>,
    /// When it was told; none if that is in doubt.
    at: Option<Instant>,
    /// How often it was doubted.
    doubts: u64,
    /// The single flight: closed once who asks has an answer, or has given up.
    asking: Option<watch::Receiver<()>>,
}

/// What to do for the answer.
enum Turn {
    Known(SourceId),
    /// Somebody asks already.
    Wait(watch::Receiver<()>),
    Ask {
        doubts: u64,
        _over: watch::Sender<()>,
    },
}

impl Session {
    pub(super) fn new(config: ConsulConfig, provider: Option<Arc<dyn CredentialProvider>>) -> Arc<Self> {
        Arc::new(Self {
            servers: Servers::new(super::NAME, config.common.clone()),
            credentials: Credentials::new(config.credential.clone(), provider),
            polls: Semaphore::new(POLLS),
            shown: Shown::default(),
            sources: Mutex::default(),
            home: OnceLock::new(),
            config,
        })
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Whether anybody is anonymous here.
    pub(super) async fn has_token(&self) -> bool {
        self.credentials.current().await.is_ok_and(|current| current.credential.is_some())
    }

    /// A path with Enterprise's namespace and partition.
    pub(super) fn path(&self, fixed: &str, segment: Option<&str>) -> Path {
        let path = Path::new(fixed);
        let path = match segment {
            Some(segment) => path.segment(segment),
            None => path,
        };
        path.maybe_query("ns", self.config.ns.as_deref())
            .maybe_query("partition", self.config.partition.as_deref())
    }

    /// An answer of any status. A refused token is replaced once if there is another.
    pub(super) async fn call(&self, call: Call) -> Result<Answer, Error> {
        let operation = call.operation;
        let context = |error: Error| error.with_context(super::NAME, operation);
        let current = self.credentials.current().await.map_err(context)?;
        let answer =
            self.servers.call(with_token(call.clone(), current.credential.as_deref(), operation)?).await?;
        if !error::is_bad_token(&answer) {
            return Ok(answer);
        }
        match self.credentials.refused(current.generation).await.map_err(context)? {
            Some(next) => self.servers.call(with_token(call, next.credential.as_deref(), operation)?).await,
            None => Ok(answer),
        }
    }

    /// An answer of success.
    pub(super) async fn success(&self, call: Call) -> Result<Answer, Error> {
        let operation = call.operation;
        let answer = self.call(call).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(error::refusal(&answer, operation)) }
    }

    /// The incarnation of the data of a data centre: its oldest server, as far as we may know. A server without its
    /// data, or in development mode, has a new id. If nothing else tells, an index that went back does, in the core.
    ///
    /// # Cancel safety
    /// If who asks gives up, one of those who wait for the answer asks.
    pub(super) async fn source(&self, dc: Option<&str>) -> SourceId {
        let name = dc.unwrap_or_default();
        loop {
            match self.turn(name) {
                Turn::Known(source) => return source,
                Turn::Wait(mut asking) => {
                    // Only ever closed.
                    let _ = asking.changed().await;
                }
                Turn::Ask { doubts, _over } => {
                    let told = self.ask_source(dc).await;
                    return self.learn(name, told, doubts);
                }
            }
        }
    }

    fn turn(&self, name: &str) -> Turn {
        let mut sources = self.sources();
        let source = sources.entry(name.to_owned()).or_default();
        if let Some(id) = &source.id
            && source.at.is_some_and(|at| at.elapsed() < SOURCE_HOLDS)
        {
            return Turn::Known(id.clone());
        }
        if let Some(asking) = &source.asking
            && asking.has_changed().is_ok()
        {
            return Turn::Wait(asking.clone());
        }
        let (over, asking) = watch::channel(());
        source.asking = Some(asking);
        Turn::Ask { doubts: source.doubts, _over: over }
    }

    async fn ask_source(&self, dc: Option<&str>) -> Option<SourceId> {
        let path = Path::new("/v1/catalog/service/consul").maybe_query("dc", dc).flag("stale");
        let answer = match self.success(Call::get("watch", path)).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "can't tell which registry this is");
                return None;
            }
        };
        let (datacenter, node) = oldest(&answer.body)?;
        let source = SourceId::new(format!("{datacenter}/{node}"));
        if dc.is_none() {
            self.home.get_or_init(|| datacenter);
        }
        Some(source)
    }

    fn learn(&self, name: &str, told: Option<SourceId>, doubts: u64) -> SourceId {
        let mut sources = self.sources();
        let source = sources.entry(name.to_owned()).or_default();
        let known = || source.id.clone().unwrap_or_else(|| SourceId::new(format!("{name}/unknown")));
        let id = told.unwrap_or_else(known);
        if source.doubts == doubts {
            source.at = Some(Instant::now());
        } else if source.at.is_some() {
            // A younger question was answered first.
            return id;
        }
        source.id = Some(id.clone());
        id
    }

    /// Forgets which registry it is, as a session has failed. A question on its way is too old to dispel that.
    pub(super) fn doubt(&self) {
        for source in self.sources().values_mut() {
            source.at = None;
            source.asking = None;
            source.doubts += 1;
        }
    }

    /// The agent's own data centre, as far as we may know. Asked for until it is told, as it never changes.
    pub(super) async fn home(&self) -> Option<&str> {
        if self.home.get().is_none() {
            self.source(None).await;
        }
        self.home.get().map(String::as_str)
    }

    fn sources(&self) -> MutexGuard<'_, HashMap<String, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with_token(
    call: Call,
    credential: Option<&registry_core::Credential>,
    operation: &'static str,
) -> Result<Call, Error> {
    let Some(credential) = credential else { return Ok(call) };
    let mut value = HeaderValue::from_str(credential.secret.expose()).map_err(|_| {
        Error::new(ErrorKind::Unauthenticated, "the token holds characters that a header can't carry")
            .with_context(super::NAME, operation)
    })?;
    value.set_sensitive(true);
    Ok(call.header(TOKEN, value))
}

/// Data centre and node id of the server that has been known for longest.
fn oldest(body: &[u8]) -> Option<(String, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Server {
        #[serde(rename = "ID")]
        id: String,
        datacenter: String,
        create_index: u64,
    }
    let servers: Vec<Server> = serde_json::from_slice(body).ok()?;
    let oldest = servers.into_iter().min_by(|a, b| (a.create_index, &a.id).cmp(&(b.create_index, &b.id)))?;
    Some((oldest.datacenter, oldest.id))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("config", &self.config).finish_non_exhaustive()
    }
}
