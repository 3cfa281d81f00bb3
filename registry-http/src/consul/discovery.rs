//! Finding: one read of a list, and what it says of itself.

use std::{collections::BTreeSet, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use registry_core::{
    Discovery, Error, ErrorKind, InstanceKey, Target,
    backend::{Consistency, Cursor, Evidence, Listing, Read, Relist, Relisted, WatchStream},
};
use tokio::time::Instant;

use super::{
    config::ConsulRead,
    entry::Reading,
    error,
    list::{self, distinct},
    missed::Missed,
    names::Names,
    query::Query,
    rights::{self, Needed},
    session::Session,
    shown::{HIDDEN_FOR, Hidden, Missing, Noted, Place, Places, print},
    watch,
};
use crate::{
    http::{Answer, Call, Path},
    json,
};

/// The longest list of which it is noted who stands where although its reader isn't known to be hidden anything: its bytes
/// are read once more, which takes less than a millisecond.
const CHEAP: usize = 256 * 1024;

/// Finding in Consul.
#[derive(Debug)]
pub(super) struct ConsulDiscovery {
    session: Arc<Session>,
    names: Names,
}

impl ConsulDiscovery {
    pub(super) fn new(session: Arc<Session>, names: Names) -> Self {
        Self { session, names }
    }
}

#[async_trait]
impl Discovery for ConsulDiscovery {
    async fn lookup(&self, target: &Target, read: &Read) -> Result<Listing, Error> {
        let context = |error: Error| error.with_context(super::NAME, "lookup");
        let query = Query::new(target, &self.names, &self.session.config).map_err(context)?;
        let mode = match read.consistency {
            Consistency::Strong => ConsulRead::Consistent,
            Consistency::Stale => ConsulRead::Stale,
            _ => self.session.config.read,
        };
        let reader = Reader { session: &self.session, query: &query, operation: "lookup" };
        let found = reader.first(query.all(), mode, read.avoid.clone()).await?;
        if let Some(Refusal { error, .. }) = found.refusal {
            return Err(error);
        }
        let (list, rejected) = distinct(found.list);
        // No failed session may have told that the registry was replaced meanwhile.
        self.session.doubt();
        let source = self.session.source(found.dc.as_deref()).await;
        let mut listing = Listing::new(list, found.noted.told.evidence(source));
        listing.rejected = rejected;
        Ok(listing)
    }

    fn watch(&self, target: &Target, _cursor: Option<Cursor>) -> WatchStream {
        // A cursor proves nothing: a registry that was restored or wiped may have come to the same index, and the list
        // has to be read anyway.
        let query = Query::new(target, &self.names, &self.session.config);
        watch::open(Arc::clone(&self.session), query)
    }
}

/// What an answer says of itself.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Where its list stands; none if it can't be waited on.
    pub(super) index: Option<u64>,
    pub(super) age: Duration,
    /// Who made it: their indexes don't compare.
    pub(super) is_streaming: bool,
    pub(super) server: Arc<str>,
    pub(super) bytes: usize,
    /// Whether it says that something was left out; a streamed one never does.
    pub(super) is_partial: bool,
    /// Whether whoever answered knew a leader; a streamed answer doesn't say.
    pub(super) is_led: bool,
    /// When the list was current, by the last one who knew a leader.
    pub(super) vouched: Instant,
}

impl Told {
    pub(super) fn of(answer: &Answer) -> Self {
        let number = |name: &str| answer.header(name).and_then(|text| text.trim().parse::<u64>().ok());
        let contact = Duration::from_millis(number("x-consul-lastcontact").unwrap_or(0));
        // Of an agent's cache: for how long it has been cut off.
        let cached = Duration::from_secs(number("age").unwrap_or(0));
        let age = contact.max(cached);
        let now = Instant::now();
        Self {
            // Zero would make the next read return at once.
            index: number("x-consul-index").map(|index| index.max(1)),
            age,
            is_streaming: answer.header("x-consul-query-backend") == Some("streaming"),
            server: Arc::clone(&answer.server),
            bytes: answer.body.len(),
            is_partial: rights::is_filtered(answer),
            is_led: answer.header("x-consul-knownleader") != Some("false"),
            vouched: now.checked_sub(age).unwrap_or(now),
        }
    }

