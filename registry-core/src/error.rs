//! The one error of this project: opaque, cloneable, with a kind to branch on.
//!
//! | kind | class | flags |
//! |---|---|---|
//! | `NotReady` | transient | |
//! | `Timeout`, `Unavailable`, `Protocol` | transient | ambiguous |
//! | `RateLimited` | transient | throttled |
//! | `Unauthenticated` | auth | |
//! | `LeaseLost`, `NotFound`, `Conflict`, `Compacted`, `NoInstance` | data | |
//! | `PermissionDenied`, `InvalidArgument`, `Closed` | fatal | |

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

/// What went wrong, for whom, on which registry, and why.
///
/// Cloneable, as one failure reaches many watchers. The message says what was attempted on what; the cause is in
/// [`source`](StdError::source) only, and `{:#}` prints the whole chain. Which foreign type the cause has is not
/// promised. Secrets never appear.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    backend: Option<Cow<'static, str>>,
    operation: Option<&'static str>,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The kind of an [`Error`]: what callers branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client or the handle was closed or drained. The caller's doing; not retried.
    Closed,
    /// The watch can't resume: its history is gone. Nobody's fault; the core lists again.
    Compacted,
    /// Another owner holds the record, or a precondition failed. Decided by the duplicate policy, not retried.
    Conflict,
    /// A name, URL, option, weight, port or configuration is wrong. The caller's to mend; not retried.
    InvalidArgument,
    /// The registry no longer knows the lease. The core grants a new one and publishes again.
    LeaseLost,
    /// A pick found no instance it could use. Retry when the service has some.
    NoInstance,
    /// The named thing doesn't exist. An answer, not a fault.
    NotFound,
    /// The first view of a service hasn't arrived. The core keeps trying; wait with `ready`, or use a disk view.
    NotReady,
    /// The credential is valid but not allowed to do this. Mend the rights; retried every 60 s.
    PermissionDenied,
    /// The answer can't be understood. The registry's or a proxy's fault; retried like `Unavailable`.
    Protocol,
    /// The registry asks for less. Retried with a longer backoff that honours its wish.
    RateLimited,
    /// No answer in time; a write may have happened. Retried after reading back.
    Timeout,
    /// The credential is missing, wrong or expired. Refreshed once, then retried slowly.
    Unauthenticated,
    /// Not reachable, no leader, starting, overloaded. Retried for ever with backoff.
    Unavailable,
}

/// The reaction an [`ErrorKind`] calls for; after gRFC A88, errors of the first two classes never displace data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Passes by itself: retry with backoff.
    Transient,
    /// The credential was refused: refresh once, then retry slowly.
    Auth,
    /// The registry's answer about the data: act on it.
    Data,
    /// Won't pass by itself: visible state, slow retry.
    Fatal,
}

impl ErrorKind {
    /// The class; the one table that policy code reads.
    #[must_use]
    pub fn class(self) -> ErrorClass {
        match self {
            Self::Unavailable | Self::Timeout | Self::RateLimited | Self::Protocol | Self::NotReady => {
                ErrorClass::Transient
            }
            Self::Unauthenticated => ErrorClass::Auth,
            Self::LeaseLost | Self::NotFound | Self::Conflict | Self::Compacted | Self::NoInstance => {
                ErrorClass::Data
            }
            Self::PermissionDenied | Self::InvalidArgument | Self::Closed => ErrorClass::Fatal,
        }
    }

    /// Whether the registry asked for less.
    #[must_use]
    pub fn is_throttled(self) -> bool {
        self == Self::RateLimited
    }

    /// Whether the operation may have happened although it failed here.
    #[must_use]
    pub fn is_ambiguous(self) -> bool {
        matches!(self, Self::Timeout | Self::Unavailable | Self::Protocol)
    }
}

impl Error {
    /// An error of a kind with a message: lower case, no full stop, what was attempted on what.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            backend: None,
            operation: None,
            retry_after: None,
            source: None,
        }))
    }

    /// Shorthand for [`ErrorKind::InvalidArgument`].
    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.edit(|inner| inner.source = Some(Arc::new(source)))
    }

    /// Adds which backend answered (`etcd`, `memory`, …) and in which operation (`grant`, `watch`, …).
    #[must_use]
    pub fn with_context(self, backend: impl Into<Cow<'static, str>>, operation: &'static str) -> Self {
        self.edit(|inner| {
            inner.backend = Some(backend.into());
            inner.operation = Some(operation);
        })
    }

    /// Adds how long the registry asked to wait.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.edit(|inner| inner.retry_after = Some(after))
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again later can succeed without anybody mending anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.kind.class() == ErrorClass::Transient
    }

    /// The backend that failed, where known.
    #[must_use]
    pub fn backend(&self) -> Option<&str> {
        self.0.backend.as_deref()
    }

    /// The operation that failed, where known.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// How long the registry asked to wait, if it did.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.backend, self.0.operation) {
            (Some(backend), Some(operation)) => write!(f, "{backend} {operation}: {}", self.0.message)?,
            _ => f.write_str(&self.0.message)?,
        }
        if f.alternate() {
            let mut next = self.source();
            while let Some(cause) = next {
                write!(f, ": {cause}")?;
                next = cause.source();
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self:#})", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests;
