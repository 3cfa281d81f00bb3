//! Whether what a list lacks is gone, or hidden: the questions that `shown.rs` tells of.

use futures_util::future::BoxFuture;
use http::StatusCode;
use registry_core::{Error, ErrorKind};
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    discovery::{Reader, is_empty},
    error, rights,
    shown::{Place, Places},
};
use crate::http::{Answer, Call, abreast};

/// How many are asked for in one question: of 16 names it fits into what proxies take for a path.
const ASKED: usize = 16;
/// How many questions are under way at the same time.
const AT_ONCE: usize = 16;

/// A list that lacks what was shown before.
pub(super) struct Missed<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) answer: &'a Answer,
    pub(super) at: usize,
    /// Whether the list has no entry, so that it doesn't prove that the service may be read.
    pub(super) is_blank: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeServices {
    /// Null of one that isn't there.
    node: Option<Node>,
    #[serde(default)]
    services: Option<Vec<Service>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Missed<'_> {
    /// Which of these, which the list lacks, may be there and hidden. All questions of a kind together take no longer than
    /// one may, and some are asked at the same time: who has to begin anew, for lack of time, asks all again.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if one is shown; or what kept the leader from answering.
    pub(super) async fn hidden(&self, missing: &[Place]) -> Result<Vec<Place>, Error> {
        let limit = self.reader.session.config.common.request_timeout;
        let by = Instant::now() + limit;
        let mut asked: Vec<BoxFuture<'_, Result<bool, Error>>> = Vec::new();
        for some in missing.chunks(ASKED) {
            asked.push(Box::pin(self.may_hide(some, by)));
        }
        let mut doubtful = Vec::new();
        for (some, may_hide) in missing.chunks(ASKED).zip(abreast(asked, AT_ONCE).await) {
            if may_hide? {
                doubtful.extend(some);
            }
        }
        let by = Instant::now() + limit;
        let mut asked: Vec<BoxFuture<'_, Result<bool, Error>>> = Vec::new();
        // They are in the order of their nodes.
        let by_node = || doubtful.chunk_by(|a: &&Place, b| a.node() == b.node());
        for standing in by_node() {
            asked.push(Box::pin(self.hides(standing, by)));
        }
        let mut hidden = Vec::new();
        for (standing, hides) in by_node().zip(abreast(asked, AT_ONCE).await) {
            if hides? {
                hidden.extend(standing.iter().copied().cloned());
            }
        }
        Ok(hidden)
    }

    /// Whether the leader doesn't say that none of these is there.
    async fn may_hide(&self, missing: &[Place], by: Instant) -> Result<bool, Error> {
        let Reader { session, query, operation } = self.reader;
        let Some(path) = query.some(session, self.dc(), &Place::filter(missing)) else { return Ok(false) };
        let told = session.success(Call::get(operation, path).list().until(by)).await?;
        let there = Places::of(&told.body, true);
        match rights::is_filtered(&told) {
            false if is_empty(&told) => Ok(false),
            true if !missing.iter().any(|place| there.holds(place)) => Ok(true),
            _ => Err(self.behind()),
        }
    }

    /// Whether the node of these may be hidden.
    async fn hides(&self, standing: &[&Place], by: Instant) -> Result<bool, Error> {
        let Reader { session, query, operation } = self.reader;
        let Some(node) = standing.first().map(|place| place.node()) else { return Ok(false) };
        if node.is_empty() {
            return Ok(true);
        }
        let path = session.path("/v1/catalog/node-services", Some(node)).maybe_query("dc", self.dc());
        let told = session.call(Call::get(operation, path).list().until(by)).await?;
        match told.status {
            status if status.is_success() => {}
            _ if error::is_bad_token(&told) => return Err(error::refusal(&told, operation)),
            // Nobody says.
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                return Ok(true);
            }
            _ => return Err(error::refusal(&told, operation)),
        }
        let Ok(Some(NodeServices { node: shown, services })) = serde_json::from_slice(&told.body) else {
            return Ok(true);
        };
        let is_filtered = rights::is_filtered(&told);
        let Some(shown) = shown else {
            return Ok(is_filtered);
        };
        let is_missed = |one: &Service| {
            standing.iter().any(|place| place.id() == one.id)
                && query.is_for(&one.service, one.tags.as_deref().unwrap_or_default())
        };
        if services.unwrap_or_default().iter().any(is_missed) {
            return Err(self.behind());
        }
        Ok(!shown.node.eq_ignore_ascii_case(node) || is_filtered && self.is_blank)
    }

    fn dc(&self) -> Option<&str> {
        self.reader.query.datacenters[self.at].as_deref()
    }

    /// It came back this moment, or rights did.
    fn behind(&self) -> Error {
        let message = format!("{} is behind the leader", self.answer.server);
        Error::new(ErrorKind::Unavailable, message).with_context(super::NAME, self.reader.operation)
    }
}
