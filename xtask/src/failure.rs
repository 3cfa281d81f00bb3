//! The one error of the task runner: what went wrong, said to a human.

use std::fmt;
use std::io;
use std::path::Path;

/// The result of a task.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// What went wrong and, where there is something to do about it, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure with this message.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// A failed access to a file or directory.
    pub(crate) fn file(what: &str, path: &Path, error: &io::Error) -> Self {
        Self(format!("{what} {}: {error}", path.display()))
    }

    /// One failure out of many findings; `None` if there are none.
    pub(crate) fn list(headline: &str, findings: &[String]) -> Option<Self> {
        match findings {
            [] => None,
            [one] => Some(Self(format!("{headline}: {one}"))),
            many => Some(Self(format!("{headline}:\n  - {}", many.join("\n  - ")))),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