    /// What the next answer says. One that is streamed leaves out what the last one did.
    pub(super) fn next(&self, answer: &Answer) -> Self {
        let mut next = Self::of(answer);
        next.is_partial |= next.is_streaming && self.is_partial;
        if !next.is_led {
            // Who knows no leader may be left alone with its list, and can't tell for how long.
            next.age = next.age.max(self.vouched.elapsed());
            next.vouched = self.vouched;
        }
        next
    }

    /// Whether the registry's data is older in the next answer, as far as two answers compare.
    pub(super) fn went_back(&self, next: &Self) -> bool {
        match (self.index, next.index) {
            (Some(before), Some(after)) => after < before && self.is_streaming == next.is_streaming,
            _ => false,
        }
    }

    pub(super) fn evidence(&self, source: registry_core::backend::SourceId) -> Evidence {
        let mut evidence = Evidence::default();
        evidence.source = Some(source);
        evidence.revision = self.index;
        evidence.age = self.age;
        evidence.endpoint = Some(Arc::clone(&self.server));
        evidence.partial = self.is_partial;
        evidence
    }
}

/// Why a list isn't all there is to be told: what it lacks, it may hide.
pub(super) struct Refusal {
    pub(super) error: Error,
    /// Whether the list tells anything beside that.
    pub(super) is_news: bool,
}

/// A list that was taken in.
pub(super) struct Taken {
    /// What is hidden is among what can't be read.
    pub(super) list: Relisted,
    pub(super) noted: Noted,
    pub(super) refusal: Option<Refusal>,
}

/// A first list.
pub(super) struct Found {
    pub(super) list: Relisted,
    pub(super) noted: Noted,
    pub(super) relist: Relist,
    pub(super) refusal: Option<Refusal>,
    /// Which of the query's data centres it is.
    pub(super) at: usize,
    pub(super) dc: Option<String>,
}

/// Reads the lists of one query.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) session: &'a Session,
    pub(super) query: &'a Query,
    pub(super) operation: &'static str,
}

