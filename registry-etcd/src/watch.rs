//! One watch session.
//!
//! ```text
//!             no cursor, or another incarnation
//!   Start ───────────────────────────────▶ list, Reset ──▶ Listed ──▶ watch from R ─▶ Live ─▶ events, signs of life
//!     │ cursor (cluster, revision)                            ▲                          │
//!     ├─ compacted ─▶ Err(Compacted)                          └── created below R: ──────┤
//!     └─ readable ─▶ watch from there ─▶ Resumed                  the server lost data   └─ Err, Over
//! ```
//!
//! - The revision of the cursor is read first: etcd tells of compaction only some time *after* it created the watch,
//!   and never tells that a start revision lies in the future because the server lost its data.
//! - It starts *at* R, not behind it, and drops what it has: etcd answers no progress request while the start revision
//!   lies in the future, so a watch from R+1 of an idle cluster would look dead.
//! - The cursor is moved by events and by progress answers. Events are dropped by what was *delivered*, not by the
//!   cursor, as older servers send progress too early (etcd-io/etcd#15220).
//! - An idle watch asks for progress every 10 s. A request that isn't answered within 4 s ends the session: streams
//!   stall on connections that still answer pings.

use std::{sync::Arc, time::Duration};

use etcd_client::{
    WatchOptions, WatchRequestSender, WatchResponseStream,
    proto::{PbEvent, PbKeyValue, PbWatchResponse},
};
use futures_util::stream;
use registry_core::{
    Error, ErrorKind, Target,
    backend::{Change, Consistency, Cursor, Event, WatchStream},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    channel::Lane,
    codec::{Layout, range_end},
    discovery::{Records, evidence, is_serializable, probe, read_range},
    error::{Fault, Reaction},
    session::Session,
};

const OPERATION: &str = "watch";
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// A probe and the time to answer it; less than the core waits, so that the endpoint is blamed and the next one asked.
pub(crate) const SILENT: Duration = Duration::from_secs(14);
/// `Event.EventType` of etcd's `kv.proto`; read as numbers, as etcd-client panics on values it doesn't know.
const PUT: i32 = 0;
const DELETE: i32 = 1;

pub(crate) fn open(
    session: Arc<Session>,
    layout: Arc<dyn Layout>,
    target: Target,
    cursor: Option<&Cursor>,
) -> WatchStream {
    let prefix = layout.prefix(&target);
    let start = match cursor.and_then(Position::parse) {
        Some(position) => Phase::Resume(position),
        None => Phase::List,
    };
    let watcher = Watcher { session, layout, target, prefix: Vec::new(), phase: start };
    Box::pin(stream::unfold((watcher, Some(prefix)), |(mut watcher, prefix)| async move {
        let item = match prefix {
            Some(Err(error)) => {
                watcher.phase = Phase::Over;
                Some(Err(error))
            }
            Some(Ok(prefix)) => {
                watcher.prefix = prefix;
                watcher.next().await
            }
            None => watcher.next().await,
        };
        item.map(|item| (item, (watcher, None)))
    }))
}

/// A place in the history of one cluster: what our cursors hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    cluster: u64,
    revision: i64,
}

impl Position {
    fn parse(cursor: &Cursor) -> Option<Self> {
        let (cluster, revision) = cursor.as_str().split_once('/')?;
        let cluster = u64::from_str_radix(cluster, 16).ok()?;
        let revision = revision.parse().ok().filter(|revision| *revision > 0)?;
        Some(Self { cluster, revision })
    }

    fn cursor(self) -> Cursor {
        Cursor::new(format!("{:x}/{}", self.cluster, self.revision))
    }
}

struct Watcher {
    session: Arc<Session>,
    layout: Arc<dyn Layout>,
    target: Target,
    prefix: Vec<u8>,
    phase: Phase,
}

