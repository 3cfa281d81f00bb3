//! What errors of tonic's transport mean.

use std::error::Error as StdError;

use ::tonic::TimeoutExpired;
use http::{HeaderMap, request, response};
use registry_core::balance::Failure;

use crate::{BoxError, Classify, ClassifyGrpc, Idempotent, NotSent, Verdict, connect::Blameless};

/// The [rules for gRPC](ClassifyGrpc), which know tonic's errors besides.
///
/// | result | counts as | retried |
/// |---|---|---|
/// | the caller's deadline has passed | [`Failure::Timeout`] | never |
/// | the same, and the attempt had less than half of the time, or none | success: it had no chance | never |
/// | the connection's keepalive wasn't answered | [`Failure::Timeout`] | if marked [`Idempotent`] |
/// | anything else | as for [gRPC](ClassifyGrpc) | |
#[derive(Clone, Copy, Debug, Default)]
pub struct ClassifyTonic;

impl Classify for ClassifyTonic {
    fn response(&self, request: &request::Parts, response: &response::Parts) -> Verdict {
        ClassifyGrpc.response(request, response)
    }

    fn error(&self, request: &request::Parts, error: &BoxError) -> Verdict {
        if is_late(&**error) && !Blameless::is_in(&**error) {
            let failure = if NotSent::is_in(&**error) { Failure::Connect } else { Failure::Timeout };
            return Verdict::failed(failure);
        }
        if causes(&**error)
            .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
            .any(hyper::Error::is_timeout)
        {
            return Verdict::failed(Failure::Timeout).and_retry(Idempotent::is(request));
        }
        ClassifyGrpc.error(request, error)
    }

    fn trailers(&self, trailers: &HeaderMap) -> Option<Failure> {
        ClassifyGrpc.trailers(trailers)
    }
}

/// Whether the caller's deadline has passed.
pub(super) fn is_late(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<TimeoutExpired>())
}

/// Whether the server says that it has not processed the stream and won't: refused (RFC 9113, section 8.7), or above
/// the last stream of its GOAWAY (section 6.8). h2 gives the error of a GOAWAY to no other streams.
pub(super) fn is_refused(error: &(dyn StdError + 'static)) -> bool {
    causes(error).filter_map(|cause| cause.downcast_ref::<h2::Error>()).any(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// An error and what caused it.
pub(super) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
