//! How a call fails for good: what was tried where, and what became of it.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use super::unusable::NoneUsable;
use crate::{
    Error,
    model::{Instance, Status},
};

/// Why a [`call`](super::Upstream::call) failed.
///
/// Displayed on one line that names every instance that was tried, and what it answered: but for the last answer, which
/// is the [`source`](StdError::source). `{:#}` has that too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CallError<E> {
    /// There was no instance to try: none is known, nothing is known yet, or the view is too old.
    NoInstance(Error),
    /// Instances are known, but none that serves, and the caller wanted
    /// [no other](super::CallOptions::usable_only).
    NoneUsable(NoneUsable),
    /// The closure said that trying another instance is of no use.
    #[non_exhaustive]
    Stopped {
        /// Where it happened.
        instance: Arc<Instance>,
        /// What the closure returned.
        cause: E,
        /// The attempts that failed before, or [beside it](super::Attempt::unless_another_answers).
        earlier: Vec<FailedAttempt<E>>,
    },
    /// No answer in time, and the call may not be repeated.
    #[non_exhaustive]
    TimedOut {
        /// Which time was over.
        limit: TimeLimit,
        /// Each attempt in order of its end; none if the time was spent waiting for an instance.
        attempts: Vec<FailedAttempt<E>>,
    },
    /// No attempt worked, and no more were allowed.
    #[non_exhaustive]
    Exhausted {
        /// Each attempt in order of its end; at least one.
        attempts: Vec<FailedAttempt<E>>,
        /// What allowed no more.
        because: Exhaustion,
    },
}

/// One attempt of a call that failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedAttempt<E> {
    /// Where it was made.
    pub instance: Arc<Instance>,
    /// What became of it.
    pub cause: AttemptCause<E>,
    /// From the call of the closure to the end.
    pub latency: Duration,
}

/// What became of an attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptCause<E> {
    /// The closure's future ended with this.
    Failed(E),
    /// It hadn't ended when its time was over, and was dropped.
    TimedOut,
}

/// The time that a call ran out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeLimit {
    /// [`per_try_timeout`](super::CallOptions::per_try_timeout), for a call that isn't
    /// [`idempotent`](super::CallOptions::idempotent).
    Attempt(Duration),
    /// [`timeout`](super::CallOptions::timeout).
    Call(Duration),
}

/// Why a call made no more attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exhaustion {
    /// All the attempts that one call may make were made.
    Attempts,
    /// The upstream's retry budget was spent.
    Budget,
    /// No instance was left.
    Instances,
    /// The view has become too old to pick from since the call began.
    Expired,
}

impl<E> CallError<E> {
    /// The closure's last error; `None` if it never returned one.
    pub fn into_cause(self) -> Option<E> {
        match self {
            Self::NoInstance(_) | Self::NoneUsable(_) => None,
            Self::Stopped { cause, .. } => Some(cause),
            Self::TimedOut { attempts, .. } | Self::Exhausted { attempts, .. } => {
                attempts.into_iter().rev().find_map(|attempt| match attempt.cause {
                    AttemptCause::Failed(cause) => Some(cause),
                    AttemptCause::TimedOut => None,
                })
            }
        }
    }

    /// The closure's last error; `None` if it never returned one.
    pub fn cause(&self) -> Option<&E> {
        match self {
            Self::NoInstance(_) | Self::NoneUsable(_) => None,
            Self::Stopped { cause, .. } => Some(cause),
            Self::TimedOut { attempts, .. } | Self::Exhausted { attempts, .. } => {
                attempts.iter().rev().find_map(FailedAttempt::error)
            }
        }
    }

    /// Whether time ran out: that of the call, or that of its last attempt.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::NoInstance(_) | Self::NoneUsable(_) | Self::Stopped { .. } => false,
            Self::TimedOut { .. } => true,
            Self::Exhausted { attempts, .. } => attempts.last().is_some_and(FailedAttempt::is_timeout),
        }
    }

    /// The attempts that ended before the call did, in order of their end; a [`Stopped`](Self::Stopped) call's
    /// last one isn't among them.
    #[must_use]
    pub fn attempts(&self) -> &[FailedAttempt<E>] {
        match self {
            Self::NoInstance(_) | Self::NoneUsable(_) => &[],
            Self::Stopped { earlier, .. } => earlier,
            Self::TimedOut { attempts, .. } | Self::Exhausted { attempts, .. } => attempts,
        }
    }

    /// What became of the call, for counting.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::NoInstance(_) => "no_instance",
            Self::NoneUsable(_) => "none_usable",
            Self::Stopped { .. } => "stopped",
            Self::TimedOut { .. } => "timed_out",
            Self::Exhausted { .. } => "exhausted",
        }
    }

    /// The error that [`source`](StdError::source) returns, so that no line need repeat it.
    fn last(&self) -> Option<&E> {
        match self {
            Self::NoInstance(_) | Self::NoneUsable(_) => None,
            Self::Stopped { cause, .. } => Some(cause),
            Self::TimedOut { attempts, .. } | Self::Exhausted { attempts, .. } => {
                attempts.last().and_then(FailedAttempt::error)
            }
        }
    }
}

