//! Which services there are, page by page.
//!
//! | asked | of | says |
//! |---|---|---|
//! | `v3/admin/ns/service/list` | 3.x, if our credential is an operator's | services with instances |
//! | `v1/ns/catalog/services` | 1.x, 2.x | services with instances |
//! | `v1/ns/service/list` | what has neither for us | names, also of empty services, which servers remove after a minute |

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::stream;
use registry_core::{Catalogue, Error, ErrorKind, ServiceName, backend::CatalogueStream};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::{
    answer::{self, malformed},
    names,
    session::Session,
};
use crate::http::{Answer, Call, Path};

/// Services per page; more are cut to this by some servers.
const PAGE: usize = 500;
/// An end to a server that always has one more page.
const MAX_PAGES: usize = 10_000;

/// Listing services in Nacos.
#[derive(Clone, Debug)]
pub(crate) struct NacosCatalogue {
    session: Arc<Session>,
    /// The place in [`SOURCES`] that answered last: the others needn't refuse us at each poll.
    source: Arc<AtomicUsize>,
}

const SOURCES: [Source; 3] = [Source::Admin, Source::Catalog, Source::Names];

/// Where services are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Admin,
    Catalog,
    Names,
}

/// One page.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    /// How many entries it has, of whatever group.
    entries: usize,
    services: Vec<ServiceName>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow)]
    page_items: Option<Vec<Item<'a>>>,
    #[serde(borrow)]
    service_list: Option<Vec<Item<'a>>>,
    #[serde(borrow)]
    doms: Option<Vec<Cow<'a, str>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    group_name: Option<Cow<'a, str>>,
    ip_count: Option<u64>,
}

impl NacosCatalogue {
    pub(crate) fn new(session: Arc<Session>) -> Self {
        Self { session, source: Arc::default() }
    }

    async fn names(&self, operation: &'static str) -> Result<BTreeSet<ServiceName>, Error> {
        let last = self.source.load(Ordering::Relaxed);
        let others = (0..SOURCES.len()).filter(|place| *place != last);
        for place in std::iter::once(last).chain(others) {
            match self.all_of(SOURCES[place], operation).await {
                Ok(Some(names)) => {
                    self.source.store(place, Ordering::Relaxed);
                    return Ok(names);
                }
                Ok(None) => {}
                // Whoever is no operator may still list names.
                Err(error)
                    if error.kind() == ErrorKind::PermissionDenied && SOURCES[place] != Source::Names => {}
                Err(error) => return Err(error),
            }
        }
        let message = "the servers list services in no way that is known here";
        Err(Error::new(ErrorKind::Protocol, message).with_context(super::NAME, operation))
    }

    /// All services that a source lists; `None` if the servers haven't got it.
    async fn all_of(
        &self,
        source: Source,
        operation: &'static str,
    ) -> Result<Option<BTreeSet<ServiceName>>, Error> {
        let mut names = BTreeSet::new();
        for number in 1..=MAX_PAGES {
            let Some(answer) = self.session.ask(self.call(source, operation, number)).await? else {
                return Ok(None);
            };
            let page = Page::parse(source, &answer, &self.session.config().group);
            let page = page.map_err(|error| error.with_context(super::NAME, operation))?;
            names.extend(page.services);
            if page.entries < PAGE {
                break;
            }
        }
        Ok(Some(names))
    }

    fn call(&self, source: Source, operation: &'static str, page: usize) -> Call {
        let config = self.session.config();
        let path = match source {
            Source::Admin => "/v3/admin/ns/service/list",
            Source::Catalog => "/v1/ns/catalog/services",
            Source::Names => "/v1/ns/service/list",
        };
        let path = Path::new(format!("{}{path}", config.context_path))
            .query("namespaceId", self.session.namespace())
            .query("pageNo", &page.to_string())
            .query("pageSize", &PAGE.to_string());
        let path = match source {
            Source::Admin => path.query("ignoreEmptyService", "true").query("groupNameParam", &config.group),
            Source::Catalog => path
                .query("hasIpCount", "true")
                .query("withInstances", "false")
                .query("groupNameParam", &config.group),
            Source::Names => path.query("groupName", &config.group),
        };
        Call::get(operation, path).list()
    }
}