enum Phase {
    List,
    Resume(Position),
    /// The list was delivered; its watch is still to be opened.
    Listed(Position),
    Live(Box<Live>),
    Over,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Event, Error>> {
        let item = loop {
            let step = match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Over => return None,
                Phase::List => self.list().await.map(Some),
                Phase::Resume(position) => self.resume(position).await,
                Phase::Listed(position) => match open_live(&self.session, &self.prefix, position).await {
                    Ok(Some(live)) => {
                        self.phase = Phase::Live(live);
                        Ok(None)
                    }
                    // Listing again here would be a loop without a pause where a proxy says so each time.
                    Ok(None) => Err(Error::new(ErrorKind::Compacted, "the registry's data started anew")
                        .with_context(crate::NAME, OPERATION)),
                    Err(error) => Err(error),
                },
                Phase::Live(mut live) => match live.next().await {
                    Ok(batch) => {
                        let event = self.event(&live, &batch);
                        self.phase = Phase::Live(live);
                        Ok(Some(event))
                    }
                    Err(fault) => Err(self.session.stream_failed(&live.lane, live.token, fault, OPERATION)),
                },
            };
            match step {
                Ok(Some(event)) => break Ok(event),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
        };
        Some(item)
    }

    async fn list(&mut self) -> Result<Event, Error> {
        let serializable = is_serializable(&self.session, Consistency::Configured);
        let call = self.session.call_of(OPERATION);
        let mut records = Records::default();
        let (layout, service) = (&*self.layout, self.target.service());
        let take = |kvs: Vec<PbKeyValue>| records.decode(layout, service, &kvs);
        let range = read_range(&self.session, call, &self.prefix, serializable, take).await?;
        let position = Position { cluster: range.cluster, revision: range.revision };
        let changes = vec![Change::Reset(records.instances)];
        let mut event = Event::new(changes, Some(position.cursor()), range.evidence());
        event.rejected = records.rejected;
        self.phase = Phase::Listed(position);
        Ok(event)
    }

    async fn resume(&mut self, position: Position) -> Result<Option<Event>, Error> {
        let known = match probe(&self.session, &self.prefix, position.revision).await? {
            Ok((cluster, revision)) => cluster == position.cluster && revision >= position.revision,
            // A cursor from the future: the server lost its data.
            Err(fault) if fault.message.contains("future revision") => false,
            Err(fault) => return Err(fault.into_error(OPERATION)),
        };
        let live = if known { open_live(&self.session, &self.prefix, position).await? } else { None };
        let Some(live) = live else {
            self.phase = Phase::List;
            return Ok(None);
        };
        let evidence = evidence(position.cluster, position.revision, &live.lane.endpoint);
        self.phase = Phase::Live(live);
        Ok(Some(Event::new(vec![Change::Resumed], Some(position.cursor()), evidence)))
    }

    fn event(&self, live: &Live, batch: &[PbEvent]) -> Event {
        let mut changes = Vec::with_capacity(batch.len());
        let mut rejected = Vec::new();
        for event in batch {
            let Some(kv) = &event.kv else { continue };
            let Some(key) = self.layout.instance_of(self.target.service(), &kv.key) else { continue };
            match event.r#type {
                PUT => match self.layout.decode(&key, &kv.value) {
                    Ok(instance) => changes.push(Change::Upsert(Arc::new(instance))),
                    Err(error) => {
                        tracing::debug!(%key, error = format!("{error:#}"), "skipped a record");
                        rejected.push(key);
                    }
                },
                DELETE => changes.push(Change::Remove(key)),
                other => tracing::warn!(%key, r#type = other, "skipped an event of an unknown type"),
            }
        }
        let position = Position { cluster: live.cluster, revision: live.progress.revision };
        let evidence = evidence(position.cluster, position.revision, &live.lane.endpoint);
        let mut event = Event::new(changes, Some(position.cursor()), evidence);
        event.rejected = rejected;
        event
    }
}

/// An open watch.
pub(crate) struct Live {
    requests: WatchRequestSender,
    responses: WatchResponseStream,
    lane: Lane,
    token: u64,
    cluster: u64,
    progress: Progress,
    heard: Instant,
    probe_at: Instant,
}

/// How far a watch has come.
#[derive(Debug)]
struct Progress {
    /// Where a later session may resume.
    revision: i64,
    /// The highest revision of an event that was handed out, or that the list held.
    delivered: i64,
    /// Events of a response that is still incomplete.
    fragments: Vec<PbEvent>,
}

