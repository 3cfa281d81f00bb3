//! How a request to a picked instance ended.

use std::time::Duration;

/// How a request to a picked instance ended, as far as that tells about the *instance*.
///
/// An answer that is the caller's own fault (not found, invalid, forbidden) is a success here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    failure: Option<Failure>,
    latency: Option<Duration>,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// No connection: refused, reset while connecting, unreachable. Removes an instance at once that the
    /// registry's list no longer has.
    Connect,
    /// No answer in time.
    Timeout,
    /// The instance answered that it is broken or unavailable (5xx, `Internal`, `Unavailable`).
    Server,
    /// The instance asked for less (429, `ResourceExhausted`).
    Throttled,
}

impl Outcome {
    /// The instance answered.
    pub const fn success() -> Self {
        Self { failure: None, latency: None }
    }

    /// The instance failed.
    pub const fn failure(failure: Failure) -> Self {
        Self { failure: Some(failure), latency: None }
    }

    /// Adds how long it took, from sending the request to the end of the answer.
    pub const fn took(mut self, latency: Duration) -> Self {
        self.latency = Some(latency);
        self
    }

    /// What failed, if anything did.
    #[must_use]
    pub const fn get_failure(&self) -> Option<Failure> {
        self.failure
    }

    /// How long it took, if the caller measured.
    #[must_use]
    pub const fn latency(&self) -> Option<Duration> {
        self.latency
    }
}
