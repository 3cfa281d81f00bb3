//! One watch session: a list, then blocking queries.
//!
//! ```text
//!            first list                    wait ─────► same list ──► sign of life ┐
//!  Opening ─────────────► Reset ─► Watching ▲ │                                   │
//!     │                     ▲         │     │ └─────► other list ─► what changed ─┤
//!     │                     │         │     └─────────────────────────────────────┘
//!     │                     └─────────┤ index went back, or another data centre serves
//!     └──────── any failure ──────────┴──► Over
//!
//!  a list that hides what was shown: what is certain, if there is any ──► Refused ──► PermissionDenied, Over
//! ```
//!
//! The rules of blocking queries: an index is compared with those of the same kind only (a streaming agent's are lower
//! than the servers' for the same list); one that went back is followed by a read without an index, from the leader; a
//! return is no change; zero counts as one; and no loop runs faster than its [`Pace`], least of all one with a server that
//! holds nothing back. And one that no documentation tells: an agent that streams answers a revoked token with an empty list, index 1 and no word of rights, so a list that
//! runs empty is read again from the leader before anybody believes it; and so is one that lacks somebody, for who might be
//! hidden something (`shown.rs`).
//!
//! Prepared queries can't be waited on and are executed at an interval. Where several data centres are named, those in
//! front of the one in use are read in each round, and at that interval while a round lasts; the others when it runs empty.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::stream;
use registry_core::{
    Error,
    backend::{Change, Event, Relist, Relisted, SourceId, WatchStream},
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    config::ConsulRead,
    discovery::{Found, Reader, Refusal, Taken, Told, is_empty},
    list::{distinct, is_distinct},
    pace::{Held, Pace},
    query::Query,
    session::Session,
    shown::Noted,
};

const OPERATION: &str = "watch";
/// How often a list is read for which no blocking query may be opened, as too many are.
const CROWDED: Duration = Duration::from_secs(10);

pub(super) fn open(session: Arc<Session>, query: Result<Query, Error>) -> WatchStream {
    let watcher = query
        .map(|query| Watcher {
            session,
            query,
            phase: Phase::Opening,
            pace: Pace::new(Instant::now()),
            revision: None,
            has_doubles: false,
        })
        .map_err(|error| error.with_context(super::NAME, OPERATION));
    match watcher {
        Err(error) => Box::pin(stream::once(std::future::ready(Err(error)))),
        Ok(watcher) => Box::pin(stream::unfold(watcher, |mut watcher| async move {
            let item = watcher.next().await?;
            if item.is_err() {
                watcher.session.doubt();
                // Whoever asks again still has what was shown.
                watcher.reader().keep();
            }
            Some((item, watcher))
        })),
    }
}

struct Watcher {
    session: Arc<Session>,
    query: Query,
    phase: Phase,
    pace: Pace,
    /// The highest index that was told.
    revision: Option<u64>,
    /// Whether the last list had an instance twice.
    has_doubles: bool,
}

enum Phase {
    Opening,
    Watching(Box<View>),
    /// All that is certain was told.
    Refused(Error),
    Over,
}

/// What ended a wait.
enum Waited {
    Answer(crate::http::Answer),
    /// A data centre in front of the one that was asked serves again.
    Preferred(Box<Found>),
}

