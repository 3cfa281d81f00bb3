//! The connection to a cluster: calls that are let in, to the version of the API that the servers have.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use registry_core::{CredentialProvider, Error, ErrorKind};
use tokio::time::Instant;

use super::{
    answer::{self, Beaten},
    api::{Api, Apis, Subject},
    auth::Auth,
    codec::Record,
    config::{ApiChoice, NacosConfig},
    eras::Eras,
    error::{self, is_gone, is_unwelcome},
    names::{Place, Wanted},
    push::Subscription,
};
use crate::http::{Answer, Call, Servers};

/// A cluster, as one client sees it.
#[derive(Debug)]
pub(crate) struct Session {
    servers: Arc<Servers>,
    config: NacosConfig,
    /// Where we are at home; a target may ask for another.
    namespace: String,
    auth: Auth,
    apis: Mutex<Option<Known>>,
    wants_full_beats: AtomicBool,
    /// When a server of 3.x last refused to tell of one instance.
    kept_secret: Mutex<Option<Instant>>,
    eras: Eras,
    /// The single flight of finding out: a gate, not a guard of shared data.
    flight: tokio::sync::Mutex<()>,
}

/// What the servers turned out to have.
#[derive(Clone, Copy, Debug)]
struct Known {
    apis: Apis,
    asked: Instant,
}

/// A list, or one of what would be in it, as it came.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) api: Api,
    pub(crate) answer: Answer,
}

/// What a server tells of one instance.
#[derive(Debug)]
pub(crate) enum One {
    Told(Listed),
    /// It has none, or doesn't say, for whatever reason.
    Nothing,
    /// It tells others.
    Secret,
}

/// How long nobody is asked for what was told to operators only: they may give us the right.
const SECRET_FOR: Duration = Duration::from_secs(10 * 60);

