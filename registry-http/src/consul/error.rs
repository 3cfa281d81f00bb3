//! What Consul's answers mean, beyond their status.

use http::StatusCode;
use registry_core::{Error, ErrorKind};

use crate::http::{Answer, said, status_error};

/// The error of an answer that is no success.
pub(super) fn refusal(answer: &Answer, operation: &'static str) -> Error {
    let text = text(answer);
    let kind = match answer.status {
        // Unknown, expired or revoked: another token may do.
        StatusCode::FORBIDDEN if text.contains("ACL not found") => Some(ErrorKind::Unauthenticated),
        StatusCode::INTERNAL_SERVER_ERROR if text.contains("ACL not found") => {
            Some(ErrorKind::Unauthenticated)
        }
        StatusCode::INTERNAL_SERVER_ERROR if text.contains("Permission denied") => {
            Some(ErrorKind::PermissionDenied)
        }
        StatusCode::INTERNAL_SERVER_ERROR if text.contains("rate limit") => Some(ErrorKind::RateLimited),
        StatusCode::METHOD_NOT_ALLOWED => Some(ErrorKind::InvalidArgument),
        // Consul knows every path that is asked: this is of somebody in front of it, who says nothing about the registry.
        StatusCode::NOT_FOUND if !is_of_consul(&text) => Some(ErrorKind::Protocol),
        _ => None,
    };
    let error = match kind {
        Some(kind) => Error::new(kind, format!("{} answered {}: {text}", answer.server, answer.status)),
        None => status_error(answer),
    };
    error.with_context(super::NAME, operation)
}

/// Whether the answer says that a service is unknown.
pub(super) fn is_unknown_service(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND && text(answer).contains("nknown service")
}

/// Whether a 404 is about what was asked for.
fn is_of_consul(text: &str) -> bool {
    ["Query not found", "nknown service", "nknown check"].iter().any(|known| text.contains(known))
}

/// Whether the answer says that a check is unknown; older agents say so by a 500. A 404 without these words is of somebody
/// in front of it.
pub(super) fn is_unknown_check(answer: &Answer) -> bool {
    let text = text(answer);
    match answer.status {
        StatusCode::NOT_FOUND => text.contains("nknown check"),
        StatusCode::INTERNAL_SERVER_ERROR => {
            text.contains("does not have associated TTL") || text.contains("nknown check")
        }
        _ => false,
    }
}

/// Whether the answer says that no server leads the others, so that only stale reads go on.
pub(super) fn is_leaderless(answer: &Answer) -> bool {
    text(answer).contains("No cluster leader")
}

/// Whether the token was refused as such.
pub(super) fn is_bad_token(answer: &Answer) -> bool {
    answer.status == StatusCode::UNAUTHORIZED
        || text(answer).contains("ACL not found") && !answer.status.is_success()
}

/// An answer that can't be understood.
pub(super) fn protocol(answer: &Answer, operation: &'static str, why: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("{} answered what is {why}", answer.server))
        .with_context(super::NAME, operation)
}

fn text(answer: &Answer) -> String {
    said(&String::from_utf8_lossy(&answer.body[..answer.body.len().min(1200)]))
}