/// Opens a watch after `position`; `None` if the server is not the one that position is from.
async fn open_live(session: &Session, prefix: &[u8], position: Position) -> Result<Option<Box<Live>>, Error> {
    let options = WatchOptions::new()
        .with_range(range_end(prefix))
        .with_start_revision(position.revision)
        .with_progress_notify()
        .with_fragment();
    let answer = session
        .call(session.call_of(OPERATION), |lane| {
            let options = options.clone();
            async move {
                let stream = lane.watch.clone().watch(prefix, Some(options)).await?;
                let (requests, mut responses) = stream.split();
                let created = responses
                    .message()
                    .await?
                    .ok_or_else(|| Fault::unavailable("the watch was closed at once"))?
                    .0;
                if let Some(fault) = cancelled(&created) {
                    return Err(fault);
                }
                let header = created.header.ok_or_else(|| Fault::protocol("the watch has no header"))?;
                Ok((requests, responses, header.cluster_id, header.revision))
            }
        })
        .await?;
    let (requests, responses, cluster, revision) = answer.value;
    // etcd's own gRPC proxy leaves the cluster out when it joins watches.
    if (cluster != 0 && cluster != position.cluster) || revision < position.revision {
        tracing::warn!(endpoint = %answer.lane.endpoint, "the registry's data started anew; listing again");
        return Ok(None);
    }
    let now = Instant::now();
    Ok(Some(Box::new(Live {
        requests,
        responses,
        lane: answer.lane,
        token: answer.token,
        cluster: position.cluster,
        progress: Progress::at(position.revision),
        heard: now,
        probe_at: now + PROBE_EVERY,
    })))
}

impl Live {
    /// The next batch of events that weren't delivered yet; an empty one is a sign of life.
    async fn next(&mut self) -> Result<Vec<PbEvent>, Fault> {
        loop {
            let message = tokio::select! {
                message = self.responses.message() => message,
                () = sleep_until(self.probe_at) => {
                    if self.heard.elapsed() >= SILENT {
                        return Err(Fault::timeout(format!("the watch was silent for {SILENT:?}")));
                    }
                    self.requests.request_progress().await?;
                    // The last look comes as soon as the silence is too long.
                    let now = Instant::now();
                    self.probe_at = (now + PROBE_EVERY).min(self.heard + SILENT).max(now + Duration::from_secs(1));
                    continue;
                }
            };
            let Some(message) = message? else {
                return Err(Fault::unavailable("the watch was closed by the server"));
            };
            self.heard = Instant::now();
            self.probe_at = self.heard + PROBE_EVERY;
            if let Some(batch) = self.progress.take(message.0)? {
                return Ok(batch);
            }
        }
    }
}

impl Progress {
    fn at(revision: i64) -> Self {
        Self { revision, delivered: revision, fragments: Vec::new() }
    }

    /// What one response brings; `None` while it is incomplete.
    fn take(&mut self, response: PbWatchResponse) -> Result<Option<Vec<PbEvent>>, Fault> {
        if let Some(fault) = cancelled(&response) {
            return Err(fault);
        }
        let delivered = self.delivered;
        let is_progress = response.events.is_empty() && !response.created;
        self.fragments.extend(
            response
                .events
                .into_iter()
                .filter(|event| event.kv.as_ref().is_some_and(|kv| kv.mod_revision > delivered)),
        );
        if response.fragment {
            return Ok(None);
        }
        if is_progress && self.fragments.is_empty() {
            let at = response.header.map_or(0, |header| header.revision);
            self.revision = self.revision.max(at);
            return Ok(Some(Vec::new()));
        }
        let batch = std::mem::take(&mut self.fragments);
        let newest = batch.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision)).max();
        self.delivered = self.delivered.max(newest.unwrap_or(0));
        self.revision = self.revision.max(self.delivered);
        Ok(Some(batch))
    }
}

/// Why a response ends its watch, if it does.
fn cancelled(response: &PbWatchResponse) -> Option<Fault> {
    if response.compact_revision > 0 {
        let message = format!("history up to revision {} was compacted", response.compact_revision);
        return Some(Fault::new(ErrorKind::Compacted, Reaction::Answer, message));
    }
    response.canceled.then(|| Fault::from_cancel_reason(&response.cancel_reason))
}

#[cfg(test)]
mod tests;