/// The list that is watched.
struct View {
    relist: Relist,
    /// What its last answer said of itself, and where its entries stand.
    noted: Noted,
    at: usize,
    source: SourceId,
    is_empty: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Event, Error>> {
        let item = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Over => return None,
            Phase::Opening => {
                let found = self.reader().first(self.query.all(), self.session.config.read, None).await;
                match found {
                    Ok(found) => self.reset(found).await,
                    Err(error) => Err(error),
                }
            }
            Phase::Refused(error) => Err(error),
            Phase::Watching(view) => self.round(*view).await,
        };
        Some(item)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { session: &self.session, query: &self.query, operation: OPERATION }
    }

    /// Begins with a whole list.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`](registry_core::ErrorKind::PermissionDenied) if nothing is to be told of it but that
    /// it hides what was shown before.
    async fn reset(&mut self, found: Found) -> Result<Event, Error> {
        let refusal = match found.refusal {
            Some(Refusal { error, is_news: false }) => {
                self.reader().note(found.at, found.noted);
                return Err(error);
            }
            refusal => refusal,
        };
        let source = self.session.source(found.dc.as_deref()).await;
        let told = &found.noted.told;
        if told.is_partial {
            tracing::warn!(service = %self.query.service, server = %told.server,
                "the list leaves out what the token may not read");
        }
        self.revision = told.index;
        self.pace.weigh(told.bytes);
        let evidence = told.evidence(source.clone());
        let before = found.list.instances.len();
        let (list, rejected) = distinct(found.list);
        self.has_doubles = list.len() < before;
        let mut event = Event::new(vec![Change::Reset(list)], None, evidence);
        event.rejected = rejected;
        let is_empty = before == 0 && event.rejected.is_empty();
        let mut relist = found.relist;
        if !self.has_doubles {
            relist.note_distinct();
        }
        let view = View { relist, noted: found.noted, at: found.at, source, is_empty };
        self.reader().note(view.at, view.noted.clone());
        self.phase = match refusal {
            Some(Refusal { error, .. }) => Phase::Refused(error),
            None => Phase::Watching(Box::new(view)),
        };
        Ok(event)
    }

    /// The next answer, whatever it brings.
    async fn round(&mut self, mut view: View) -> Result<Event, Error> {
        let mut answer = match self.ask_while_preferred_are_empty(&view).await? {
            Waited::Answer(answer) => answer,
            Waited::Preferred(found) => {
                tracing::info!(service = %self.query.service, dc = ?found.dc, "a preferred data centre serves again");
                return self.reset(*found).await;
            }
        };
        let last = &view.noted.told;
        let mut told = last.next(&answer);
        self.pace.weigh(told.bytes);
        let mut is_back = last.went_back(&told);
        if !is_back
            && (is_doubtful(last, &told)
                || (is_empty(&answer) && !view.is_empty)
                || self.reader().is_in_doubt(&answer, Some(&view.noted)).await)
        {
            // A second read in one round counts as well, or a server whose answers are all like this is asked twice as
            // often as it may be.
            sleep_until(self.pace.take(Instant::now())).await;
            answer = self.reader().ask_leader(view.at).await?;
            told = last.next(&answer);
            is_back = last.went_back(&told);
        }
        if is_back {
            self.session.doubt();
            sleep_until(self.pace.take(Instant::now())).await;
            let found = self.reader().list(view.at, ConsulRead::Default, None).await?;
            tracing::debug!(service = %self.query.service, from = ?last.index, to = ?found.noted.told.index, "the index went back");
            return self.reset(found).await;
        }
        if view.relist.is_same(&answer.body) {
            if is_empty(&answer) {
                // Rights may have ended since, and what came since may be hidden.
                self.reader().refuse_hidden(&answer, view.at, None).await?;
            }
            if view.is_empty
                && let Some(found) = self.served_after(view.at).await?
            {
                return self.reset(found).await;
            }
            view.noted.told = told;
            return Ok(self.event(view, Relisted::default()));
        }
        let at = view.at;
        let reader = self.reader();
        let Taken { list, noted, refusal } =
            reader.take(&mut view.relist, &answer, at, Some(&view.noted), told).await?;
        view.is_empty = list.instances.is_empty() && list.rejected.is_empty();
        if view.is_empty
            && let Some(found) = self.served_after(at).await?
        {
            return self.reset(found).await;
        }
        view.noted = noted;
        match refusal {
            None => Ok(self.event(view, list)),
            Some(Refusal { error, is_news: false }) => {
                self.reader().note(at, view.noted);
                Err(error)
            }
            Some(Refusal { error, .. }) => {
                let event = self.event(view, list);
                self.phase = Phase::Refused(error);
                Ok(event)
            }
        }
    }

    /// The list of a data centre behind an empty one, if any serves.
    async fn served_after(&self, at: usize) -> Result<Option<Found>, Error> {
        if at + 1 >= self.query.datacenters.len() {
            return Ok(None);
        }
        // Its failure is no reason to tell what is known of this one.
        let later = at + 1..self.query.datacenters.len();
        let found = self.reader().first(later, self.session.config.read, None).await?;
        if found.list.instances.is_empty() {
            return Ok(None);
        }
        tracing::info!(service = %self.query.service, dc = ?found.dc, "another data centre serves");
        Ok(Some(found))
    }

    /// Waits for an answer of a data centre; of one that isn't the first, only as long as none in front of it serves. Their
    /// lists are empty, so that it costs little to read them time and again.
    async fn ask_while_preferred_are_empty(&mut self, view: &View) -> Result<Waited, Error> {
        if view.at == 0 {
            return self.ask(view).await.map(Waited::Answer);
        }
        let (session, query) = (Arc::clone(&self.session), self.query.clone());
        let reader = Reader { session: &session, query: &query, operation: OPERATION };
        let mut asked = pin!(self.ask(view));
        loop {
            let answer = tokio::select! {
                answer = &mut asked => Some(answer?),
                () = sleep(session.config.poll) => None,
            };
            // A failure of theirs is no reason to tell nothing of this one.
            if let Ok(found) = reader.first(0..view.at, session.config.read, None).await
                && !found.list.instances.is_empty()
            {
                return Ok(Waited::Preferred(Box::new(found)));
            }
            if let Some(answer) = answer {
                return Ok(Waited::Answer(answer));
            }
        }
    }

    /// Waits for an answer: held back by Consul where that works.
    async fn ask(&mut self, view: &View) -> Result<crate::http::Answer, Error> {
        let config = &self.session.config;
        let index = view.noted.told.index.filter(|_| self.query.prepared.is_none());
        let Some(index) = index else {
            sleep(config.poll).await;
            return self.reader().at_once(view.at).await;
        };
        let session = Arc::clone(&self.session);
        let Ok(_permit) = session.polls.try_acquire() else {
            sleep(CROWDED.min(config.wait)).await;
            return self.reader().at_once(view.at).await;
        };
        sleep_until(self.pace.take(Instant::now())).await;
        let asked = Instant::now();
        let answer = self.reader().wait(view.at, index).await?;
        let told = Told::of(&answer).index;
        let held = Held { asked: index, told, took: asked.elapsed(), wait: self.session.config.wait };
        self.pace.note(held, Instant::now());
        Ok(answer)
    }

    /// What a list changes; nothing is a sign of life.
    fn event(&mut self, mut view: View, list: Relisted) -> Event {
        self.reader().note(view.at, view.noted.clone());
        let told = &view.noted.told;
        self.revision = self.revision.max(told.index);
        let mut evidence = told.evidence(view.source.clone());
        evidence.revision = self.revision;
        let is_unchanged = list.changed.is_empty() && list.gone.is_empty() && list.rejected.is_empty();
        if is_unchanged && list.instances.is_empty() {
            self.phase = Phase::Watching(Box::new(view));
            return Event::new(Vec::new(), None, evidence);
        }
        let had_doubles = std::mem::replace(&mut self.has_doubles, !is_distinct(&list));
        if !self.has_doubles {
            view.relist.note_distinct();
        }
        self.phase = Phase::Watching(Box::new(view));
        if self.has_doubles || had_doubles {
            // Which of two counts can't be told from what changed.
            let (whole, rejected) = distinct(list);
            let mut event = Event::new(vec![Change::Reset(whole)], None, evidence);
            event.rejected = rejected;
            return event;
        }
        let gone = list.gone.into_iter().map(Change::Remove);
        let changes = list.changed.into_iter().map(Change::Upsert).chain(gone).collect();
        let mut event = Event::new(changes, None, evidence);
        event.rejected = list.rejected;
        event
    }
}

/// Whether an agent answered from a view that it never filled.
fn is_doubtful(last: &Told, next: &Told) -> bool {
    next.is_streaming && next.index <= Some(1) && last.index > Some(1)
}

#[cfg(test)]
mod tests;