impl Session {
    pub(crate) fn new(
        config: NacosConfig,
        namespace: String,
        provider: Option<Arc<dyn CredentialProvider>>,
    ) -> Arc<Self> {
        let servers = Arc::new(Servers::new(super::NAME, config.common.clone()));
        let (credential, context) = (config.credential.clone(), config.context_path.clone());
        let auth = Auth::new(credential, provider, Arc::clone(&servers), context);
        let known = forced(config.api)
            .map(|api| Known { apis: Apis { write: api, read: api }, asked: Instant::now() });
        Arc::new(Self {
            servers,
            config,
            namespace,
            auth,
            apis: Mutex::new(known),
            wants_full_beats: AtomicBool::new(false),
            kept_secret: Mutex::default(),
            eras: Eras::default(),
            flight: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn config(&self) -> &NacosConfig {
        &self.config
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }

    /// # Errors
    /// What kept the servers from answering, or their refusal.
    pub(crate) async fn register(&self, subject: Subject<'_>, record: &Record) -> Result<(), Error> {
        let write = |api: Api| api.register(&self.config.context_path, subject, record);
        let (api, answer) = self.with_api("publish", subject.place, |apis| apis.write, write).await?;
        written(api, &answer, "publish")
    }

    /// # Errors
    /// As for [`register`](Self::register); an instance that is gone already is none.
    pub(crate) async fn deregister(
        &self,
        operation: &'static str,
        subject: Subject<'_>,
    ) -> Result<(), Error> {
        let write = |api: Api| Ok(api.deregister(&self.config.context_path, operation, subject));
        let (api, answer) = self.with_api(operation, subject.place, |apis| apis.write, write).await?;
        match written(api, &answer, operation) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(_) if error::is_unknown(&answer, &subject.place.service) => Ok(()),
            result => result,
        }
    }

    /// Whether the servers want to be told everything with each beat, as far as that is known: those of 1.0 do, and
    /// those whose operator switched light beats off.
    pub(crate) fn wants_full_beats(&self) -> bool {
        self.wants_full_beats.load(Ordering::Relaxed)
    }

    /// Whether this server takes a beat for one instance, by which nothing is registered: so it has it.
    ///
    /// # Errors
    /// What kept the server from answering, or that only a beat that registers would do.
    pub(crate) async fn has_by_beat(
        &self,
        subject: Subject<'_>,
        server: Arc<str>,
        until: Instant,
    ) -> Result<bool, Error> {
        let write = |api: Api| {
            let beat = api.beat(&self.config.context_path, subject, None)?;
            Ok(beat.only(Arc::clone(&server)).until(until))
        };
        let (api, answer) = self.with_api("inspect", subject.place, |apis| apis.write, write).await?;
        match succeeded(&answer).and_then(|()| answer::beat(api, &answer.body)) {
            Ok(Ok(Beaten::Alive { .. })) => Ok(true),
            Ok(Ok(Beaten::Unknown)) => Ok(false),
            _ if error::is_unknown(&answer, &subject.place.service) => Ok(false),
            Ok(Ok(Beaten::TooLight)) => {
                let message = format!("{} takes no light beats", answer.server);
                Err(Error::new(ErrorKind::Unavailable, message).with_context(super::NAME, "inspect"))
            }
            Ok(Err(refused)) => Err(error::of_refusal(&refused).with_context(super::NAME, "inspect")),
            Err(error) => Err(error.with_context(super::NAME, "inspect")),
        }
    }

    /// Beats: a light one, which an unknown instance isn't registered by, or one with a record, by which it is. v3 has
    /// none but the first.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    pub(crate) async fn beat(
        &self,
        subject: Subject<'_>,
        record: Option<&Record>,
        deadline: Instant,
    ) -> Result<Beaten, Error> {
        let write = |api: Api| Ok(api.beat(&self.config.context_path, subject, record)?.until(deadline));
        let (api, answer) = self.with_api("renew", subject.place, |apis| apis.write, write).await?;
        if let Some(takes_light) = answer::takes_light_beats(api, &answer) {
            let wanted_full = self.wants_full_beats.swap(!takes_light, Ordering::Relaxed);
            if wanted_full == takes_light {
                tracing::debug!(server = %answer.server, takes_light, "beats are of the other kind from now on");
            }
            if record.is_none() && !takes_light && !answer.status.is_success() {
                return Ok(Beaten::TooLight);
            }
        }
        let beaten = succeeded(&answer).and_then(|()| answer::beat(api, &answer.body));
        match beaten {
            Ok(Ok(beaten)) => Ok(beaten),
            Ok(Err(refused)) => Err(error::of_refusal(&refused).with_context(super::NAME, "renew")),
            // As a status.
            Err(_) if error::is_unknown(&answer, &subject.place.service) => Ok(Beaten::Unknown),
            Err(error) => Err(error.with_context(super::NAME, "renew")),
        }
    }

    /// Fetches a list; `avoid` names the server that should not answer.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    pub(crate) async fn list(
        &self,
        operation: &'static str,
        wanted: &Wanted,
        push: Option<&Subscription>,
        avoid: Option<Arc<str>>,
    ) -> Result<Listed, Error> {
        let read = |api: Api| {
            let call = api.list(&self.config.context_path, operation, wanted, push);
            Ok(call.avoiding(avoid.clone()))
        };
        let (api, mut answer) = self.with_api(operation, &wanted.place, |apis| apis.read, read).await?;
        if is_gone(answer.status) && error::is_unknown(&answer, &wanted.place.service) {
            // 1.x knows no empty services.
            answer.status = http::StatusCode::OK;
            answer.body = bytes::Bytes::from_static(answer::nobody(api).as_bytes());
        }
        succeeded(&answer).map_err(|error| error.with_context(super::NAME, operation))?;
        Ok(Listed { api, answer })
    }

    /// Asks a server for one instance by itself. Of one of 3.x that tells it to operators only that is remembered for a
    /// while: each refusal would cost a login.
    ///
    /// # Errors
    /// What kept the server from answering.
    pub(crate) async fn one(
        &self,
        operation: &'static str,
        subject: Subject<'_>,
        server: Arc<str>,
        until: Instant,
    ) -> Result<One, Error> {
        // Those of 3.x have what is older only where an operator wants it.
        let api = self.apis(operation, None).await?.write;
        if api == Api::V3 && self.is_secret() {
            return Ok(One::Secret);
        }
        let call = api.one(&self.config.context_path, operation, subject).only(server).until(until);
        match self.exchange(call).await {
            // Too busy to say.
            Ok(answer) if matches!(answer.status.as_u16(), 429 | 503) => Err(error::of_status(&answer)),
            Ok(answer) if answer.status.is_success() => Ok(One::Told(Listed { api, answer })),
            Ok(answer) if api == Api::V3 && is_unwelcome(answer.status) => Ok(self.keep_secret()),
            Ok(_) => Ok(One::Nothing),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => match api {
                Api::V3 => Ok(self.keep_secret()),
                Api::V1 | Api::V2 => Ok(One::Nothing),
            },
            Err(error) => Err(error),
        }
    }

