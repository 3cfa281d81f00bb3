//! Which services there are: Consul lists their names, and a blocking query waits for another list.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures_util::stream;
use registry_core::{Catalogue, Error, ServiceName, backend::CatalogueStream};
use serde::de::IgnoredAny;
use tokio::time::{Instant, sleep_until};

use super::{
    config::ConsulRead,
    discovery::{Told, blocking},
    error,
    names::Names,
    pace::{Held, Pace},
    rights::{self, Needed},
    session::Session,
};
use crate::http::{Answer, Call, Path};

/// Listing services in Consul.
#[derive(Clone, Debug)]
pub(super) struct ConsulCatalogue {
    session: Arc<Session>,
    names: Names,
}

impl ConsulCatalogue {
    pub(super) fn new(session: Arc<Session>, names: Names) -> Self {
        Self { session, names }
    }

    fn path(&self) -> Path {
        let config = &self.session.config;
        let dc = config.datacenters.first().map(String::as_str);
        let path = self.session.path("/v1/catalog/services", None).maybe_query("dc", dc);
        match config.read {
            ConsulRead::Stale => path.flag("stale"),
            ConsulRead::Consistent => path.flag("consistent"),
            ConsulRead::Default | ConsulRead::Cached => path,
        }
    }

    async fn read(&self, call: Call) -> Result<(Vec<ServiceName>, Told), Error> {
        let operation = call.operation;
        let answer = self.session.success(call).await?;
        let names = self.names_in(&answer, operation)?;
        // A token that may read one namespace is never shown the others', so only an empty list is doubted.
        if names.is_empty() {
            let dc = self.session.config.datacenters.first().map(String::as_str);
            let needed = Needed { service: self.names.prefix(), nodes: false, dc };
            rights::refuse_hidden(&self.session, &answer, operation, needed).await?;
        }
        Ok((names, Told::of(&answer)))
    }

    fn names_in(&self, answer: &Answer, operation: &'static str) -> Result<Vec<ServiceName>, Error> {
        let all: BTreeMap<String, IgnoredAny> = serde_json::from_slice(&answer.body)
            .map_err(|_| error::protocol(answer, operation, "no list of names"))?;
        let mut names: Vec<ServiceName> = all.keys().filter_map(|name| self.names.service_of(name)).collect();
        names.sort_unstable();
        Ok(names)
    }
}

#[async_trait]
impl Catalogue for ConsulCatalogue {
    async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        Ok(self.read(Call::get("services", self.path()).list()).await?.0)
    }

    fn watch_services(&self) -> CatalogueStream {
        let watcher =
            Watcher { catalogue: self.clone(), last: None, pace: Pace::new(Instant::now()), over: false };
        Box::pin(stream::unfold(watcher, |mut watcher| async move {
            if watcher.over {
                return None;
            }
            let item = watcher.next().await;
            watcher.over = item.is_err();
            Some((item, watcher))
        }))
    }
}

struct Watcher {
    catalogue: ConsulCatalogue,
    last: Option<(Vec<ServiceName>, Told)>,
    pace: Pace,
    over: bool,
}

impl Watcher {
    async fn next(&mut self) -> Result<Vec<ServiceName>, Error> {
        loop {
            let path = self.catalogue.path();
            // Without an index, or with one that went back, it returns at once and begins anew.
            let after = self.last.as_ref().map(|(_, told)| told.index.unwrap_or(1));
            let call = match after {
                None => Call::get("watch_services", path).list(),
                Some(index) => {
                    sleep_until(self.pace.take(Instant::now())).await;
                    blocking(&self.catalogue.session, "watch_services", path, index)
                }
            };
            let asked = Instant::now();
            let (names, mut told) = self.catalogue.read(call).await?;
            self.pace.weigh(told.bytes);
            if let Some(index) = after {
                let (took, wait) = (asked.elapsed(), self.catalogue.session.config.wait);
                self.pace.note(Held { asked: index, told: told.index, took, wait }, Instant::now());
            }
            let same = self.last.as_ref().is_some_and(|(last, _)| *last == names);
            if self.last.as_ref().is_some_and(|(_, last)| told.index < last.index) {
                told.index = Some(1);
            }
            self.last = Some((names.clone(), told));
            if !same {
                return Ok(names);
            }
        }
    }
}