impl Page {
    fn parse(source: Source, answer: &Answer, group: &str) -> Result<Self, Error> {
        let body = answer::text(&answer.body)?;
        let body = match source {
            Source::Admin => answer::wrapped(body)?.data.ok_or_else(|| malformed("it has no data"))?.get(),
            Source::Catalog | Source::Names => body,
        };
        let wire: Wire<'_> = serde_json::from_str(body)
            .map_err(|error| malformed("it is no list of services").with_source(error))?;
        let (items, names) = match source {
            Source::Admin => (wire.page_items, None),
            Source::Catalog => (wire.service_list, None),
            Source::Names => (None, wire.doms),
        };
        let (items, names) = (items.unwrap_or_default(), names.unwrap_or_default());
        let entries = items.len() + names.len();
        // The server searches for groups that contain ours.
        let is_ours = |item: &Item<'_>| {
            item.group_name.as_deref().is_none_or(|name| name == group) && item.ip_count != Some(0)
        };
        let items = items.into_iter().filter(is_ours).filter_map(|item| item.name);
        let services = items.chain(names).filter_map(|name| {
            let name = name.split_once("@@").map_or(&*name, |(_, name)| name);
            names::decode(name)
        });
        Ok(Self { entries, services: services.collect() })
    }
}

#[async_trait]
impl Catalogue for NacosCatalogue {
    async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        Ok(self.names("services").await?.into_iter().collect())
    }

    fn watch_services(&self) -> CatalogueStream {
        let watcher = Watcher { catalogue: self.clone(), told: None, asked: None, is_over: false };
        Box::pin(stream::unfold(watcher, |mut watcher| async move {
            if watcher.is_over {
                return None;
            }
            let item = watcher.next().await;
            watcher.is_over = item.is_err();
            Some((item, watcher))
        }))
    }
}

struct Watcher {
    catalogue: NacosCatalogue,
    told: Option<BTreeSet<ServiceName>>,
    asked: Option<Instant>,
    is_over: bool,
}

impl Watcher {
    async fn next(&mut self) -> Result<Vec<ServiceName>, Error> {
        loop {
            if let Some(asked) = self.asked {
                sleep_until(asked + self.catalogue.session.config().poll).await;
            }
            self.asked = Some(Instant::now());
            let names = self.catalogue.names("watch_services").await?;
            if self.told.as_ref() != Some(&names) {
                self.told = Some(names.clone());
                return Ok(names.into_iter().collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(source: Source, body: &'static str) -> Result<Page, Error> {
        let answer = Answer {
            status: http::StatusCode::OK,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::from_static(body.as_bytes()),
            server: "h:1".into(),
        };
        Page::parse(source, &answer, "DEFAULT_GROUP")
    }

    fn named(page: &Page) -> Vec<&str> {
        page.services.iter().map(ServiceName::as_str).collect()
    }

    #[test]
    fn pages_of_all_forms_give_the_services_of_the_group_that_have_instances() {
        let admin = r#"{"code":0,"message":"success","data":{"totalCount":4,"pageItems":[
            {"name":"orders","groupName":"DEFAULT_GROUP","ipCount":2},
            {"name":"a%20b","groupName":"DEFAULT_GROUP","ipCount":1},
            {"name":"empty","groupName":"DEFAULT_GROUP","ipCount":0},
            {"name":"other","groupName":"MY_DEFAULT_GROUP","ipCount":1}]}}"#;
        let page_of = page(Source::Admin, admin).unwrap();
        assert_eq!((named(&page_of), page_of.entries), (vec!["orders", "a b"], 4));
        let catalog =
            r#"{"count":1,"serviceList":[{"name":"orders","groupName":"DEFAULT_GROUP","ipCount":2}]}"#;
        assert_eq!(named(&page(Source::Catalog, catalog).unwrap()), ["orders"]);
        let names = r#"{"count":2,"doms":["orders","DEFAULT_GROUP@@billing"]}"#;
        assert_eq!(named(&page(Source::Names, names).unwrap()), ["orders", "billing"]);
        assert_eq!(page(Source::Names, r#"{"count":0,"doms":null}"#).unwrap(), Page::default());
    }

    #[test]
    fn what_is_no_page_is_a_protocol_error() {
        for (source, body) in [(Source::Admin, "{}"), (Source::Catalog, "[]"), (Source::Names, "ok")] {
            assert_eq!(page(source, body).unwrap_err().kind(), ErrorKind::Protocol, "{body}");
        }
    }
}
