//! Which services there are.
//!
//! Keys only, and not all of them: once a service is known the listing jumps behind its prefix, so that it costs by
//! the number of services rather than of instances.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use etcd_client::{
    GetOptions, WatchOptions, WatchRequestSender, WatchResponseStream, proto::PbRangeResponse,
};
use futures_util::stream;
use registry_core::{Catalogue, Error, ServiceName, backend::CatalogueStream};
use tokio::time::{Instant, sleep_until};

use crate::{
    channel::Lane,
    codec::{Layout, range_end},
    error::Fault,
    session::Session,
    watch::SILENT,
};

/// Keys per read. A service with more instances is left early, one with fewer shares its read with others.
const PAGE: i64 = 256;
/// Changes that come together are answered by one listing.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// Listing services in etcd.
#[derive(Clone, Debug)]
pub(crate) struct EtcdCatalogue {
    session: Arc<Session>,
    layout: Arc<dyn Layout>,
}

struct Names {
    names: BTreeSet<ServiceName>,
    revision: i64,
}

impl EtcdCatalogue {
    pub(crate) fn new(session: Arc<Session>, layout: Arc<dyn Layout>) -> Self {
        Self { session, layout }
    }

    async fn names(&self, operation: &'static str) -> Result<Names, Error> {
        let root = self.layout.root();
        let end = range_end(root);
        let mut names = BTreeSet::new();
        let mut from = root.to_vec();
        let mut revision = 0;
        loop {
            let answer = self
                .session
                .call(self.session.call_of(operation), |lane| {
                    let (from, options) = (from.clone(), options(&end, revision));
                    async move { Ok(lane.kv.clone().get(from, Some(options)).await?.0) }
                })
                .await?;
            let PbRangeResponse { header, kvs, more, .. } = answer.value;
            if revision == 0 {
                let header = header
                    .ok_or_else(|| Fault::protocol("the answer has no header").into_error(operation))?;
                revision = header.revision;
            }
            names.extend(kvs.iter().filter_map(|kv| self.layout.service_of(&kv.key)));
            let Some(last) = kvs.last().filter(|_| more) else {
                return Ok(Names { names, revision });
            };
            from = match self.layout.service_of(&last.key) {
                Some(_) => self.layout.after_service(&last.key),
                None => {
                    let mut next = last.key.clone();
                    next.push(0);
                    next
                }
            };
        }
    }
}

fn options(end: &[u8], revision: i64) -> GetOptions {
    let options = GetOptions::new().with_range(end).with_limit(PAGE).with_keys_only();
    if revision > 0 { options.with_revision(revision) } else { options }
}

#[async_trait]
impl Catalogue for EtcdCatalogue {
    async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        Ok(self.names("services").await?.names.into_iter().collect())
    }

    fn watch_services(&self) -> CatalogueStream {
        let watcher = Watcher { catalogue: self.clone(), told: None, live: None, over: false };
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
    catalogue: EtcdCatalogue,
    told: Option<BTreeSet<ServiceName>>,
    live: Option<Live>,
    over: bool,
}

struct Live {
    /// Dropping it would end the stream.
    requests: WatchRequestSender,
    responses: WatchResponseStream,
    lane: Lane,
    token: u64,
    /// The revision of the latest list.
    listed: i64,
}

impl Watcher {
    /// The next list that differs from the one told last.
    async fn next(&mut self) -> Result<Vec<ServiceName>, Error> {
        const OPERATION: &str = "watch_services";
        loop {
            if let Some(live) = &mut self.live
                && let Err(fault) = live.changed().await
            {
                return Err(self.catalogue.session.stream_failed(&live.lane, live.token, fault, OPERATION));
            }
            let Names { names, revision } = self.catalogue.names(OPERATION).await?;
            match &mut self.live {
                Some(live) => live.listed = revision,
                None => self.live = Some(self.open(revision, OPERATION).await?),
            }
            if self.told.as_ref() != Some(&names) {
                self.told = Some(names.clone());
                return Ok(names.into_iter().collect());
            }
        }
    }

    async fn open(&self, revision: i64, operation: &'static str) -> Result<Live, Error> {
        let session = &self.catalogue.session;
        let root = self.catalogue.layout.root();
        // At the revision, not behind it: see the watch of instances.
        let options =
            WatchOptions::new().with_range(range_end(root)).with_start_revision(revision).with_fragment();
        let answer = session
            .call(session.call_of(operation), |lane| {
                let options = options.clone();
                async move {
                    let (requests, mut responses) =
                        lane.watch.clone().watch(root, Some(options)).await?.split();
                    let created = responses.message().await?;
                    match created {
                        Some(created) if created.canceled() => {
                            Err(Fault::from_cancel_reason(created.cancel_reason()))
                        }
                        Some(_) => Ok((requests, responses)),
                        None => Err(Fault::unavailable("the watch was closed at once")),
                    }
                }
            })
            .await?;
        let (requests, responses) = answer.value;
        Ok(Live { requests, responses, lane: answer.lane, token: answer.token, listed: revision })
    }
}

impl Live {
    /// Waits for a change and then for the end of the burst that it belongs to.
    async fn changed(&mut self) -> Result<(), Fault> {
        const PROBE_EVERY: Duration = Duration::from_secs(10);
        let mut heard = Instant::now();
        let mut until: Option<Instant> = None;
        let mut probe_at = heard + PROBE_EVERY;
        loop {
            let message = tokio::select! {
                message = self.responses.message() => message,
                () = sleep_until(until.unwrap_or(probe_at)) => {
                    if until.is_some() {
                        return Ok(());
                    }
                    if heard.elapsed() >= SILENT {
                        return Err(Fault::timeout(format!("the watch was silent for {SILENT:?}")));
                    }
                    self.requests.request_progress().await?;
                    let now = Instant::now();
                    probe_at = (now + PROBE_EVERY).min(heard + SILENT).max(now + Duration::from_secs(1));
                    continue;
                }
            };
            let Some(message) = message? else {
                return Err(Fault::unavailable("the watch was closed by the server"));
            };
            heard = Instant::now();
            probe_at = heard + PROBE_EVERY;
            if message.canceled() {
                return Err(Fault::from_cancel_reason(message.cancel_reason()));
            }
            let listed = self.listed;
            if message.events().iter().any(|e| e.kv().is_some_and(|kv| kv.mod_revision() > listed)) {
                until.get_or_insert(heard + DEBOUNCE);
            }
        }
    }
}
