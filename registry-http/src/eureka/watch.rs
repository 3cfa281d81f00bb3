//! One watch session: what the client's poll brings, as far as it was asked for.
//!
//! ```text
//!   Start ──join the poll──▶ Live ──rounds: Reset, upserts and removals, signs of life──▶ its failure ──▶ Over
//!                             ▲ │
//!                             └─┘ fell behind: Reset
//! ```
//!
//! There is no cursor: whoever comes again gets a list.

use std::sync::Arc;

use futures_util::stream;
use registry_core::{
    Error, ErrorKind, InstanceKey,
    backend::{Change, Event, Evidence, SourceId, WatchStream},
};
use tokio::{sync::broadcast::error::RecvError, time::Instant};

use super::{
    codec::Reading,
    discovery::Wanted,
    poll::{News, Round},
    replica::{self, Replica},
    session::{Hub, Latest, Rounds, Session},
};

const OPERATION: &str = "watch";

pub(crate) fn open(hub: Arc<Hub>, wanted: Result<Wanted, Error>) -> WatchStream {
    Box::pin(stream::unfold(Phase::Start(hub, wanted), |phase| async {
        let (item, phase) = match phase {
            Phase::Over => return None,
            Phase::Start(_, Err(error)) => (Err(error.with_context(super::NAME, OPERATION)), Phase::Over),
            Phase::Start(hub, Ok(wanted)) => {
                let session = hub.join(wanted.regions.as_deref());
                let (rounds, latest) = session.follow();
                let mut watch = Watch { session, wanted, rounds };
                match latest {
                    Some(latest) => (Ok(watch.reset(&latest)), Phase::Live(watch)),
                    None => watch.next().await.map_or_else(
                        |error| (Err(error), Phase::Over),
                        |event| (Ok(event), Phase::Live(watch)),
                    ),
                }
            }
            Phase::Live(mut watch) => match watch.next().await {
                Ok(event) => (Ok(event), Phase::Live(watch)),
                Err(error) => (Err(error), Phase::Over),
            },
        };
        Some((item, phase))
    }))
}

enum Phase {
    Start(Arc<Hub>, Result<Wanted, Error>),
    Live(Watch),
    Over,
}

struct Watch {
    session: Arc<Session>,
    wanted: Wanted,
    rounds: Rounds,
}

impl Watch {
    async fn next(&mut self) -> Result<Event, Error> {
        match self.rounds.recv().await {
            Ok(round) => Ok(self.event(&*round?)),
            Err(RecvError::Lagged(_)) => {
                let (rounds, latest) = self.session.follow();
                self.rounds = rounds;
                latest.map(|latest| self.reset(&latest)).ok_or_else(ended)
            }
            Err(RecvError::Closed) => Err(ended()),
        }
    }

    fn reset(&self, latest: &Latest) -> Event {
        let mut evidence = evidence(&latest.source, &latest.server);
        evidence.age = Instant::now().saturating_duration_since(latest.at);
        let mut event = Event::new(Vec::new(), None, evidence);
        self.list(&latest.all, &mut event);
        event
    }

    fn event(&self, round: &Round) -> Event {
        let mut event = Event::new(Vec::new(), None, evidence(&round.source, &round.server));
        match &round.news {
            News::Nothing => {}
            News::Changes(changes) => {
                changes.iter().for_each(|change| tell(&self.wanted, change, &mut event))
            }
            News::List { gone, all } => {
                gone.iter().for_each(|change| tell(&self.wanted, change, &mut event));
                self.list(all, &mut event);
            }
        }
        event
    }

    fn list(&self, all: &Replica, event: &mut Event) {
        let found = self.wanted.find(all);
        event.changes.push(Change::Reset(found.instances));
        event.rejected.extend(found.rejected);
    }
}

/// What a change of the replica is to a watch.
pub(crate) fn tell(wanted: &Wanted, change: &replica::Change, event: &mut Event) {
    match change {
        replica::Change::Put { new, old } => {
            let was = old.as_ref().and_then(|old| key(wanted.see(old)));
            let is = match wanted.see(new) {
                Reading::Instance(instance) => {
                    let key = instance.key();
                    event.changes.push(Change::Upsert(Arc::new(*instance)));
                    Some(key)
                }
                Reading::Other => None,
                Reading::Malformed(key, error) => {
                    tracing::debug!(?key, error = format!("{error:#}"), "skipped a record");
                    event.rejected.extend(key.clone());
                    // Unreadable is not gone.
                    key.or_else(|| was.clone())
                }
            };
            event.changes.extend(was.filter(|was| Some(was) != is.as_ref()).map(Change::Remove));
        }
        replica::Change::Gone(record) => {
            event.changes.extend(key(wanted.see(record)).map(Change::Remove));
        }
    }
}

fn key(reading: Reading) -> Option<InstanceKey> {
    match reading {
        Reading::Instance(instance) => Some(instance.key()),
        Reading::Other => None,
        Reading::Malformed(key, _) => key,
    }
}

fn evidence(source: &SourceId, server: &Arc<str>) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.source = Some(source.clone());
    evidence.endpoint = Some(Arc::clone(server));
    evidence
}

fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the poll ended").with_context(super::NAME, OPERATION)
}
