//! One watch session as a stream: opens, delivers what the store put into the session's mailbox, gives signs of
//! life, ends on the first failure.
//!
//! ```text
//! Opening ──entered──▶ Open ──connection lost, mailbox overrun──▶ Over
//!    └──refused────────────────────────────────────────────────────┘
//! ```

use std::time::Duration;

use futures_util::stream;
use tokio::time::Instant;

use super::{
    MemoryRegistry, Operation, context,
    discovery::refuse_qualifiers,
    session::{SessionId, Step},
    sleep_until,
};
use crate::{
    Error, ErrorKind,
    backend::{Cursor, Event, WatchStream},
    model::Target,
};

/// How long a session stays silent before it gives a sign of life: a third of what the capabilities promise.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

pub(super) fn open(registry: MemoryRegistry, target: Target, cursor: Option<Cursor>) -> WatchStream {
    Box::pin(stream::unfold(Watch::Opening { registry, target, cursor }, Watch::next))
}

/// What an open watch ends with when its registry goes away.
pub(super) fn closed() -> Error {
    context(Error::new(ErrorKind::Unavailable, "the registry closed the connection"), Operation::Watch)
}

enum Watch {
    Opening { registry: MemoryRegistry, target: Target, cursor: Option<Cursor> },
    Open { session: Session, spoke: Instant },
    Over,
}

/// An open session; the store forgets it when this is dropped.
struct Session {
    registry: MemoryRegistry,
    id: SessionId,
}

impl Watch {
    async fn next(self) -> Option<(Result<Event, Error>, Self)> {
        let (session, spoke) = match self {
            Self::Over => return None,
            Self::Opening { registry, target, cursor } => {
                match begin(registry, &target, cursor.as_ref()).await {
                    Ok(session) => (session, Instant::now()),
                    Err(error) => return Some((Err(error), Self::Over)),
                }
            }
            Self::Open { session, spoke } => (session, spoke),
        };
        match session.next(spoke + SIGN_OF_LIFE).await {
            Ok(event) => Some((Ok(event), Self::Open { session, spoke: Instant::now() })),
            Err(error) => Some((Err(error), Self::Over)),
        }
    }
}

async fn begin(registry: MemoryRegistry, target: &Target, cursor: Option<&Cursor>) -> Result<Session, Error> {
    registry.enter(Operation::Watch).await?;
    refuse_qualifiers(target, Operation::Watch)?;
    let id = registry.with(|state, now| state.open_session(target.service(), cursor, now));
    let session = Session { registry, id };
    session.registry.leave(Operation::Watch).await?;
    Ok(session)
}

impl Session {
    async fn next(&self, sign_of_life: Instant) -> Result<Event, Error> {
        let mut changed = self.registry.subscribe();
        loop {
            let until = match self.registry.with(|state, now| state.step_session(self.id, sign_of_life, now))
            {
                Step::Deliver(event) => return Ok(event),
                Step::Closed => return Err(closed()),
                Step::Overrun => {
                    let why = "the watcher fell behind the history that is kept";
                    return Err(context(Error::new(ErrorKind::Compacted, why), Operation::Watch));
                }
                Step::Wait(until) => until,
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.registry.with(|state, _| state.close_session(self.id));
    }
}