impl Reader<'_> {
    /// The first list that isn't empty, by data centre. If all are, the first; if one can't be read, nobody knows.
    pub(super) async fn first(
        &self,
        datacenters: Range<usize>,
        mode: ConsulRead,
        avoid: Option<Arc<str>>,
    ) -> Result<Found, Error> {
        let mut empty = None;
        let mut failed = None;
        for at in datacenters {
            match self.list(at, mode, avoid.clone()).await {
                Ok(found) if !found.list.instances.is_empty() || !found.list.rejected.is_empty() => {
                    return Ok(found);
                }
                Ok(found) => {
                    empty.get_or_insert(found);
                }
                // What the next one would refuse as well.
                Err(error) if !error.is_retryable() => return Err(error),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        match (failed, empty) {
            (Some(error), _) => Err(error),
            (None, Some(found)) => Ok(found),
            (None, None) => Err(Error::new(ErrorKind::InvalidArgument, "no data centre was named")
                .with_context(super::NAME, self.operation)),
        }
    }

    /// One list, at once.
    pub(super) async fn list(
        &self,
        at: usize,
        mode: ConsulRead,
        avoid: Option<Arc<str>>,
    ) -> Result<Found, Error> {
        let dc = self.query.datacenters[at].clone();
        let path = self.query.path(self.session, dc.as_deref(), mode);
        let mut answer = self.read(Call::get(self.operation, path).list().avoiding(avoid)).await?;
        let before = self.session.shown.get(&self.list_name(at));
        let is_behind = rights::is_filtered(&answer)
            && before.as_ref().is_some_and(|before| before.told.went_back(&Told::of(&answer)));
        // See `watch`: an agent's view may be empty for want of rights, and doesn't say so. And who lags behind what was
        // shown lacks what came since.
        if Told::of(&answer).is_streaming && is_empty(&answer)
            || is_behind
            || self.is_in_doubt(&answer, before.as_ref()).await
        {
            answer = self.ask_leader(at).await?;
        }
        let told = before.as_ref().map_or_else(|| Told::of(&answer), |before| before.told.next(&answer));
        let mut relist = Relist::new();
        relist.is_same(&answer.body);
        let Taken { list, noted, refusal } =
            self.take(&mut relist, &answer, at, before.as_ref(), told).await?;
        Ok(Found { list, noted, relist, refusal, at, dc })
    }

    /// Whether a list that is streamed may leave somebody out without a word, or its reader may be shown only some, which
    /// none that is streamed tells.
    pub(super) async fn is_in_doubt(&self, answer: &Answer, before: Option<&Noted>) -> bool {
        if !Told::of(answer).is_streaming || !rights::is_restrained(self.session, answer).await {
            return false;
        }
        let Some(before) = before else { return true };
        let lacking = before.places.lacking(&Places::of(&answer.body, true));
        lacking != Missing::Places(Vec::new())
    }

    /// One answer, at once, from who has the data.
    pub(super) async fn ask_leader(&self, at: usize) -> Result<Answer, Error> {
        let dc = self.query.datacenters[at].as_deref();
        let path = self.query.path(self.session, dc, ConsulRead::Default);
        self.read(Call::get(self.operation, path).list()).await
    }

    /// One answer, at once, from whom the configuration says.
    pub(super) async fn at_once(&self, at: usize) -> Result<Answer, Error> {
        let dc = self.query.datacenters[at].as_deref();
        let path = self.query.path(self.session, dc, self.session.config.read);
        self.read(Call::get(self.operation, path).list()).await
    }

    /// Waits for what comes after an index; the answer may be the same list.
    pub(super) async fn wait(&self, at: usize, index: u64) -> Result<Answer, Error> {
        let config = &self.session.config;
        let path = self.query.path(self.session, self.query.datacenters[at].as_deref(), config.read);
        self.read(blocking(self.session, self.operation, path, index)).await
    }

    async fn read(&self, call: Call) -> Result<Answer, Error> {
        let answer = self.session.success(call).await?;
        if self.query.prepared.is_some() {
            // Nobody can be asked whether what it lacks the next time is hidden.
            rights::refuse_filtered(&answer, self.operation)?;
        }
        Ok(answer)
    }

    /// Notes what a watch was shown.
    pub(super) fn note(&self, at: usize, noted: Noted) {
        self.session.shown.set(&self.list_name(at), noted);
    }

    /// Keeps what a watch was shown for the session that comes next.
    pub(super) fn keep(&self) {
        for at in 0..self.query.datacenters.len() {
            self.session.shown.keep(&self.list_name(at));
        }
    }

    /// What a list is remembered by.
    fn list_name(&self, at: usize) -> String {
        self.query.path(self.session, self.query.datacenters[at].as_deref(), ConsulRead::Default).into()
    }

    /// Where the entries of a list stand, and what it hides that was shown before. Refuses one that hides all of it, or
    /// nobody knows what.
    async fn places(
        &self,
        answer: &Answer,
        at: usize,
        is_blank: bool,
        before: Option<&Noted>,
    ) -> Result<(Arc<Places>, Arc<[Hidden]>), Error> {
        let none = || Arc::from([]);
        let is_noted =
            is_blank || answer.body.len() <= CHEAP || rights::is_restrained(self.session, answer).await;
        let now = Arc::new(Places::of(&answer.body, is_noted));
        let Some(before) = before else { return Ok((now, none())) };
        if !rights::may_hide(self.session, answer).await {
            return Ok((now, none()));
        }
        match before.places.lacking(&now) {
            Missing::Places(missing) if missing.is_empty() => {}
            Missing::Places(missing) => {
                let hidden = Missed { reader: *self, answer, at, is_blank }.hidden(&missing).await?;
                let hidden = self.held(before, hidden);
                if is_blank && !hidden.is_empty() {
                    return Err(rights::hides(answer, self.operation));
                }
                let places = now.and(hidden.iter().map(|one| one.place.clone()));
                return Ok((Arc::new(places), hidden.into()));
            }
            Missing::Unknown if rights::is_filtered(answer) => {
                let own = self.query.names.service(&self.query.service);
                let needed = Needed { service: &own, nodes: true, dc: self.query.datacenters[at].as_deref() };
                if !rights::may_read(self.session, self.operation, needed).await? {
                    return Err(rights::hides(answer, self.operation));
                }
            }
            // Streamed to who isn't told of rights at all.
            Missing::Unknown => {}
        }
        Ok((now, none()))
    }

    /// Of what is hidden, that which hasn't been for too long.
    fn held(&self, before: &Noted, hidden: Vec<Place>) -> Vec<Hidden> {
        let now = Instant::now();
        let since = |place: &Place| {
            before.hidden.iter().find(|known| known.place == *place).map_or(now, |known| known.since)
        };
        let mut held: Vec<Hidden> =
            hidden.into_iter().map(|place| Hidden { since: since(&place), place }).collect();
        let many = held.len();
        held.retain(|one| one.since.elapsed() < HIDDEN_FOR);
        if held.len() < many {
            tracing::warn!(service = %self.query.service, many = many - held.len(),
                "instances that the token may not read any more have been hidden for an hour and count as gone");
        }
        held
    }

    /// Refuses a list without entries, of this service at Consul, if they may only be hidden.
    pub(super) async fn refuse_hidden(
        &self,
        answer: &Answer,
        at: usize,
        service: Option<&str>,
    ) -> Result<(), Error> {
        let own = self.query.names.service(&self.query.service);
        let dc = self.query.datacenters[at].as_deref();
        let needed = Needed { service: service.unwrap_or(&own), nodes: true, dc };
        rights::refuse_hidden(self.session, answer, self.operation, needed).await
    }

    /// The instances of an answer.
    pub(super) async fn take(
        &self,
        relist: &mut Relist,
        answer: &Answer,
        at: usize,
        before: Option<&Noted>,
        told: Told,
    ) -> Result<Taken, Error> {
        // A prepared query may be answered by another data centre, and any of those that are named may be the agent's own.
        let home = match self.query.datacenters[at].is_some() || self.query.prepared.is_some() {
            true => self.session.home().await,
            false => None,
        };
        let reading = Reading {
            names: &self.query.names,
            service: &self.query.service,
            home,
            is_remote: at > 0,
            is_prepared: self.query.prepared.is_some(),
        };
        let is_first = relist.is_new();
        let list = list::take(relist, &reading, &answer.body)
            .ok_or_else(|| error::protocol(answer, self.operation, "no list of services"))?;
        if list.is_blank {
            self.refuse_hidden(answer, at, list.service.as_deref()).await?;
        }
        let (places, hidden) = self.places(answer, at, list.is_blank, before).await?;
        let mut list = list.relisted;
        let mut noted = Noted::whole(places, told);
        let (Some(before), false) = (before, hidden.is_empty()) else {
            return Ok(Taken { list, noted, refusal: None });
        };
        let keys: BTreeSet<InstanceKey> =
            hidden.iter().flat_map(|one| reading.keys_at(one.place.node(), one.place.id())).collect();
        list.gone.retain(|key| !keys.contains(key));
        let print = print(&answer.body);
        let is_news = match is_first {
            true => before.is_news(&Places::of(&answer.body, true), &hidden, print),
            false => !list.changed.is_empty() || !list.gone.is_empty(),
        };
        list.rejected.extend(keys);
        noted.print = if is_news || !is_first { Some(print) } else { before.print };
        noted.hidden = hidden;
        let error = rights::hides(answer, self.operation);
        Ok(Taken { list, noted, refusal: Some(Refusal { error, is_news }) })
    }
}

/// Whether the answer is a list without entries.
pub(super) fn is_empty(answer: &Answer) -> bool {
    matches!(json::trim(&answer.body), b"[]" | b"null")
}

/// A read that Consul holds back until something comes after `index`.
pub(super) fn blocking(session: &Session, operation: &'static str, path: Path, index: u64) -> Call {
    let wait = session.config.wait;
    let path = path.query("index", &index.to_string()).query("wait", &format!("{}ms", wait.as_millis()));
    // Consul adds up to a sixteenth, so that not all return at once.
    let deadline = Instant::now() + wait + wait / 16 + session.config.common.request_timeout;
    Call::get(operation, path).list().patient().until(deadline)
}
