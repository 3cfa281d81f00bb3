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
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Attempt<E> {
    pub(super) cause: E,
    pub(super) retry: bool,
    pub(super) failure: Option<Failure>,
}

impl<E> Attempt<E> {
    /// Try another instance. Reported as [`Failure::Connect`] unless [`because`](Self::because) says
    /// otherwise.
    pub fn retry(cause: E) -> Self {
        Self { cause, retry: true, failure: Some(Failure::Connect) }
    }

    /// Give up. Nothing is reported about the instance unless [`because`](Self::because) blames it.
    pub fn stop(cause: E) -> Self {
        Self { cause, retry: false, failure: None }
    }

    /// What failed on the instance's side.
    pub fn because(mut self, failure: Failure) -> Self {
        self.failure = Some(failure);
        self
    }
}
