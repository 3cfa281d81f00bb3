//! The connection to a cluster: calls that are let in, to the version of the API that the servers have.

use std::sync::{Arc, Mutex, PoisonError};

use registry_core::{CredentialProvider, Error, ErrorKind};

use super::{
    answer::{self, Beaten},
    api::{Api, Apis, Subject},
    auth::Auth,
    codec::Record,
    config::{ApiChoice, NacosConfig},
    error::{self, is_gone, is_unwelcome},
    names::Wanted,
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
    apis: Mutex<Option<Apis>>,
    /// The single flight of finding out: a gate, not a guard of shared data.
    flight: tokio::sync::Mutex<()>,
}

/// A list as it came.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) api: Api,
    pub(crate) answer: Answer,
}

impl Session {
    pub(crate) fn new(
        config: NacosConfig,
        namespace: String,
        provider: Option<Arc<dyn CredentialProvider>>,
    ) -> Arc<Self> {
        let servers = Arc::new(Servers::new(super::NAME, config.common.clone()));
        let (credential, context) = (config.credential.clone(), config.context_path.clone());
        let auth = Auth::new(credential, provider, Arc::clone(&servers), context);
        let forced = |api| Some(Apis { write: api, read: api });
        let apis = match config.api {
            ApiChoice::Auto => None,
            ApiChoice::V1 => forced(Api::V1),
            ApiChoice::V2 => forced(Api::V2),
            ApiChoice::V3 => forced(Api::V3),
        };
        Arc::new(Self {
            servers,
            config,
            namespace,
            auth,
            apis: Mutex::new(apis),
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
        let (api, answer) = self.with_api("publish", |apis| apis.write, write).await?;
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
        let (api, answer) = self.with_api(operation, |apis| apis.write, write).await?;
        match written(api, &answer, operation) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// # Errors
    /// As for [`register`](Self::register).
    pub(crate) async fn beat(
        &self,
        subject: Subject<'_>,
        deadline: tokio::time::Instant,
    ) -> Result<Beaten, Error> {
        let write = |api: Api| Ok(api.beat(&self.config.context_path, subject).until(deadline));
        let (api, answer) = self.with_api("renew", |apis| apis.write, write).await?;
        let beaten = succeeded(&answer).and_then(|()| answer::beat(api, &answer.body));
        match beaten {
            Ok(Ok(beaten)) => Ok(beaten),
            Ok(Err(refused)) => Err(error::of_refusal(&refused).with_context(super::NAME, "renew")),
            // As a status: servers before 2.x.
            Err(error) if error.kind() == ErrorKind::LeaseLost => Ok(Beaten::Unknown),
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
        let (api, mut answer) = self.with_api(operation, |apis| apis.read, read).await?;
        if api == Api::V1 && answer.status.as_u16() == 404 {
            // 1.x knows no empty services.
            answer.status = http::StatusCode::OK;
            answer.body = bytes::Bytes::from_static(b"{\"hosts\":[]}");
        }
        succeeded(&answer).map_err(|error| error.with_context(super::NAME, operation))?;
        Ok(Listed { api, answer })
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

    /// Makes a call with the version that `pick` picks. An answer that there is no such API makes us ask anew which
    /// there is, and the call is made once more if that turns out to be another.
    async fn with_api(
        &self,
        operation: &'static str,
        pick: impl Fn(Apis) -> Api + Send + Sync,
        make: impl Fn(Api) -> Result<Call, Error> + Send + Sync,
    ) -> Result<(Api, Answer), Error> {
        let apis = self.apis(operation).await?;
        let api = pick(apis);
        let answer = self.exchange(make(api)?).await?;
        if !is_gone(answer.status) || self.config.api != ApiChoice::Auto {
            return Ok((api, answer));
        }
        self.forget(apis);
        let next = pick(self.apis(operation).await?);
        if next == api {
            return Ok((api, answer));
        }
        Ok((next, self.exchange(make(next)?).await?))
    }

    async fn apis(&self, operation: &'static str) -> Result<Apis, Error> {
        if let Some(apis) = self.known() {
            return Ok(apis);
        }
        let _flight = self.flight.lock().await;
        if let Some(apis) = self.known() {
            return Ok(apis);
        }
        let (v3, v1) = (self.has(Api::V3, operation).await?, self.has(Api::V1, operation).await?);
        let v2 = !v3 && self.has(Api::V2, operation).await?;
        let newest = [(v3, Api::V3), (v2, Api::V2), (v1, Api::V1)];
        let Some((_, write)) = newest.into_iter().find(|(has, _)| *has) else {
            let message = format!(
                "there is no Nacos API under {}; check host, port and option \"context_path\"",
                if self.config.context_path.is_empty() { "/" } else { &self.config.context_path }
            );
            return Err(Error::new(ErrorKind::Protocol, message).with_context(super::NAME, operation));
        };
        let apis = Apis { write, read: if v1 { Api::V1 } else { write } };
        tracing::debug!(?apis, "found out which API the servers have");
        *self.apis.lock().unwrap_or_else(PoisonError::into_inner) = Some(apis);
        Ok(apis)
    }

    async fn has(&self, api: Api, operation: &'static str) -> Result<bool, Error> {
        let answer = self.exchange(Call::get(operation, api.probe(&self.config.context_path))).await?;
        if answer.status.is_server_error() && !is_gone(answer.status) {
            return Err(error::of_status(&answer).with_context(super::NAME, operation));
        }
        Ok(!is_gone(answer.status))
    }

    fn known(&self) -> Option<Apis> {
        *self.apis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, seen: Apis) {
        let mut apis = self.apis.lock().unwrap_or_else(PoisonError::into_inner);
        if *apis == Some(seen) {
            *apis = None;
        }
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
            let answer = self.servers.call(call).await?;
            if is_unwelcome(answer.status) {
                let message = format!("{} lets nobody in without a login", answer.server);
                return Err(in_context(Error::new(ErrorKind::Unauthenticated, message)));
            }
            return Ok(answer);
        };
        let answer = self.servers.call(token.sign(call.clone())).await?;
        if !is_unwelcome(answer.status) {
            return Ok(answer);
        }
        match self.auth.refused(&token).await.map_err(in_context)? {
            Some(token) => self.servers.call(token.sign(call)).await,
            None => Ok(answer),
        }
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
