//! From what Eureka answers to an error kind.
//!
//! | answer | kind |
//! |---|---|
//! | 403 on a list, of one application or of all: not ready yet | `Unavailable`, once another server was asked, for 15 min |
//! | 403 with `WWW-Authenticate` or with somebody else's words, on anything but a list, or on that too | `PermissionDenied` |
//! | 403 and 404 on a delta: it offers none, or isn't ready | no error: the list is fetched |
//! | 404 on a full fetch or a registration, which Eureka never gives: a proxy's, or a wrong context | `Unavailable` |
//! | 404 on a beat, a removal or a look, of a server that has lists and says so again: no error, the instance is lost | |
//! | 404 on these of somebody who has no lists, or who shows the instance: see `absence.rs` | `Unavailable` |
//! | JSON that isn't what it should be, XML, HTML | `Protocol` |
//! | everything else | by HTTP's own meaning, see [`status_error`] |
//!
//! A server that has just started refuses all lists (`apps/`, `apps/{APP}`, `vips/{vip}`) with 403 until a peer gave it
//! its registrations, or for 5 min (`wait-time-in-ms-when-sync-empty`). It adds neither header nor body, so what comes
//! is nothing at all or what its container makes of a bare status: Spring Boot a JSON with `status` and `path`, Tomcat
//! its page "HTTP Status 403". Whoever guards the server, a proxy or a rule of Spring Security, says more, or the same. So
//! who refused a list in these words is asked for a single instance (`apps/{APP}/{id}`), of which a server that waits
//! for its peers says 404. One that refuses that too refuses us. One that refuses lists alone counts as one that waits,
//! for longer than any does.

use std::{error::Error as StdError, fmt};

use http::{StatusCode, header::WWW_AUTHENTICATE};
use registry_core::{Error, ErrorKind};
use serde::{Deserialize, de::IgnoredAny};

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

/// A 404 about an instance, of somebody who has no lists.
pub(crate) fn stranger(server: &str, operation: &'static str) -> Error {
    let message = format!("{server} knows neither the instance nor any list; is the option context right?");
    Error::new(ErrorKind::Unavailable, message).with_context(super::NAME, operation)
}

/// A 404 about an instance, of a server that shows it.
pub(crate) fn contradicted(server: &str, operation: &'static str) -> Error {
    let message = format!("{server} answered 404 about an instance that it shows");
    Error::new(ErrorKind::Unavailable, message).with_context(super::NAME, operation)
}

/// A status that is no success.
pub(crate) fn refused(answer: &Answer, operation: &'static str) -> Error {
    status_error(answer).with_context(super::NAME, operation)
}

/// Longest page of a container.
const PAGE: usize = 4096;

/// Whether an answer to the question for a list may only mean that the server is still waiting for its peers.
pub(crate) fn is_unready(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Spring {
        status: u16,
        #[serde(rename = "path")]
        _path: IgnoredAny,
    }
    if answer.status != StatusCode::FORBIDDEN || answer.headers.contains_key(WWW_AUTHENTICATE) {
        return false;
    }
    let body = answer.body.trim_ascii();
    let spring = || serde_json::from_slice(body).is_ok_and(|spring: Spring| spring.status == 403);
    let tomcat = || memchr::memmem::find(body, b"HTTP Status 403").is_some();
    body.is_empty() || (body.len() <= PAGE && (spring() || tomcat()))
}

/// A server that is still waiting for its peers, or was told to give its clients nothing yet.
pub(crate) fn unready(answer: &Answer, operation: &'static str) -> Error {
    let message =
        format!("{} answered {}: it gives out no list yet, or none to us", answer.server, answer.status);
    Error::new(ErrorKind::Unavailable, message).with_context(super::NAME, operation)
}

/// A body that makes no sense.
pub(crate) fn malformed(server: &str, operation: &'static str, why: impl StdError) -> Error {
    let cause = Cause(crate::http::said(&why.to_string()));
    Error::new(ErrorKind::Protocol, format!("the answer of {server} is malformed"))
        .with_source(cause)
        .with_context(super::NAME, operation)
}
