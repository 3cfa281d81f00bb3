//! When a registry's data may have started anew: it was away, and is back.
//!
//! Nacos gives its data no name, and forgets ephemeral instances in a restart. Its first lists then lack whoever hasn't
//! registered again, and are like any other. All that tells of it is that nobody answered for a while, or that whoever
//! did said that it isn't ready. So the data of each time in between are another source to the core, which holds for a
//! while what the next lists lack. A server that is slow or busy hasn't restarted, and where another of a cluster
//! answers, that one has the data: so only calls count that any of them may answer.
//!
//! No server restarts within a second: what fails between successes is a line's or a proxy's mishap. Nor is one failure
//! an absence if the next call succeeds at once, however long nobody had called before.
//!
//! It may be wrong: then what really left while nobody answered is shown for as long, until a call to it fails. And of a
//! restart that only one call met, right before its end, nothing is noticed.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use registry_core::{Error, ErrorKind, backend::SourceId};
use tokio::time::Instant;

use super::error;
use crate::http::Answer;

/// Nobody is away for less.
const AWAY: Duration = Duration::from_secs(1);

/// The times in which a registry answered, as far as one client saw them.
#[derive(Debug, Default)]
pub(crate) struct Eras {
    contact: Mutex<Contact>,
    number: AtomicU64,
}

#[derive(Debug, Default)]
struct Contact {
    /// The last success.
    succeeded: Option<Instant>,
    /// The first call since then that nobody answered, and how many there were.
    failed: Option<(Instant, u32)>,
}

impl Contact {
    fn fail(&mut self) {
        let (_, count) = self.failed.get_or_insert_with(|| (Instant::now(), 0));
        *count = count.saturating_add(1);
    }

    /// Returns whether the servers had been away.
    fn succeed(&mut self) -> bool {
        let last = self.succeeded.replace(Instant::now());
        let was_quiet = last.is_none_or(|last| last.elapsed() >= AWAY);
        self.failed.take().is_some_and(|(first, count)| was_quiet && (count > 1 || first.elapsed() >= AWAY))
    }
}

impl Eras {
    /// Notes what came of a call that any server could have answered.
    pub(crate) fn note(&self, answer: &Result<Answer, Error>) {
        let is_away = match answer {
            Err(error) => error.kind() == ErrorKind::Unavailable,
            Ok(answer) => {
                matches!(answer.status.as_u16(), 502..=504)
                    && error::of_status(answer).kind() == ErrorKind::Unavailable
            }
        };
        if is_away {
            self.contact().fail();
        }
        if let Ok(answer) = answer
            && answer.status.is_success()
            && self.contact().succeed()
        {
            let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(number, server = %answer.server, "the servers are back, maybe without what they had");
        }
    }

    fn contact(&self) -> MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of this one.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// The source that data of an era are of.
    pub(crate) fn source(number: u64) -> SourceId {
        SourceId::new(number.to_string())
    }
}
