//! From what Eureka answers to an error kind.
//!
//! | answer | kind |
//! |---|---|
//! | 403 on a full fetch or a delta: not ready yet | `Unavailable` |
//! | 404 on a full fetch or a registration, which Eureka never gives: a proxy's, or a wrong context | `Unavailable` |
//! | 404 on a beat: no error, the instance is lost | |
//! | JSON that isn't what it should be, XML, HTML | `Protocol` |
//! | everything else | by HTTP's own meaning, see [`status_error`] |

use std::{error::Error as StdError, fmt};

use registry_core::{Error, ErrorKind};

use crate::http::{Answer, Cause, status_error};

/// A reason as text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Why(pub(crate) &'static str);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Why {}

/// A 404 where Eureka has none to give. `NotFound` would be an answer about the data: that there are none.
pub(crate) fn misled(answer: &Answer, operation: &'static str) -> Error {
    let message = format!(
        "{} answered {}, as Eureka never does here; is the option context right?",
        answer.server, answer.status
    );
    Error::new(ErrorKind::Unavailable, message).with_context(super::NAME, operation)
}

/// A status that is no success.
pub(crate) fn refused(answer: &Answer, operation: &'static str) -> Error {
    status_error(answer).with_context(super::NAME, operation)
}

/// A server that is still waiting for its peers, or was told to give its clients nothing yet.
pub(crate) fn unready(answer: &Answer, operation: &'static str) -> Error {
    let message = format!("{} answered {}: it gives out no list yet", answer.server, answer.status);
    Error::new(ErrorKind::Unavailable, message).with_context(super::NAME, operation)
}

/// A body that makes no sense.
pub(crate) fn malformed(server: &str, operation: &'static str, why: impl StdError) -> Error {
    let cause = Cause(crate::http::said(&why.to_string()));
    Error::new(ErrorKind::Protocol, format!("the answer of {server} is malformed"))
        .with_source(cause)
        .with_context(super::NAME, operation)
}
