//! Renewing a lease over a keep-alive stream.
//!
//! A beat is one request and one answer. Answers carry no request id, so a stream on which an answer is outstanding
//! is never used again: it is taken out of its slot for the beat and put back only once answered, and whoever drops
//! the beat drops the stream. A late answer can't be credited to a later renewal.
//!
//! The slot is empty at first and after each failure; the next beat opens a stream at whichever endpoint answers.
//! After two failures each beat opens a stream of its own, until as many have succeeded.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use registry_core::{Error, ErrorKind};
use tokio::time::{Instant, timeout};

use crate::{
    channel::Lane,
    error::{Fault, Reaction},
    session::{Call, Session},
};

const OPERATION: &str = "renew";
/// Failed streams after which none is kept open.
const DISTRUST: u32 = 2;

#[derive(Default)]
pub(crate) struct KeepAlive(Mutex<Slot>);

#[derive(Default)]
struct Slot {
    stream: Option<Stream>,
    failures: u32,
    closed: bool,
}

struct Stream {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    lane: Lane,
    token: u64,
}

impl KeepAlive {
    /// Renews once. Returns the time to live if the answer says it.
    ///
    /// # Cancel safety
    /// Dropping it closes the stream; the next renewal opens another.
    pub(crate) async fn renew(
        &self,
        session: &Session,
        lease: i64,
        deadline: Instant,
    ) -> Result<Option<Duration>, Error> {
        let kept = self.slot().stream.take();
        if let Some(mut stream) = kept {
            // Half of the time, so that a fresh stream gets the other half.
            let budget = deadline.saturating_duration_since(Instant::now()) / 2;
            let fault = match timeout(budget, stream.beat()).await {
                Ok(Ok(ttl)) => {
                    self.keep(stream);
                    return Ok(Some(ttl));
                }
                Ok(Err(fault)) => fault,
                Err(_) => Fault::timeout(format!("no answer within {budget:?}")),
            };
            let answered = fault.reaction == Reaction::Answer;
            let why = fault.line();
            let error = session.stream_failed(&stream.lane, stream.token, fault, OPERATION);
            if answered {
                return Err(error);
            }
            tracing::debug!(endpoint = %stream.lane.endpoint, why, "opening another keep-alive stream");
            self.slot().failures += 1;
        }
        let call = Call { operation: OPERATION, deadline, avoid: None };
        let answer =
            session.call(call, |lane| async move { Ok(lane.lease.clone().keep_alive(lease).await?) }).await?;
        // etcd-client has read the first answer and checked its time to live, but doesn't hand it out.
        let (keeper, answers) = answer.value;
        self.keep(Stream { keeper, answers, lane: answer.lane, token: answer.token });
        Ok(None)
    }

    /// Closes the stream for good.
    pub(crate) fn close(&self) {
        let mut slot = self.slot();
        slot.closed = true;
        slot.stream = None;
    }

    fn keep(&self, stream: Stream) {
        let mut slot = self.slot();
        if slot.failures >= DISTRUST {
            slot.failures -= 1;
        } else if !slot.closed {
            slot.stream = Some(stream);
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    async fn beat(&mut self) -> Result<Duration, Fault> {
        self.keeper.keep_alive().await?;
        let Some(answer) = self.answers.message().await? else {
            return Err(Fault::unavailable("the stream was closed by the server"));
        };
        match u64::try_from(answer.ttl()) {
            Ok(ttl) if ttl > 0 => Ok(Duration::from_secs(ttl)),
            // How the server says "lease not found" on this stream.
            _ => Err(Fault::new(
                ErrorKind::LeaseLost,
                Reaction::Answer,
                "the server no longer knows the lease",
            )),
        }
    }
}

impl fmt::Debug for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.slot();
        f.debug_struct("KeepAlive")
            .field("open", &slot.stream.is_some())
            .field("failures", &slot.failures)
            .finish()
    }
}
