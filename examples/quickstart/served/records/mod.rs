//! This run's records as the registry itself has them, over its own API.
//!
//! Deleting other processes' records is nothing the library does, as nothing good would come of it; here it plays
//! the operator who slipped.

mod consul;
mod etcd;
mod eureka;
mod nacos;

use std::time::Duration;

use reqwest::{Method, StatusCode, header::ACCEPT};
use serde_json::Value;

use crate::{Result, server::Kind};

/// How long the registry may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// The records of one namespace.
pub(crate) struct Records {
    kind: Kind,
    api: Api,
    namespace: String,
}

/// The HTTP API that each of these registries has.
struct Api {
    http: reqwest::Client,
    root: String,
}

impl Records {
    /// The records of `namespace` in the registry at `server`.
    pub(crate) fn new(kind: Kind, server: &str, namespace: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?;
        Ok(Self {
            kind,
            api: Api { http, root: format!("http://{server}") },
            namespace: namespace.to_owned(),
        })
    }

    /// How many there are.
    pub(crate) async fn count(&self) -> Result<usize> {
        match self.kind {
            Kind::Etcd => etcd::count(&self.api, &self.namespace).await,
            Kind::Consul => Ok(consul::ids(&self.api, &self.namespace).await?.len()),
            Kind::Eureka => Ok(eureka::ids(&self.api, &self.namespace).await?.len()),
            Kind::Nacos => Ok(nacos::addresses(&self.api, &self.namespace).await?.len()),
        }
    }

    /// Deletes them; how many they were.
    pub(crate) async fn delete(&self) -> Result<usize> {
        match self.kind {
            Kind::Etcd => etcd::delete(&self.api, &self.namespace).await,
            Kind::Consul => consul::delete(&self.api, &self.namespace).await,
            Kind::Eureka => eureka::delete(&self.api, &self.namespace).await,
            Kind::Nacos => nacos::delete(&self.api, &self.namespace).await,
        }
    }
}

impl Api {
    /// The answer's JSON; null where it is none, or where there is no such thing.
    async fn ask(&self, method: Method, path: &str, body: String) -> Result<Value> {
        let request = self.http.request(method, format!("{}{path}", self.root));
        let answer = request.header(ACCEPT, "application/json").body(body).send().await?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&answer.error_for_status()?.text().await?).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, String::new()).await
    }
}
