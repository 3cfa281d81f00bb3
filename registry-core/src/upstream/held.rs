//! An answer that has begun and isn't over.

use tokio::time::Instant;

use super::Picked;
use crate::balance::{Failure, Outcome};

/// What a [`call_held`](super::Upstream::call_held) returned, and the pick it came from, still open.
///
/// Dropping it ends the pick without a verdict.
#[derive(Debug)]
#[must_use = "the pick ends when this is dropped"]
pub struct Held<T> {
    answer: T,
    open: OpenPick,
}

/// A pick that waits for the end of its answer, and when its attempt began.
///
/// Dropping it ends the pick without a verdict.
#[derive(Debug)]
#[must_use = "the pick ends when this is dropped"]
pub struct OpenPick {
    picked: Picked,
    began: Instant,
}

impl<T> Held<T> {
    pub(in crate::upstream) fn new(answer: T, picked: Picked, began: Instant) -> Self {
        Self { answer, open: OpenPick { picked, began } }
    }

    /// Ends the pick as a success, with the time it took until now.
    pub fn finish(self) -> T {
        self.open.succeed();
        self.answer
    }

    /// The answer, and the pick to end when the answer does. If it may be a long stream and has begun well, say
    /// [`Picked::answered`] of it.
    pub fn into_parts(self) -> (T, OpenPick) {
        (self.answer, self.open)
    }
}

impl OpenPick {
    /// A pick whose attempt begins now: for who picks by hand.
    pub fn begin(picked: Picked) -> Self {
        Self { picked, began: Instant::now() }
    }

    /// The picked instance.
    pub fn picked(&self) -> &Picked {
        &self.picked
    }

    /// Ends the pick as a success, with the time it took until now.
    pub fn succeed(self) {
        let latency = self.began.elapsed();
        self.picked.report(Outcome::success().took(latency));
    }

    /// Ends the pick as a failure, with the time it took until now.
    pub fn fail(self, failure: Failure) {
        let latency = self.began.elapsed();
        self.picked.report(Outcome::failure(failure).took(latency));
    }

    /// Ends the pick as a success whose time says nothing: the caller did not want the whole answer.
    pub fn cut_off(self) {
        self.picked.report(Outcome::success().untimed());
    }
}
