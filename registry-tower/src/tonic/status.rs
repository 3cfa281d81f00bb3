//! From a call that failed to the status its caller sees.

use std::{error::Error as StdError, sync::Arc};

use ::tonic::{Code, Status};
use registry_core::CallError;

use super::rules::{causes, is_late};
use crate::ServiceError;

/// `UNAVAILABLE`, as whatever failed here failed on the way; `DEADLINE_EXCEEDED` if the caller's time is over; and a
/// status that somebody on the way made is left as it is. Says who was tried, and why that failed.
pub(super) fn status_of(error: ServiceError) -> Status {
    let code = match &error {
        CallError::NoInstance(_) => Code::Unavailable,
        error if error.is_timeout() || is_late(error) => Code::DeadlineExceeded,
        error => causes(error)
            .find_map(|cause| cause.downcast_ref::<Status>())
            .map_or(Code::Unavailable, Status::code),
    };
    let mut message = error.to_string();
    for cause in causes(&error).skip(1) {
        message.push_str(": ");
        message.push_str(&cause.to_string());
    }
    let mut status = Status::new(code, message);
    let source: Arc<dyn StdError + Send + Sync> = Arc::new(error);
    status.set_source(source);
    status
}