    fn is_secret(&self) -> bool {
        let kept = *self.kept_secret.lock().unwrap_or_else(PoisonError::into_inner);
        kept.is_some_and(|at| at.elapsed() < SECRET_FOR)
    }

    fn keep_secret(&self) -> One {
        let before = self.kept_secret.lock().unwrap_or_else(PoisonError::into_inner).replace(Instant::now());
        if before.is_none() {
            tracing::warn!(
                "whether an operator has disabled an instance is told to operators only: the login needs an \
                 administrator's role, for GET /v3/admin/ns/instance; without it, beats tell whether it is there"
            );
        }
        One::Secret
    }

    /// Takes keys out of what operators have set for an instance; returns whether the servers let us.
    ///
    /// # Errors
    /// What kept the servers from answering.
    pub(crate) async fn unset(
        &self,
        operation: &'static str,
        subject: Subject<'_>,
        keys: &BTreeSet<String>,
    ) -> Result<bool, Error> {
        // Those of 3.x have what is older only where an operator wants it.
        let api = self.apis(operation, None).await?.write;
        let call = api.unset(&self.config.context_path, operation, subject, keys)?;
        match self.exchange(call).await {
            Ok(answer) if matches!(answer.status.as_u16(), 429 | 500..=599) => Err(error::of_status(&answer)),
            Ok(answer) => Ok(answer.status.is_success() && answer::changed(api, &answer.body)),
            Err(error) if error.kind() == ErrorKind::Unauthenticated => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a call that doesn't depend on the version, and gives its answer if that is a success or says that there is
    /// no such API.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    pub(crate) async fn ask(&self, call: Call) -> Result<Option<Answer>, Error> {
        let operation = call.operation;
        let answer = self.exchange(call).await?;
        if is_gone(answer.status) {
            return Ok(None);
        }
        succeeded(&answer).map_err(|error| error.with_context(super::NAME, operation))?;
        Ok(Some(answer))
    }

    /// Makes a call about a place with the version that `pick` picks. An answer that there may be no such API makes us
    /// ask anew which there is, and the call is made once more if that turns out to be another. So a status that says
    /// that something [`is_gone`] is given only if it is about [data](error::is_unknown).
    async fn with_api(
        &self,
        operation: &'static str,
        place: &Place,
        pick: impl Fn(Apis) -> Api + Send + Sync,
        make: impl Fn(Api) -> Result<Call, Error> + Send + Sync,
    ) -> Result<(Api, Answer), Error> {
        let began = Instant::now();
        let mut api = pick(self.apis(operation, None).await?);
        let mut answer = self.exchange(make(api)?).await?;
        let is_in_doubt =
            |answer: &Answer| is_gone(answer.status) && !error::is_unknown(answer, &place.service);
        if is_in_doubt(&answer) {
            let next = pick(self.apis(operation, Some(began)).await?);
            if next != api {
                api = next;
                answer = self.exchange(make(api)?).await?;
            }
        }
        if is_in_doubt(&answer) {
            // What is in front of it, perhaps. Nothing that may be taken for an absence.
            let message = format!("{} answered {}, and has the API", answer.server, answer.status);
            return Err(Error::new(ErrorKind::Unavailable, message).with_context(super::NAME, operation));
        }
        Ok((api, answer))
    }

    /// What the servers have; found out at the beginning, and anew if that was before `since`. What is known stays
    /// known until there is something to replace it.
    async fn apis(&self, operation: &'static str, since: Option<Instant>) -> Result<Apis, Error> {
        let known = || {
            let known = *self.apis.lock().unwrap_or_else(PoisonError::into_inner);
            known.filter(|known| since.is_none_or(|since| known.asked > since)).map(|known| known.apis)
        };
        if let Some(apis) = known() {
            return Ok(apis);
        }
        let _flight = self.flight.lock().await;
        if let Some(apis) = known() {
            return Ok(apis);
        }
        let asked = Instant::now();
        let apis = self.find_out(operation).await?;
        *self.apis.lock().unwrap_or_else(PoisonError::into_inner) = Some(Known { apis, asked });
        Ok(apis)
    }

    async fn find_out(&self, operation: &'static str) -> Result<Apis, Error> {
        if let Some(api) = forced(self.config.api) {
            return match self.has(api, operation).await? {
                true => Ok(Apis { write: api, read: api }),
                false => Err(self.no_api(operation)),
            };
        }
        let (v3, v1) = (self.has(Api::V3, operation).await?, self.has(Api::V1, operation).await?);
        let v2 = !v3 && self.has(Api::V2, operation).await?;
        let newest = [(v3, Api::V3), (v2, Api::V2), (v1, Api::V1)];
        let Some((_, write)) = newest.into_iter().find(|(has, _)| *has) else {
            return Err(self.no_api(operation));
        };
        let apis = Apis { write, read: if v1 { Api::V1 } else { write } };
        tracing::debug!(?apis, "found out which API the servers have");
        Ok(apis)
    }

    fn no_api(&self, operation: &'static str) -> Error {
        let path = if self.config.context_path.is_empty() { "/" } else { &self.config.context_path };
        let message = match forced(self.config.api) {
            None => {
                format!("there is no Nacos API under {path}; check host, port and option \"context_path\"")
            }
            Some(api) => format!(
                "there is no Nacos API {api} under {path}; check host, port and the options \"context_path\" and \"api\""
            ),
        };
        Error::new(ErrorKind::Protocol, message).with_context(super::NAME, operation)
    }

    async fn has(&self, api: Api, operation: &'static str) -> Result<bool, Error> {
        let answer = self.exchange(Call::get(operation, api.probe(&self.config.context_path))).await?;
        if answer.status.is_server_error() && !is_gone(answer.status) {
            return Err(error::of_status(&answer).with_context(super::NAME, operation));
        }
        Ok(!is_gone(answer.status))
    }

    /// The number of the time in which the servers have been there without a break.
    pub(crate) fn era(&self) -> u64 {
        self.eras.number()
    }

    async fn call(&self, call: Call) -> Result<Answer, Error> {
        let is_pinned = call.who.is_pinned();
        let answer = self.servers.call(call).await;
        if !is_pinned {
            self.eras.note(&answer);
        }
        answer
    }

    /// Makes a call with the token, and once more with a new one if that was refused. An answer of any other status is
    /// given as it is.
    async fn exchange(&self, call: Call) -> Result<Answer, Error> {
        let operation = call.operation;
        let in_context = |error: Error| match error.operation() {
            Some(_) => error,
            None => error.with_context(super::NAME, operation),
        };
        let Some(token) = self.auth.token().await.map_err(in_context)? else {
            let answer = self.call(call).await?;
            if is_unwelcome(answer.status) {
                let message = format!("{} lets nobody in without a login", answer.server);
                return Err(in_context(Error::new(ErrorKind::Unauthenticated, message)));
            }
            return Ok(answer);
        };
        let answer = self.call(token.sign(call.clone())).await?;
        if !is_unwelcome(answer.status) {
            return Ok(answer);
        }
        match self.auth.refused(&token).await.map_err(in_context)? {
            Some(token) => self.call(token.sign(call)).await,
            None => Ok(answer),
        }
    }
}

/// The version that was configured.
fn forced(choice: ApiChoice) -> Option<Api> {
    match choice {
        ApiChoice::Auto => None,
        ApiChoice::V1 => Some(Api::V1),
        ApiChoice::V2 => Some(Api::V2),
        ApiChoice::V3 => Some(Api::V3),
    }
}

fn written(api: Api, answer: &Answer, operation: &'static str) -> Result<(), Error> {
    let refused = succeeded(answer).and_then(|()| answer::refusal(api, &answer.body));
    let result = refused.and_then(|refused| match refused {
        None => Ok(()),
        Some(refused) => Err(error::of_refusal(&refused)),
    });
    result.map_err(|error| error.with_context(super::NAME, operation))
}

fn succeeded(answer: &Answer) -> Result<(), Error> {
    if answer.status.is_success() { Ok(()) } else { Err(error::of_status(answer)) }
}

#[cfg(test)]
mod tests;
