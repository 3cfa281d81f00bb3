//! From what Nacos answers to an error kind.
//!
//! v1 says it by the HTTP status and a text, v2 and v3 by a code in the body too, whatever the status is.
//! Source: alibaba/nacos `ErrorCode`, `NacosException`; read on 2.5.0 and 3.1.0.

use http::StatusCode;
use registry_core::{Error, ErrorKind};

use super::answer::{self, Refused};
use crate::http::{Answer, said, status_error};

/// What the server calls a registration into a service of the other kind.
const WRONG_KIND: &[&str] = &["can't register ephemeral instance", "can't register persistent instance"];
/// What a server answers while it isn't ready.
const NOT_READY: &[&str] = &["server is STARTING", "server is DOWN"];

/// What servers of the first API call a service or an instance that they don't know.
const UNKNOWN: &[&str] = &["service not found", "dom not found", "instance not found", "no ips found"];

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
    match code.map(kind_of_code) {
        Some(kind) if kind != ErrorKind::Unavailable => {
            Error::new(kind, format!("{} answered {}: {}", answer.server, answer.status, said(&text)))
        }
        _ => status_error(answer),
    }
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

pub(crate) fn kind_of_code(code: i64) -> ErrorKind {
    match code {
        403 | 10001 => ErrorKind::PermissionDenied,
        401 => ErrorKind::Unauthenticated,
        404 | 20004 | 21003 | 21008 | 22001 => ErrorKind::NotFound,
        409 | 20005 | 21007 => ErrorKind::Conflict,
        400 | 10000 | 20002 | 21000..=21002 | 22000 => ErrorKind::InvalidArgument,
        503 => ErrorKind::RateLimited,
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

/// Whether what was asked for isn't there, said by a server that has the API.
pub(crate) fn is_unknown(answer: &Answer) -> bool {
    let Ok(text) = answer::text(&answer.body) else { return false };
    match answer::wrapped(text).ok().and_then(|wrapped| wrapped.code) {
        // What is in front of servers may speak of its paths so.
        Some(404) => false,
        Some(code) => matches!(kind_of_code(code), ErrorKind::NotFound | ErrorKind::LeaseLost),
        None => answer.status == StatusCode::NOT_FOUND && UNKNOWN.iter().any(|phrase| text.contains(phrase)),
    }
}

/// Whether the caller wasn't let in.
pub(crate) fn is_unwelcome(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}
