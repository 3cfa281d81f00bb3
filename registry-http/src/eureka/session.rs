//! One poll for all watches of a client.
//!
//! It begins with the first watch and ends with the last, or with its first failure, which ends all of them. The next
//! watch begins a new one, with what the failed one knew, which is kept for 2 min: so long a delta brings it up to date, so
//! that a server in trouble isn't asked for everything.
//!
//! ```text
//!   Running ──a failure: its error──────────────────▶ Over: who listens hears the error, or that the poll ended,
//!      └──────its task ended any other way: "ended"──▶       and who comes later is told why
//! ```

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use registry_core::{Error, ErrorKind, backend::SourceId};
use tokio::{
    sync::broadcast,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tracing::Instrument;

use super::{
    api::{Api, Body},
    error::malformed,
    poll::{Action, Input, LONGEST_GAP, News, Poll, Round},
    replica::{Continuity, Fetched, Replica},
};

const OPERATION: &str = "watch";
/// Rounds kept for a slow watch; one that falls further behind gets a list.
const ROUNDS: usize = 16;

/// The polls of a client: one for each choice of regions.
pub(crate) struct Hub {
    pub(crate) api: Arc<Api>,
    every: Duration,
    polls: Mutex<HashMap<Option<Box<str>>, Known>>,
}

#[derive(Default)]
struct Known {
    running: Weak<Session>,
    continuity: Continuity,
    /// The poll that failed last, if no other has begun since.
    failed: Option<Failed>,
}

/// All that a failed poll knew, which is a whole fleet.
struct Failed {
    poll: Poll,
    /// From then on no delta brings it up to date.
    until: Instant,
    /// Drops it then, should nobody come for it.
    _expiry: JoinSet<()>,
}

/// A running poll; it ends when this is dropped.
pub(crate) struct Session {
    shared: Arc<Shared>,
    #[cfg_attr(not(test), expect(dead_code, reason = "it is held for its end"))]
    task: JoinSet<()>,
}

struct Shared {
    state: Mutex<State>,
}

enum State {
    Running {
        rounds: broadcast::Sender<Result<Arc<Round>, Error>>,
        latest: Option<Latest>,
    },
    /// Why. The sender is gone, so that nobody who still listens waits for ever.
    Over(Error),
}

/// What a watch that comes later begins with.
#[derive(Clone, Debug)]
pub(crate) struct Latest {
    pub(crate) all: Replica,
    pub(crate) source: SourceId,
    pub(crate) server: Arc<str>,
    pub(crate) at: Instant,
}

pub(crate) type Rounds = broadcast::Receiver<Result<Arc<Round>, Error>>;

impl Hub {
    pub(crate) fn new(api: Arc<Api>, every: Duration) -> Arc<Self> {
        Arc::new(Self { api, every, polls: Mutex::default() })
    }

    /// The running poll of these regions, or a new one. Has to be called inside of a tokio runtime.
    pub(crate) fn join(self: &Arc<Self>, regions: Option<&str>) -> Arc<Session> {
        let mut polls = self.polls();
        let known = polls.entry(regions.map(Box::from)).or_default();
        if let Some(session) = known.running.upgrade().filter(|session| !session.shared.is_over()) {
            return session;
        }
        let poll = match known.failed.take() {
            Some(failed) => failed.poll.resumed(),
            None => Poll::new(self.every, known.continuity.clone(), fastrand::Rng::new()),
        };
        let state = State::Running { rounds: broadcast::Sender::new(ROUNDS), latest: None };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let runner = Runner {
            hub: Arc::downgrade(self),
            api: Arc::clone(&self.api),
            regions: regions.map(Box::from),
            shared: Ending(Arc::clone(&shared)),
        };
        let mut task = JoinSet::new();
        task.spawn(runner.run(poll).instrument(tracing::info_span!("eureka_poll", regions)));
        let session = Arc::new(Session { shared, task });
        known.running = Arc::downgrade(&session);
        session
    }

    /// The source of what a look at `server` found beside the poll.
    pub(crate) fn source_of(&self, regions: Option<&str>, server: &str, found: &Replica) -> Option<SourceId> {
        let polls = self.polls();
        let known = polls.get(&regions.map(Box::from))?;
        let source = known.continuity.source_of(server)?;
        let session = known.running.upgrade();
        let latest = session.as_ref().and_then(|session| session.follow().ok()?.1);
        match latest {
            // It has started anew, which the poll will find out too.
            Some(latest) if *latest.server == *server && !found.continues(&latest.all) => {
                Some(SourceId::new(format!("{server}?")))
            }
            _ => Some(source),
        }
    }

    /// Keeps what a failed poll knew for whoever comes next, for a while. Has to be called inside of a tokio runtime.
    fn keep(self: &Arc<Self>, regions: Option<&str>, poll: Poll) {
        let (hub, of) = (Arc::downgrade(self), regions.map(Box::<str>::from));
        let until = Instant::now() + LONGEST_GAP;
        let mut expiry = JoinSet::new();
        expiry.spawn(
            async move {
                sleep_until(until).await;
                if let Some(hub) = hub.upgrade() {
                    hub.forget(of.as_deref());
                }
            }
            .instrument(tracing::info_span!("eureka_poll_kept", regions)),
        );
        if let Some(known) = self.polls().get_mut(&regions.map(Box::from)) {
            known.failed = Some(Failed { poll, until, _expiry: expiry });
        }
    }

    /// Drops what has been kept for long enough.
    fn forget(&self, regions: Option<&str>) {
        let now = Instant::now();
        let mut polls = self.polls();
        let known = polls.get_mut(&regions.map(Box::from));
        let old = known.and_then(|known| known.failed.take_if(|failed| failed.until <= now));
        // It is large: nobody has to wait for its end.
        drop(polls);
        drop(old);
    }

    fn polls(&self) -> MutexGuard<'_, HashMap<Option<Box<str>>, Known>> {
        self.polls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// All rounds from now on, and what came before them, if anything did.
    ///
    /// # Errors
    /// Why the poll is over, if it is: no round comes any more.
    pub(crate) fn follow(&self) -> Result<(Rounds, Option<Latest>), Error> {
        match &*self.shared.state() {
            State::Running { rounds, latest } => Ok((rounds.subscribe(), latest.clone())),
            State::Over(error) => Err(error.clone()),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        matches!(*self.state(), State::Over(_))
    }

    fn tell(&self, round: Round) {
        if let State::Running { rounds, latest } = &mut *self.state() {
            *latest = Some(Latest {
                all: round.all.clone(),
                source: round.source.clone(),
                server: Arc::clone(&round.server),
                at: round.at,
            });
            // Nobody listening is the end of the session, which is near then.
            drop(rounds.send(Ok(Arc::new(round))));
        }
    }

    fn end(&self, error: Error) {
        let mut state = self.state();
        if let State::Running { rounds, .. } = &*state {
            drop(rounds.send(Err(error.clone())));
            *state = State::Over(error);
        }
    }
}

/// Ends the poll with its task, however that ends: also by a panic, or with its runtime before its first step.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end(ended());
    }
}

