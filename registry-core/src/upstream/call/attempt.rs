//! What the caller's closure says of one attempt that failed.

use crate::balance::Failure;

/// One failed attempt, as the closure of a [`call`](crate::Upstream::call) returns it: what went wrong, and whether
/// to try another instance.
///
/// Retry when the request certainly wasn't processed (no connection), or when it may be processed twice.
///
/// ```
/// use registry_core::{Attempt, balance::Failure};
///
/// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
/// let again: Attempt<_> = Attempt::retry(refused);
/// let slow: Attempt<_> = Attempt::retry("no answer in 2 s").because(Failure::Timeout);
/// let never: Attempt<_> = Attempt::stop("400: the order has no lines");
/// let mine: Attempt<_> = Attempt::retry("no endpoint that this connector can use").blaming_nobody();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Attempt<E> {
    pub(super) cause: E,
    pub(super) retry: bool,
    pub(super) blame: Blame,
    pub(super) yields: bool,
}

/// What a failed attempt says of its instance.
#[derive(Clone, Copy, Debug)]
pub(super) enum Blame {
    It(Failure),
    /// Nothing, though the request may have been there.
    Unclear,
    /// Nothing: no request was sent.
    Nobody,
}

impl<E> Attempt<E> {
    /// Try another instance. Reported as [`Failure::Connect`] unless [`because`](Self::because) or
    /// [`blaming_nobody`](Self::blaming_nobody) says otherwise.
    pub fn retry(cause: E) -> Self {
        Self { cause, retry: true, blame: Blame::It(Failure::Connect), yields: false }
    }

    /// Give up. Nothing is reported about the instance unless [`because`](Self::because) blames it.
    pub fn stop(cause: E) -> Self {
        Self { cause, retry: false, blame: Blame::Unclear, yields: false }
    }

    /// What failed on the instance's side.
    pub fn because(mut self, failure: Failure) -> Self {
        self.blame = Blame::It(failure);
        self
    }

    /// A [`stop`](Self::stop) that leaves the other attempts in flight, which there are only with
    /// [hedges](crate::CallOptions::hedge_after), their chance: no further one is made, and the call stops with this
    /// one's cause if none of them is answered. A [`retry`](Self::retry) leaves it to them anyway.
    pub fn unless_another_answers(mut self) -> Self {
        self.yields = true;
        self
    }

    /// The instance got no request, for a reason that is the caller's own: no endpoint of a scheme that the connector
    /// has, a certificate of the caller's that can't be read. Nothing is reported; if this was the one request that
    /// tries an [ejected](crate::Ejection) instance, a later pick does, as if this one had never been.
    pub fn blaming_nobody(mut self) -> Self {
        self.blame = Blame::Nobody;
        self
    }
}
