//! From what Nacos answers to an error kind.
//!
//! v1 says it by the HTTP status and a text, v2 and v3 by a code in the body too, whatever the status is.
//! Source: alibaba/nacos `ErrorCode`, `NacosException`; read on 2.5.0 and 3.1.0.

use http::{
    HeaderName, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER},
};
use registry_core::{Error, ErrorKind};

use super::answer::{self, Refused};
use crate::http::{Answer, said, status_error};

/// What the server calls a registration into a service of the other kind.
const WRONG_KIND: &[&str] = &["can't register ephemeral instance", "can't register persistent instance"];
/// What a server answers while it isn't ready.
const NOT_READY: &[&str] = &["server is STARTING", "server is DOWN"];

/// How servers of the first API begin to say, with 404 and in plain text, that they don't know what they were asked
/// for. Its name follows, without which it may be somebody else's who knows no upstream.
const UNKNOWN: &[&str] =
    &["dom not found: ", "service not found: ", "instance not found: ", "no ips found for cluster "];
/// Likewise, and nobody else says it so.
const UNKNOWN_SERVICE: &str = "service not found, namespace: ";
/// What such a text may stand in: the servers' own wrapping of exceptions.
const WRAPPINGS: [&str; 2] = ["caused: ", "errCode: 404, errMsg: "];

/// The error of an answer whose status is no success.
pub(crate) fn of_status(answer: &Answer) -> Error {
    let text = String::from_utf8_lossy(&answer.body[..answer.body.len().min(2048)]);
    let says = |texts: &[&str]| texts.iter().any(|one| text.contains(one));
    if says(WRONG_KIND) {
        return wrong_kind(&text);
    }
    if says(NOT_READY) {
        return Error::new(
            ErrorKind::Unavailable,
            format!("{} is not ready: {}", answer.server, said(&text)),
        );
    }
    let code = answer::wrapped(&text).ok().and_then(|wrapped| wrapped.code);
    if answer.status == StatusCode::SERVICE_UNAVAILABLE && !asks_for_less(answer) {
        let message = format!("{} answered {}: {}", answer.server, answer.status, said(&text));
        return Error::new(ErrorKind::Unavailable, message);
    }
    match code.map(kind_of_code) {
        Some(kind) if kind != ErrorKind::Unavailable => {
            Error::new(kind, format!("{} answered {}: {}", answer.server, answer.status, said(&text)))
        }
        _ => status_error(answer),
    }
}

/// Whether a 503 is about load: it says for how long, or it is of Nacos' own control of load (`NacosHttpTpsFilter`), known
/// by these headers. Any other is what proxies say while nobody is there: an outage, after which all should be back soon.
fn asks_for_less(answer: &Answer) -> bool {
    let says = |name: HeaderName, value: &str| {
        answer
            .headers
            .get(name)
            .is_some_and(|said| said.as_bytes().iter().filter(|byte| **byte != b' ').eq(value.as_bytes()))
    };
    let is_own = || says(PRAGMA, "no-cache") && says(CACHE_CONTROL, "no-cache,no-store");
    // A date is a wish too, if one that isn't understood.
    answer.headers.contains_key(RETRY_AFTER) || is_own()
}

/// The error of a refusal within an answer whose status was a success.
pub(crate) fn of_refusal(refused: &Refused) -> Error {
    if WRONG_KIND.iter().any(|text| refused.message.contains(text)) {
        return wrong_kind(&refused.message);
    }
    Error::new(kind_of_code(refused.code), format!("refused with code {}: {}", refused.code, refused.message))
}

/// Ours to mend: a service holds either ephemeral or persistent instances, whichever came first.
fn wrong_kind(text: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "the service holds the other kind of instances; set option \"ephemeral\" accordingly: {}",
            said(text)
        ),
    )
}

/// Of Nacos' own codes. 404 and 503 are none of them, but what others make of HTTP's.
pub(crate) fn kind_of_code(code: i64) -> ErrorKind {
    match code {
        403 | 10001 => ErrorKind::PermissionDenied,
        401 => ErrorKind::Unauthenticated,
        20004 | 21003 | 21008 | 22001 => ErrorKind::NotFound,
        409 | 20005 | 21007 => ErrorKind::Conflict,
        400 | 10000 | 20002 | 21000..=21002 | 22000 => ErrorKind::InvalidArgument,
        20404 => ErrorKind::LeaseLost,
        _ => ErrorKind::Unavailable,
    }
}

/// Whether the server may have no such API, or no longer; or not what was [asked for](is_unknown).
pub(crate) fn is_gone(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND
            | StatusCode::GONE
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
    )
}

/// Whether what was asked for isn't there, said by a server that has the API: by a code of its own, or, in v1, by a text
/// that names the `service`. What is in front of servers speaks of its own paths and upstreams.
pub(crate) fn is_unknown(answer: &Answer, service: &str) -> bool {
    let Ok(text) = answer::text(&answer.body) else { return false };
    match answer::wrapped(text).ok().and_then(|wrapped| wrapped.code) {
        Some(code) => matches!(kind_of_code(code), ErrorKind::NotFound | ErrorKind::LeaseLost),
        None => answer.status == StatusCode::NOT_FOUND && is_plain(answer) && names(text, service),
    }
}

fn is_plain(answer: &Answer) -> bool {
    let kind = answer.headers.get(CONTENT_TYPE);
    kind.is_none_or(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/plain"))
}

fn names(text: &str, service: &str) -> bool {
    let text =
        WRAPPINGS.iter().fold(text.trim(), |text, wrapping| text.strip_prefix(wrapping).unwrap_or(text));
    let is_about_it = UNKNOWN.iter().any(|start| text.starts_with(start)) && text.contains(service);
    is_about_it || text.starts_with(UNKNOWN_SERVICE)
}

/// Whether the caller wasn't let in.
pub(crate) fn is_unwelcome(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}
