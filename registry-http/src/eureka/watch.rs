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
    Error,
    backend::{Event, Evidence, SourceId, WatchStream},
};
use tokio::{sync::broadcast::error::RecvError, time::Instant};

use super::{
    discovery::Wanted,
    poll::{News, Round},
    replica::{Change, Replica},
    session::{Hub, Latest, Rounds, Session, ended},
    view::View,
};

const OPERATION: &str = "watch";

pub(crate) fn open(hub: Arc<Hub>, wanted: Result<Wanted, Error>) -> WatchStream {
    Box::pin(stream::unfold(Phase::Start(hub, wanted), |phase| async {
        let (item, phase) = match phase {
            Phase::Over => return None,
            Phase::Start(_, Err(error)) => (Err(error.with_context(super::NAME, OPERATION)), Phase::Over),
            Phase::Start(hub, Ok(wanted)) => {
                let session = hub.join(wanted.regions.as_deref());
                match session.follow() {
                    Err(error) => (Err(error), Phase::Over),
                    Ok((rounds, latest)) => {
                        let mut watch =
                            Box::new(Watch { session, view: View::new(wanted), rounds, source: None });
                        match latest {
                            Some(latest) => (Ok(watch.reset(&latest)), Phase::Live(watch)),
                            None => watch.live().await,
                        }
                    }
                }
            }
            Phase::Live(watch) => watch.live().await,
        };
        Some((item, phase))
    }))
}

enum Phase {
    Start(Arc<Hub>, Result<Wanted, Error>),
    Live(Box<Watch>),
    Over,
}

struct Watch {
    session: Arc<Session>,
    view: View,
    rounds: Rounds,
    /// Whose data were told last.
    source: Option<SourceId>,
}

impl Watch {
    async fn live(mut self: Box<Self>) -> (Result<Event, Error>, Phase) {
        match self.next().await {
            Ok(event) => (Ok(event), Phase::Live(self)),
            Err(error) => (Err(error), Phase::Over),
        }
    }

    async fn next(&mut self) -> Result<Event, Error> {
        match self.rounds.recv().await {
            Ok(round) => Ok(self.event(&*round?)),
            Err(RecvError::Lagged(_)) => {
                let (rounds, latest) = self.session.follow()?;
                self.rounds = rounds;
                latest.map(|latest| self.reset(&latest)).ok_or_else(ended)
            }
            Err(RecvError::Closed) => Err(ended()),
        }
    }

    fn reset(&mut self, latest: &Latest) -> Event {
        let mut evidence = evidence(&latest.source, &latest.server);
        evidence.age = Instant::now().saturating_duration_since(latest.at);
        let mut event = Event::new(Vec::new(), None, evidence);
        self.list(&[], &latest.all, &mut event);
        event
    }

    fn event(&mut self, round: &Round) -> Event {
        let mut event = Event::new(Vec::new(), None, evidence(&round.source, &round.server));
        match &round.news {
            News::Nothing => {}
            News::Changes(changes) => self.view.apply(changes, &round.all, &mut event),
            News::List { gone } => self.list(gone, &round.all, &mut event),
        }
        event
    }

    fn list(&mut self, gone: &[Change], all: &Replica, event: &mut Event) {
        if self.source != event.evidence.source {
            // Readers take nothing less from another source.
            self.view.begin_anew();
            self.source.clone_from(&event.evidence.source);
        }
        self.view.reset(gone, all, event);
    }
}

fn evidence(source: &SourceId, server: &Arc<str>) -> Evidence {
    let mut evidence = Evidence::default();
    evidence.source = Some(source.clone());
    evidence.endpoint = Some(Arc::clone(server));
    evidence
}
