//! Looking a target up, and opening watch sessions.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use etcd_client::{
    GetOptions,
    proto::{PbKeyValue, PbRangeResponse},
};
use registry_core::{
    Discovery, Error, ErrorKind, Instance, InstanceKey, ServiceName, Target,
    backend::{Consistency, Cursor, Evidence, Listing, Read, SourceId, WatchStream},
};
use tokio::time::{Instant, timeout};

use crate::{
    channel::{Lane, MAX_ANSWER},
    codec::{Layout, range_end},
    config::ReadMode,
    error::{Fault, Reaction},
    session::{Call, Session},
    watch,
};

/// Keys of the first page: small enough for a page to be quick, large enough for most services to be one.
const PAGE: i64 = 1000;
/// Most keys of a further page. The server counts what is left for each page, so many small ones cost it more than few.
const MAX_PAGE: i64 = 4000;
/// What a further page should weigh, by the mean of what came before: as long as that takes, the one before is decoded.
const PAGE_BYTES: usize = 4 << 20;

/// Finding in etcd.
#[derive(Debug)]
pub(crate) struct EtcdDiscovery {
    session: Arc<Session>,
    layout: Arc<dyn Layout>,
}

impl EtcdDiscovery {
    pub(crate) fn new(session: Arc<Session>, layout: Arc<dyn Layout>) -> Self {
        Self { session, layout }
    }
}

#[async_trait]
impl Discovery for EtcdDiscovery {
    async fn lookup(&self, target: &Target, read: &Read) -> Result<Listing, Error> {
        let prefix = self.layout.prefix(target)?;
        let call = Call { avoid: read.avoid.as_deref(), ..self.session.call_of("lookup") };
        let serializable = is_serializable(&self.session, read.consistency);
        let mut records = Records::default();
        let take = |kvs: Vec<PbKeyValue>| records.decode(&*self.layout, target.service(), &kvs);
        let range = read_range(&self.session, call, &prefix, serializable, take).await?;
        let mut listing = Listing::new(records.instances, range.evidence());
        listing.rejected = records.rejected;
        Ok(listing)
    }

    fn watch(&self, target: &Target, cursor: Option<Cursor>) -> WatchStream {
        watch::open(Arc::clone(&self.session), Arc::clone(&self.layout), target.clone(), cursor.as_ref())
    }
}

pub(crate) fn is_serializable(session: &Session, consistency: Consistency) -> bool {
    match consistency {
        Consistency::Strong => false,
        Consistency::Stale => true,
        // A consistency that a later core knows: as configured.
        _ => session.config().read == ReadMode::Serializable,
    }
}

/// Where all records of a prefix were read, at one revision.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) revision: i64,
    pub(crate) cluster: u64,
    pub(crate) endpoint: Arc<str>,
}

impl Range {
    pub(crate) fn evidence(&self) -> Evidence {
        evidence(self.cluster, self.revision, &self.endpoint)
    }
}

pub(crate) fn evidence(cluster: u64, revision: i64, endpoint: &Arc<str>) -> Evidence {
    let source = SourceId::new(format!("{cluster:x}"));
    let mut evidence = Evidence::at(source, u64::try_from(revision).unwrap_or_default());
    evidence.endpoint = Some(Arc::clone(endpoint));
    evidence
}

