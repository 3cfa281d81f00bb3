//! How a request to a picked instance ended.

use std::time::Duration;

/// How a request to a picked instance ended, as far as that tells about the *instance*.
///
/// An answer that is the caller's own fault (not found, invalid, forbidden) is a success here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Outcome {
    failure: Option<Failure>,
    time: Time,
}

/// What is known of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    /// The caller didn't measure: it took as long as the pick.
    OfThePick,
    Took(Duration),
    SaysNothing,
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
        Self { failure: None, time: Time::OfThePick }
    }

    /// The instance failed.
    pub const fn failure(failure: Failure) -> Self {
        Self { failure: Some(failure), time: Time::OfThePick }
    }

    /// Adds how long it took, from sending the request to the end of the answer. Without it, policies that learn from the
    /// time take that since the pick.
    pub const fn took(mut self, latency: Duration) -> Self {
        self.time = Time::Took(latency);
        self
    }

    /// How long it took says nothing of the instance: the caller didn't want the whole answer, or was itself what took so
    /// long.
    pub const fn untimed(mut self) -> Self {
        self.time = Time::SaysNothing;
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
        match self.time {
            Time::Took(latency) => Some(latency),
            Time::OfThePick | Time::SaysNothing => None,
        }
    }

    /// Whether the time says nothing of the instance, neither the one that was measured nor the one since the pick.
    #[must_use]
    pub const fn is_untimed(&self) -> bool {
        matches!(self.time, Time::SaysNothing)
    }
}