impl<E> FailedAttempt<E> {
    /// Whether its time was over.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.cause, AttemptCause::TimedOut)
    }

    /// What the closure returned, unless it was dropped before.
    pub fn error(&self) -> Option<&E> {
        match &self.cause {
            AttemptCause::Failed(error) => Some(error),
            AttemptCause::TimedOut => None,
        }
    }
}

impl<E: fmt::Display> fmt::Display for FailedAttempt<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_attempt(f, self)?;
        match self.error() {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempt(limit) => {
                write!(f, "no answer within {limit:?} to a request that may not be repeated")
            }
            Self::Call(limit) => write!(f, "the call was not over within {limit:?}"),
        }
    }
}

impl fmt::Display for Exhaustion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attempts => "no more are allowed",
            Self::Budget => "the retry budget is spent",
            Self::Instances => "no other instance is left",
            Self::Expired => "the view is too old to pick from",
        })
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInstance(error) => error.fmt(f)?,
            Self::NoneUsable(none) => none.fmt(f)?,
            Self::Stopped { instance, earlier, .. } => {
                write!(f, "the call to {} failed", instance.key())?;
                if !earlier.is_empty() {
                    f.write_str(", after ")?;
                    write_attempts(f, earlier, earlier.len())?;
                }
            }
            Self::TimedOut { limit, attempts } => {
                write!(f, "{limit}")?;
                if !attempts.is_empty() {
                    f.write_str("; tried ")?;
                    write_attempts(f, attempts, attempts.len() - 1)?;
                }
            }
            Self::Exhausted { attempts, because } => {
                let s = if attempts.len() == 1 { "" } else { "s" };
                write!(f, "{} attempt{s} failed and {because}; tried ", attempts.len())?;
                write_attempts(f, attempts, attempts.len().saturating_sub(1))?;
            }
        }
        match self.last() {
            Some(cause) if f.alternate() => write!(f, ": {cause:#}"),
            _ => Ok(()),
        }
    }
}

/// Lists attempts, the first `told` of them with what they returned.
fn write_attempts<E: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    attempts: &[FailedAttempt<E>],
    told: usize,
) -> fmt::Result {
    for (at, attempt) in attempts.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        write_attempt(f, attempt)?;
        if let (true, Some(error)) = (at < told, attempt.error()) {
            write!(f, " ({error})")?;
        }
    }
    Ok(())
}

fn write_attempt<E>(f: &mut fmt::Formatter<'_>, attempt: &FailedAttempt<E>) -> fmt::Result {
    write!(f, "{}", attempt.instance.key())?;
    match attempt.instance.status() {
        Status::Serving => {}
        Status::Starting => f.write_str(", which is starting,")?,
        Status::Draining => f.write_str(", which is draining,")?,
        Status::Down => f.write_str(", which is down,")?,
    }
    let latency = rounded(attempt.latency);
    match attempt.cause {
        AttemptCause::TimedOut => write!(f, " without an answer in {latency:?}"),
        AttemptCause::Failed(_) => write!(f, " in {latency:?}"),
    }
}

/// Three digits are enough for a reader.
fn rounded(latency: Duration) -> Duration {
    let nanos = latency.as_nanos() as u64;
    let unit = 10_u64.pow(nanos.checked_ilog10().unwrap_or(0).saturating_sub(2));
    Duration::from_nanos(nanos / unit * unit)
}

impl<E: StdError + 'static> StdError for CallError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // Its message is this error's own message.
            Self::NoInstance(error) => error.source(),
            Self::NoneUsable(none) => none.source(),
            Self::Stopped { .. } | Self::TimedOut { .. } | Self::Exhausted { .. } => {
                self.last().map(|cause| cause as _)
            }
        }
    }
}