/// Reads a prefix page by page, all at the revision of the first page and from the endpoint that gave it, and hands
/// each page to `take`. The server is asked for the next page before that, so that it reads while we decode.
pub(crate) async fn read_range(
    session: &Session,
    call: Call<'_>,
    prefix: &[u8],
    serializable: bool,
    mut take: impl FnMut(Vec<PbKeyValue>) + Send,
) -> Result<Range, Error> {
    let end = range_end(prefix);
    let options = move |end: Vec<u8>, limit: i64| {
        let options = GetOptions::new().with_range(end).with_limit(limit);
        if serializable { options.with_serializable() } else { options }
    };
    let first = session
        .call(call, |lane| {
            let options = options(end.clone(), PAGE);
            async move { page(&lane, prefix, options, serializable).await }
        })
        .await?;
    let (lane, token) = (first.lane, first.token);
    let PbRangeResponse { header, mut kvs, mut more, .. } = first.value;
    let Some(header) = header else {
        return Err(Fault::protocol("the answer has no header").into_error(call.operation));
    };
    let (mut count, mut bytes) = (kvs.len(), kvs.iter().map(size).sum::<usize>());
    while more && let Some(last) = kvs.last() {
        let mut from = last.key.clone();
        from.push(0);
        let options = options(end.clone(), further(count, bytes)).with_revision(header.revision);
        let limit: Duration = session.config().request_timeout;
        let pending = timeout(limit, page(&lane, &from, options, serializable));
        let taken = std::mem::take(&mut kvs);
        // In this order: the first poll of the page sends its request.
        let (next, ()) = tokio::join!(biased; pending, async { take(taken) });
        let next = match next {
            Ok(Ok(next)) => next,
            // Compacted between two pages: that is slow reading, not a watch that lost its place.
            Ok(Err(fault)) if fault.kind == ErrorKind::Compacted => {
                let fault = Fault::new(ErrorKind::Unavailable, Reaction::Answer, fault.message);
                return Err(fault.into_error(call.operation));
            }
            Ok(Err(fault)) => return Err(session.stream_failed(&lane, token, fault, call.operation)),
            Err(_) => {
                let fault = Fault::timeout(format!("no further page within {limit:?}"));
                return Err(session.stream_failed(&lane, token, fault, call.operation));
            }
        };
        if next.kvs.is_empty() {
            break;
        }
        count += next.kvs.len();
        bytes += next.kvs.iter().map(size).sum::<usize>();
        if bytes > MAX_ANSWER {
            let fault = Fault::new(
                ErrorKind::Protocol,
                Reaction::Answer,
                format!("the list is larger than {MAX_ANSWER} bytes"),
            );
            return Err(fault.into_error(call.operation));
        }
        more = next.more;
        kvs = next.kvs;
    }
    take(kvs);
    Ok(Range { revision: header.revision, cluster: header.cluster_id, endpoint: lane.endpoint })
}

async fn page(
    lane: &Lane,
    from: &[u8],
    options: GetOptions,
    serializable: bool,
) -> Result<PbRangeResponse, Fault> {
    // A member without a leader still answers serializable reads, unless it is told to insist on one.
    let mut kv = if serializable { lane.local_kv.clone() } else { lane.kv.clone() };
    Ok(kv.get(from, Some(options)).await?.0)
}

/// How many keys to ask for after `count` that weighed `bytes`.
fn further(count: usize, bytes: usize) -> i64 {
    let fitting = PAGE_BYTES.saturating_mul(count) / bytes.max(1);
    i64::try_from(fitting).unwrap_or(MAX_PAGE).clamp(PAGE, MAX_PAGE)
}

fn size(kv: &PbKeyValue) -> usize {
    kv.key.len() + kv.value.len()
}

/// Decoded records, and the keys of those that can't be.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) instances: Vec<Arc<Instance>>,
    pub(crate) rejected: Vec<InstanceKey>,
}

impl Records {
    /// Adds what a page holds.
    pub(crate) fn decode(&mut self, layout: &dyn Layout, service: &ServiceName, kvs: &[PbKeyValue]) {
        let mut strange = 0_usize;
        for kv in kvs {
            match layout.instance_of(service, &kv.key) {
                Some(key) => match layout.decode(&key, &kv.value) {
                    Ok(instance) => self.instances.push(Arc::new(instance)),
                    Err(error) => {
                        tracing::debug!(%key, error = format!("{error:#}"), "skipped a record");
                        self.rejected.push(key);
                    }
                },
                None => strange += 1,
            }
        }
        if strange > 0 {
            tracing::debug!(%service, strange, "skipped keys that are no instance's");
        }
    }
}

/// Asks only for the state of the registry: whether `revision` can still be read, and where the registry stands.
pub(crate) async fn probe(
    session: &Session,
    prefix: &[u8],
    revision: i64,
) -> Result<Result<(u64, i64), Fault>, Error> {
    let call =
        Call { deadline: Instant::now() + session.config().request_timeout, ..session.call_of("watch") };
    let answer = session
        .call(call, |lane| async move {
            let options = GetOptions::new().with_revision(revision);
            let fault = match page(&lane, prefix, options, false).await {
                Ok(PbRangeResponse { header: Some(header), .. }) => {
                    return Ok(Ok((header.cluster_id, header.revision)));
                }
                Ok(_) => return Err(Fault::protocol("the answer has no header")),
                Err(fault) => fault,
            };
            // An answer to the question, not a failure of the call.
            if fault.kind == ErrorKind::Compacted { Ok(Err(fault)) } else { Err(fault) }
        })
        .await?;
    Ok(answer.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_page_is_larger_where_records_are_small_and_never_smaller_than_the_first() {
        assert_eq!(further(1000, 1000 * 300), MAX_PAGE);
        assert_eq!(further(1000, 1000 * 2048), 2048);
        assert_eq!(further(1000, 1000 * 65_536), PAGE);
        assert_eq!((further(0, 0), further(1, 0)), (PAGE, MAX_PAGE));
    }
}
