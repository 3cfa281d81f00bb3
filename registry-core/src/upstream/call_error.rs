//! How a call fails for good.

use std::{error::Error as StdError, fmt, sync::Arc};

use crate::{Error, model::Instance};

/// Why a [`call`](super::Upstream::call) failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CallError<E> {
    /// There was no instance to try.
    NoInstance(Error),
    /// The closure said that trying another instance is of no use.
    #[non_exhaustive]
    Stopped {
        /// Where it happened.
        instance: Arc<Instance>,
        /// What the closure returned.
        cause: E,
    },
    /// No attempt worked, and no more were allowed.
    #[non_exhaustive]
    Exhausted {
        /// Each attempt in order; at least one.
        attempts: Vec<(Arc<Instance>, E)>,
    },
}

impl<E> CallError<E> {
    /// The closure's last error; `None` if it was never called.
    pub fn into_cause(self) -> Option<E> {
        match self {
            Self::NoInstance(_) => None,
            Self::Stopped { cause, .. } => Some(cause),
            Self::Exhausted { mut attempts } => attempts.pop().map(|(_, cause)| cause),
        }
    }

    /// The closure's last error; `None` if it was never called.
    pub fn cause(&self) -> Option<&E> {
        match self {
            Self::NoInstance(_) => None,
            Self::Stopped { cause, .. } => Some(cause),
            Self::Exhausted { attempts } => attempts.last().map(|(_, cause)| cause),
        }
    }
}

impl<E> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInstance(error) => error.fmt(f),
            Self::Stopped { instance, .. } => write!(f, "the call to {} failed", instance.key()),
            Self::Exhausted { attempts } => {
                write!(f, "{} attempts failed, on", attempts.len())?;
                for (at, (instance, _)) in attempts.iter().enumerate() {
                    write!(f, "{} {}", if at == 0 { "" } else { "," }, instance.key())?;
                }
                Ok(())
            }
        }
    }
}

impl<E: StdError + 'static> StdError for CallError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            // Its message is this error's own message.
            Self::NoInstance(error) => error.source(),
            Self::Stopped { .. } | Self::Exhausted { .. } => self.cause().map(|cause| cause as _),
        }
    }
}