/// The poll is over, and nobody says why.
pub(crate) fn ended() -> Error {
    Error::new(ErrorKind::Unavailable, "the poll ended").with_context(super::NAME, OPERATION)
}

struct Runner {
    hub: Weak<Hub>,
    api: Arc<Api>,
    regions: Option<Box<str>>,
    shared: Ending,
}

impl Runner {
    async fn run(self, mut poll: Poll) {
        let mut input = Input::Due;
        loop {
            let mut next = None;
            for action in poll.step(input, Instant::now()) {
                next = match action {
                    Action::Tell(round) => {
                        if let (News::List { .. }, Some(hub)) = (&round.news, self.hub.upgrade())
                            && let Some(known) = hub.polls().get_mut(&self.regions)
                        {
                            known.continuity = poll.continuity.clone();
                        }
                        self.shared.0.tell(round);
                        None
                    }
                    Action::Wait(until) => {
                        sleep_until(until).await;
                        Some(Ok(Input::Due))
                    }
                    Action::FetchList => Some(self.list(&mut poll).await),
                    Action::FetchDelta => Some(self.delta(&mut poll).await),
                };
            }
            input = match next {
                Some(Ok(next)) => next,
                Some(Err(error)) => return self.fail(poll, error),
                None => Input::Due,
            };
        }
    }

    fn fail(&self, poll: Poll, error: Error) {
        // First, as whoever hears of the end may be back at once.
        if let Some(hub) = self.hub.upgrade() {
            hub.keep(self.regions.as_deref(), poll);
        }
        self.shared.0.end(error);
    }

    async fn list(&self, poll: &mut Poll) -> Result<Input, Error> {
        let body = self.api.all(self.regions.as_deref(), OPERATION, None).await?;
        let server = Arc::clone(&body.server);
        if !poll.is_of(&server) {
            poll.lists.forget();
        }
        let list = poll.lists.read(body.text(OPERATION)?);
        Ok(match list.map_err(|error| malformed(&server, OPERATION, error))? {
            Some(list) => Input::List(server, list),
            None => Input::SameList(server),
        })
    }

    async fn delta(&self, poll: &mut Poll) -> Result<Input, Error> {
        let Some(body) = self.api.delta(self.regions.as_deref()).await? else { return Ok(Input::NoDelta) };
        let server = Arc::clone(&body.server);
        if poll.last.is_same(&body.bytes) {
            return Ok(Input::SameDelta(server));
        }
        Ok(Input::Delta(server, fetched(&body)?))
    }
}

fn fetched(body: &Body) -> Result<Fetched, Error> {
    Fetched::parse(body.text(OPERATION)?).map_err(|error| malformed(&body.server, OPERATION, error))
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("api", &self.api).field("every", &self.every).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
